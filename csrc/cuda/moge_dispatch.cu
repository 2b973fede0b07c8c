// moge_dispatch: a counting sort of each group's slots, stable in token order. Few slots take one launch: every block
// owns some columns of one token and counts for itself which slots go before the token's own. More take four: blocks own
// chunks of a group's slots, count their experts, add the counts up and place the slots; then every block owns one token
// as before. A token is read once and written K times; a masked slot's owner clears the row at the end of its group.
#include "common/moge_dispatch.h"

#include "cuda/warp.h"

namespace pangu {
namespace {

constexpr int FEW_SLOTS = 1024;       // of a group: so many are counted by every block for itself
constexpr int COPY_THREADS = 256;
constexpr int COPY_SLOTS = 64;        // of a token, that it is copied to at once
constexpr int SORT_THREADS = 1024;
constexpr int64_t MAX_CHUNKS = 64;    // of a group, added up one after the other
constexpr int SHARED_KEYS = 1025;     // of a group: more counters stay in global memory

struct DispatchArguments {
  const void* x;
  const int32_t* expert_ids;
  void* rows;
  int32_t *slot_rows, *expert_offsets;
  int64_t num_tokens, num_experts;
  int num_slots, num_groups, group_slots, group_size, group_rows;  // group_slots: of a token
  int32_t *counts, *places;  // many slots: [G, chunks, E/G + 1], and [T, K] rows, as their complement where masked
  int chunks, chunk_slots;

  __device__ int64_t keys() const { return int64_t(group_size) + 1; }

  // Where the j-th of a group's slots, in the order of the tokens, lies in [T, K].
  __device__ int64_t slot(int group, unsigned j) const {
    return int64_t(j / group_slots) * num_slots + group * group_slots + j % group_slots;
  }

  // A slot's expert, counted from its group's first one; E/G where it is masked.
  __device__ int key(int group, int64_t slot) const {
    int64_t expert = expert_ids[slot] - int64_t(group) * group_size;
    return 0 <= expert && expert < group_size ? int(expert) : group_size;
  }

  __device__ int32_t first_row(int group) const { return int32_t(int64_t(group) * group_rows); }

  // Where a chunk ends that begins at a slot of its group.
  __device__ unsigned end_of(unsigned begin) const { return begin + min(unsigned(chunk_slots), group_rows - begin); }

  // The counters of one chunk of a group.
  __device__ int32_t* counts_of(int group, int chunk) const {
    return counts + (int64_t(group) * chunks + chunk) * keys();
  }
};

// Copy the block's columns of a token to `count` of its slots.
template <class Word>
__device__ __forceinline__ void copy(const DispatchArguments& args, int64_t row_words, const int32_t* places,
                                     int count) {
  const Word* from = static_cast<const Word*>(args.x) + blockIdx.x * row_words;
  for (int64_t i = blockIdx.y * blockDim.x + threadIdx.x; i < row_words; i += gridDim.y * blockDim.x) {
    Word value = from[i];
    for (int slot = 0; slot < count; slot++) {
      int32_t place = places[slot];
      static_cast<Word*>(args.rows)[int64_t(place < 0 ? ~place : place) * row_words + i] = place < 0 ? Word{} : value;
    }
  }
}

// The row of a slot: behind those of lower experts of its group, and of the same expert in earlier slots.
__device__ __forceinline__ int32_t count_place(const DispatchArguments& args, int64_t token, int slot) {
  int group = slot / args.group_slots, self = int(token) * args.group_slots + slot % args.group_slots, before = 0;
  int mine = args.key(group, token * args.num_slots + slot);
  for (int j = threadIdx.x % WARP; j < args.group_rows; j += WARP) {
    int other = args.key(group, args.slot(group, j));
    before += other < mine || (other == mine && j < self);
  }
  int32_t row = args.first_row(group) + __reduce_add_sync(ALL_LANES, before);
  return mine == args.group_size ? ~row : row;
}

template <class Word>
__global__ __launch_bounds__(COPY_THREADS) void dispatch_few(DispatchArguments args, int64_t row_words) {
  PANGU_SHARED(int32_t, places, COPY_SLOTS);
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  int64_t token = blockIdx.x;
  for (int first = 0; token < args.num_tokens && first < args.num_slots; first += COPY_SLOTS) {
    int count = min(COPY_SLOTS, args.num_slots - first);
    for (int i = warp; i < count; i += COPY_THREADS / WARP) {
      int32_t place = count_place(args, token, first + i);
      if (lane == 0) places[i] = place;
      if (lane == 0 && blockIdx.y == 0) args.slot_rows[token * args.num_slots + first + i] = max(place, -1);
    }
    __syncthreads();
    copy<Word>(args, row_words, places, count);
    __syncthreads();
  }
  if (blockIdx.y + 1 < gridDim.y) return;
  int64_t threads = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = token * blockDim.x + threadIdx.x; e <= args.num_experts; e += threads) {
    int group = int(unsigned(e) / args.group_size), expert = int(unsigned(e) % args.group_size), before = 0;
    if (e < args.num_experts)
      for (int j = 0; j < args.group_rows; j++) before += args.key(group, args.slot(group, j)) < expert;
    args.expert_offsets[e] = args.first_row(group) + before;
  }
}

// A block's counters, in shared memory where they fit in.
__device__ __forceinline__ int32_t* nearer(int32_t* in_shared, int32_t* in_global, int64_t keys) {
  return keys <= SHARED_KEYS ? in_shared : in_global;
}

// counts: how often each expert occurs in a chunk.
__global__ __launch_bounds__(SORT_THREADS) void count_experts(DispatchArguments args) {
  PANGU_SHARED(int32_t, in_shared, SHARED_KEYS);
  int group = blockIdx.x;
  unsigned begin = blockIdx.y * args.chunk_slots, end = args.end_of(begin);
  int32_t *in_global = args.counts_of(group, blockIdx.y), *counts = nearer(in_shared, in_global, args.keys());
  for (int64_t key = threadIdx.x; key < args.keys(); key += SORT_THREADS) counts[key] = 0;
  __syncthreads();
  for (unsigned j = begin + threadIdx.x; j < end; j += SORT_THREADS)
    atomicAdd(&counts[args.key(group, args.slot(group, j))], 1);
  __syncthreads();
  if (counts == in_global) return;
  for (int64_t key = threadIdx.x; key < args.keys(); key += SORT_THREADS) in_global[key] = counts[key];
}

__device__ __forceinline__ int32_t swap(int32_t& held, int32_t value) {
  int32_t was = held;
  held = value;
  return was;
}

// counts: from now on the first row of each expert in each chunk. A block owns a group, a thread every 1024th expert.
__global__ __launch_bounds__(SORT_THREADS) void add_up(DispatchArguments args) {
  PANGU_SHARED(int32_t, warp_sums, SORT_THREADS / WARP);
  int group = blockIdx.x, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  int32_t row = args.first_row(group);
  for (int64_t first = 0; first < args.keys(); first += SORT_THREADS) {
    int64_t key = first + threadIdx.x;
    int chunks = key < args.keys() ? args.chunks : 0;
    int32_t total = 0;
    for (int chunk = 0; chunk < chunks; chunk++) total += args.counts_of(group, chunk)[key];
    int32_t until = warp_prefix_sum(total);
    if (lane == WARP - 1) warp_sums[warp] = until;
    __syncthreads();
    int32_t sums = warp_prefix_sum(warp_sums[lane]), lower = __shfl_sync(ALL_LANES, sums, max(warp - 1, 0));
    int32_t next = row + until - total + (warp ? lower : 0);
    row += __shfl_sync(ALL_LANES, sums, WARP - 1);
    __syncthreads();
    if (key < args.group_size) args.expert_offsets[int64_t(group) * args.group_size + key] = next;
    for (int chunk = 0; chunk < chunks; chunk++) next += swap(args.counts_of(group, chunk)[key], next);
  }
  if (threadIdx.x == 0) args.expert_offsets[int64_t(group + 1) * args.group_size] = row;
}

// places: the row of each slot. The warps of a block take turns, so that slots stay in the order of the tokens.
__global__ __launch_bounds__(SORT_THREADS) void place_slots(DispatchArguments args) {
  PANGU_SHARED(int32_t, in_shared, SHARED_KEYS);
  int group = blockIdx.x, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  unsigned begin = blockIdx.y * args.chunk_slots, end = args.end_of(begin);
  int32_t *in_global = args.counts_of(group, blockIdx.y), *next = nearer(in_shared, in_global, args.keys());
  if (next != in_global)
    for (int64_t key = threadIdx.x; key < args.keys(); key += SORT_THREADS) next[key] = in_global[key];
  __syncthreads();
  for (unsigned tile = begin; tile < end; tile += SORT_THREADS) {
    unsigned j = tile + threadIdx.x;
    int64_t slot = args.slot(group, j);
    int key = j < end ? args.key(group, slot) : -1;
    unsigned equal = __match_any_sync(ALL_LANES, key);
    int earlier = __popc(equal & ((1u << lane) - 1));
    for (int turn = 0; turn < SORT_THREADS / WARP; turn++) {
      if (turn == warp) {
        int32_t row = key < 0 ? 0 : next[key] + earlier;
        __syncwarp();
        if (key >= 0 && earlier == 0) next[key] += __popc(equal);
        if (key >= 0) args.places[slot] = key == args.group_size ? ~row : row;
      }
      __syncthreads();
    }
  }
}

template <class Word>
__global__ __launch_bounds__(COPY_THREADS) void copy_tokens(DispatchArguments args, int64_t row_words) {
  PANGU_SHARED(int32_t, places, COPY_SLOTS);
  for (int first = 0; first < args.num_slots; first += COPY_SLOTS) {
    int count = min(COPY_SLOTS, args.num_slots - first);
    int64_t slot = int64_t(blockIdx.x) * args.num_slots + first + threadIdx.x;
    if (int(threadIdx.x) < count) {
      places[threadIdx.x] = args.places[slot];
      if (blockIdx.y == 0) args.slot_rows[slot] = max(args.places[slot], -1);
    }
    __syncthreads();
    copy<Word>(args, row_words, places, count);
    __syncthreads();
  }
}

template <class Word>
void launch_dispatch(const Device& device, const DispatchArguments& args, int64_t row_bytes) {
  int64_t row_words = row_bytes / sizeof(Word);
  // One token alone keeps one multiprocessor busy: its columns go to several.
  int64_t tokens = std::max<int64_t>(args.num_tokens, 1), most = (row_words + COPY_THREADS - 1) / COPY_THREADS;
  int64_t columns = std::max<int64_t>(1, std::min(most, 2 * device.multiprocessors() / tokens));
  Grid copy_grid{tokens, COPY_THREADS, columns};
  if (!args.counts) return device.launch(dispatch_few<Word>, copy_grid, args, row_words);
  Grid sort_grid{args.num_groups, SORT_THREADS, args.chunks};
  device.launch(count_experts, sort_grid, args);
  device.launch(add_up, Grid{args.num_groups, SORT_THREADS}, args);
  device.launch(place_slots, sort_grid, args);
  device.launch(copy_tokens<Word>, copy_grid, args, row_words);
}

std::tuple<Tensor, Tensor, Tensor> moge_dispatch(const Tensor& x, const Tensor& expert_ids, int64_t num_experts,
                                                 int64_t num_groups) {
  MogeDispatch op = moge_dispatch_prologue(x, expert_ids, num_experts, num_groups);
  DispatchArguments args{op.x.const_data_ptr(),
                         data<int32_t>(op.expert_ids),
                         op.rows.mutable_data_ptr(),
                         mutable_data<int32_t>(op.slot_rows),
                         mutable_data<int32_t>(op.expert_offsets),
                         op.num_tokens,
                         op.num_experts,
                         int(op.num_slots),
                         int(op.num_groups),
                         int(op.num_slots / op.num_groups),
                         int(op.num_experts / op.num_groups),
                         int(op.num_tokens * (op.num_slots / op.num_groups)),
                         nullptr,
                         nullptr,
                         0,
                         0};
  Device device("moge_dispatch", op.x);
  Tensor counts, places;
  if (args.group_rows > FEW_SLOTS) {
    int64_t tiles = (args.group_rows + int64_t(SORT_THREADS) - 1) / SORT_THREADS;
    args.chunk_slots = int((tiles + MAX_CHUNKS - 1) / MAX_CHUNKS * SORT_THREADS);
    args.chunks = int((args.group_rows + int64_t(args.chunk_slots) - 1) / args.chunk_slots);
    counts = empty_of(op.expert_ids, {args.chunks * (op.num_experts + op.num_groups)});
    places = empty_of(op.expert_ids, {op.num_tokens, op.num_slots});
    args.counts = mutable_data<int32_t>(counts);
    args.places = mutable_data<int32_t>(places);
  }
  int64_t row_bytes = op.hidden * int64_t(x.element_size());
  auto bits = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(args.rows) | uintptr_t(row_bytes);
  if (bits % 16 == 0)
    launch_dispatch<uint4>(device, args, row_bytes);
  else if (bits % 4 == 0)
    launch_dispatch<uint32_t>(device, args, row_bytes);
  else
    launch_dispatch<uint16_t>(device, args, row_bytes);
  return {op.rows, op.slot_rows, op.expert_offsets};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_CUDA_KEY, m) { m.impl("moge_dispatch", TORCH_BOX(&moge_dispatch)); }

}  // namespace pangu
