// moge_gating: every warp owns whole tokens, every lane every 32nd expert of a token. An expert's slot is the number of
// experts of its group that beat it: lanes count without waiting for one another.
#include "common/moge_gating.h"

#include "cuda/warp.h"

namespace pangu {
namespace {

constexpr int GATING_WARPS = 4;  // of a block, at most

struct GatingArguments {
  const void* logits;
  const float *correction_bias, *expert_scale;  // null where not given
  float* weights;
  int32_t* expert_ids;
  int64_t num_tokens;
  int num_experts, group_size, topk_per_group;
  bool softmax, renormalize;
  float scaling_factor;
};

// Scores of a lane's experts from their logits; a softmax row without a finite maximum gets 0.
template <int EXPERTS>
__device__ __forceinline__ void score(const float (&logits)[EXPERTS], float (&scores)[EXPERTS], bool softmax) {
  if (!softmax) {
#pragma unroll
    for (int i = 0; i < EXPERTS; i++) scores[i] = 1.0f / (1.0f + expf(-logits[i]));
    return;
  }
  float top = -INFINITY, total = 0;
#pragma unroll
  for (int i = 0; i < EXPERTS; i++) top = fmaxf(top, logits[i]);
  top = warp_max(top);
  bool finite = fabsf(top) < INFINITY;
#pragma unroll
  for (int i = 0; i < EXPERTS; i++) {
    scores[i] = finite ? expf(logits[i] - top) : 0.0f;
    total += scores[i];
  }
  float scale = finite ? 1.0f / warp_sum(total) : 0.0f;
#pragma unroll
  for (int i = 0; i < EXPERTS; i++) scores[i] *= scale;
}

// How many of the group's experts go before expert `id`: those of higher rank, and equal ones of lower id.
__device__ __forceinline__ int place(const float* ranks, int id, float rank, int group_size) {
  int first = id / group_size * group_size, better = 0;
  for (int other = first; other < first + group_size; other++) {
    float its = ranks[other];
    better += its > rank || (its == rank && other < id);
  }
  return better;
}

template <class T, int EXPERTS>  // of a lane
__global__ __launch_bounds__(GATING_WARPS * WARP) void gating(GatingArguments args) {
  PANGU_SHARED(float, block_ranks, GATING_WARPS * EXPERTS * WARP);
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int64_t token = int64_t(blockIdx.x) * (blockDim.x / WARP) + warp;
  if (token >= args.num_tokens) return;
  const T* row = static_cast<const T*>(args.logits) + token * args.num_experts;
  float* ranks = block_ranks + warp * EXPERTS * WARP;

  float logits[EXPERTS], scores[EXPERTS], rank[EXPERTS];
#pragma unroll
  for (int i = 0; i < EXPERTS; i++) {
    int id = i * WARP + lane;
    float logit = id < args.num_experts ? widen(row[id]) : -INFINITY;
    logits[i] = logit == logit ? logit : -INFINITY;
  }
  score(logits, scores, args.softmax);

  // Both score functions rise with the logit, so without a bias the logit itself ranks, free of rounding.
#pragma unroll
  for (int i = 0; i < EXPERTS; i++) {
    int id = i * WARP + lane;
    rank[i] = logits[i];
    if (args.correction_bias && id < args.num_experts && logits[i] != -INFINITY) {
      float biased = scores[i] + args.correction_bias[id];
      rank[i] = biased == biased ? biased : -INFINITY;
    }
    ranks[id] = rank[i];
  }
  __syncwarp();

  int slots[EXPERTS];  // of the lane's experts; -1 for those that are not chosen
  float total = 0;
#pragma unroll
  for (int i = 0; i < EXPERTS; i++) {
    int id = i * WARP + lane;
    slots[i] = -1;
    if (id >= args.num_experts) continue;
    int slot = place(ranks, id, rank[i], args.group_size);
    if (slot >= args.topk_per_group) continue;
    slots[i] = id / args.group_size * args.topk_per_group + slot;
    total += scores[i];
  }
  if (args.renormalize) total = warp_sum(total);
  if (!args.renormalize || total == 0) total = 1;

  int64_t first = token * (args.num_experts / args.group_size * args.topk_per_group);
#pragma unroll
  for (int i = 0; i < EXPERTS; i++) {
    int id = i * WARP + lane;
    if (slots[i] < 0) continue;
    float scale = args.expert_scale ? args.expert_scale[id] : 1.0f;
    args.weights[first + slots[i]] = scores[i] / total * scale * args.scaling_factor;
    args.expert_ids[first + slots[i]] = id;
  }
}

template <class T>
void launch_gating(const Device& device, const GatingArguments& args) {
  // Up to a warp for every multiprocessor, each has one of its own.
  int warps = args.num_tokens <= device.multiprocessors() ? 1 : GATING_WARPS;
  Grid grid{(args.num_tokens + warps - 1) / warps, warps * WARP};
  if (args.num_experts <= 2 * WARP) return device.launch(gating<T, 2>, grid, args);
  if (args.num_experts <= 8 * WARP) return device.launch(gating<T, 8>, grid, args);
  device.launch(gating<T, MAX_EXPERTS / WARP>, grid, args);
}

std::tuple<Tensor, Tensor> moge_gating(const Tensor& logits, int64_t num_groups, int64_t topk_per_group,
                                       std::string score_function, std::optional<Tensor> correction_bias,
                                       std::optional<Tensor> expert_scale, bool renormalize, double scaling_factor) {
  MogeGating op = moge_gating_prologue(logits, num_groups, topk_per_group, score_function, correction_bias,
                                       expert_scale, renormalize, scaling_factor);
  if (op.num_tokens == 0) return {op.weights, op.expert_ids};
  GatingArguments args{op.logits.const_data_ptr(),
                       op.correction_bias ? data<float>(*op.correction_bias) : nullptr,
                       op.expert_scale ? data<float>(*op.expert_scale) : nullptr,
                       mutable_data<float>(op.weights),
                       mutable_data<int32_t>(op.expert_ids),
                       op.num_tokens,
                       int(op.num_experts),
                       int(op.num_experts / op.num_groups),
                       int(op.topk_per_group),
                       op.softmax,
                       op.renormalize,
                       op.scaling_factor};
  Device device("moge_gating", op.logits);
  with_dtype(op.logits.scalar_type(), [&](auto t) { launch_gating<decltype(t)>(device, args); });
  return {op.weights, op.expert_ids};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_CUDA_KEY, m) { m.impl("moge_gating", TORCH_BOX(&moge_gating)); }

}  // namespace pangu
