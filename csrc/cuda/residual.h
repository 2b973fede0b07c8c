// What rejected drafts leave of the target's distribution, and what the threads of a cluster find out about a row
// together. Sums come out the same however they are cut: products are float64, none is fused with the addition behind
// it, and each is rounded to a multiple of 1 / PROBABILITY_SCALE before it is added.
#pragma once

#include "common/spec_verify.h"
#include "cuda/cluster.h"

namespace pangu {

constexpr int ROW_THREADS = 512, ROW_WARPS = ROW_THREADS / WARP;
constexpr int GROUP = 4, GROUPS = 4;  // neighbours that a lane reads at once, and how many such reads are under way

__device__ __forceinline__ bool is_probability(float p) { return p >= 0 && p < 2; }

// A probability as a multiple of 1 / PROBABILITY_SCALE: adding 2^52 rounds to an integer, ties to even, which is then
// what the low bits hold.
__device__ __forceinline__ uint64_t integer(double probability) {
  double sum = __dadd_rn(__dmul_rn(probability, PROBABILITY_SCALE), 0x1p52);
  return uint64_t(__double_as_longlong(sum)) & ((uint64_t(1) << 52) - 1);
}

// Elements i to i + 3 of a row; from `end` on there is none, and 0 stands for it.
template <class T>
__device__ __forceinline__ void load(const T* row, int i, int end, float (&values)[GROUP]) {
  struct alignas(GROUP * sizeof(T)) Group {
    T items[GROUP];
  };
  if (i + GROUP <= end && reinterpret_cast<uintptr_t>(row) % sizeof(Group) == 0) {
    Group group = *reinterpret_cast<const Group*>(row + i);
#pragma unroll
    for (int j = 0; j < GROUP; j++) values[j] = widen(group.items[j]);
    return;
  }
#pragma unroll
  for (int j = 0; j < GROUP; j++) values[j] = i + j < end ? widen(row[i + j]) : 0.0f;
}

struct Rejected {
  const float* probs;  // null for a draft that was chosen, not drawn
  int64_t id;
  double mass;  // of the target before

  __device__ double at(int64_t i, bool& valid) const {
    if (!probs) return i == id;
    valid = valid && is_probability(probs[i]);
    return probs[i];
  }
};

__device__ __forceinline__ double take(double left, double mass, double q) {
  return max(__dsub_rn(left, __dmul_rn(mass, q)), 0.0);
}

// What is left of a row of the target: weight times the row, less what each rejected node took, never below 0.
struct Residual {
  const float* row;
  double weight;
  int num_rejected;
  Rejected first;        // a chain has no other one
  const Rejected* list;  // all of them

  __device__ double at(int64_t i, bool& valid) const {
    valid = valid && is_probability(row[i]);
    double left = __dmul_rn(weight, row[i]);
    if (num_rejected) left = take(left, first.mass, first.at(i, valid));
    for (int j = 1; j < num_rejected; j++) left = take(left, list[j].mass, list[j].at(i, valid));
    return left;
  }

  // Elements i to i + 3, where the row has p and the first rejected node q.
  __device__ __forceinline__ uint64_t sum(int i, int end, const float (&p)[GROUP], const float (&q)[GROUP],
                                          bool& valid) const {
    double left[GROUP];
    auto take_rejected = [&](const Rejected& node, const float (&its)[GROUP]) {
#pragma unroll
      for (int j = 0; j < GROUP; j++) {
        valid = valid && (!node.probs || is_probability(its[j]));
        left[j] = take(left[j], node.mass, node.probs ? double(its[j]) : double(i + j == node.id));
      }
    };
#pragma unroll
    for (int j = 0; j < GROUP; j++) {
      valid = valid && is_probability(p[j]);
      left[j] = __dmul_rn(weight, p[j]);
    }
    if (num_rejected) take_rejected(first, q);
    for (int other = 1; other < num_rejected; other++) {
      float its[GROUP] = {};
      if (list[other].probs) load(list[other].probs, i, end, its);
      take_rejected(list[other], its);
    }
    uint64_t total = 0;
#pragma unroll
    for (int j = 0; j < GROUP; j++) total += integer(left[j]);
    return total;
  }
};

// The threads that own a sequence: every warp of every block of the cluster owns a span of the rows.
class Owners {
 public:
  // warp_sums [2, ROW_WARPS], block_sums [2] and block_faults [2] lie in shared memory, for this use and the last one.
  __device__ Owners(int vocabulary, uint64_t* warp_sums, uint64_t* block_sums, int* block_faults)
      : warp_sums_(warp_sums), block_sums_(block_sums), block_faults_(block_faults), lane_(threadIdx.x % WARP),
        warp_(threadIdx.x / WARP) {
    constexpr int STEP = GROUP * WARP;
    int warps = ROW_WARPS * cluster_size(), span = ((vocabulary + warps - 1) / warps + STEP - 1) / STEP * STEP;
    begin_ = min(vocabulary, int(cluster_rank() * ROW_WARPS + warp_) * span);
    end_ = min(vocabulary, begin_ + span);
  }

  // The sum of what is left, as integers. Clears `valid` where a number is no probability.
  __device__ uint64_t mass(const Residual& left, bool& valid) {
    const float* probs = left.num_rejected ? left.first.probs : nullptr;
    uint64_t sum = 0;
    each_group<float>([&](int i, const float (&p)[GROUP], const float (&q)[GROUP]) {
      sum += left.sum(i, end_, p, q, valid);
    }, left.row, probs);
    return add_up<false>(sum, valid);
  }

  // Of probabilities, as an integer.
  __device__ int64_t entropy(const float* row, bool& valid) {
    uint64_t sum = 0;
    each_group<float>([&](int, const float (&p)[GROUP], const float (&)[GROUP]) {
#pragma unroll
      for (int j = 0; j < GROUP; j++) {
        double value = p[j];
        valid = valid && is_probability(p[j]);
        if (value > 0) sum += uint64_t(__double2ll_rn(__dmul_rn(-__dmul_rn(value, log(value)), PROBABILITY_SCALE)));
      }
    }, row, nullptr);
    return int64_t(add_up<false>(sum, valid));
  }

  // The highest logit's id, the lowest one of several. Clears `valid` for NaN and where the highest is not finite.
  template <class T>
  __device__ int64_t likeliest(const T* logits, bool& valid) {
    float best = -INFINITY;
    int id = 0;
    each_group<T>([&](int i, const float (&values)[GROUP], const float (&)[GROUP]) {
#pragma unroll
      for (int j = 0; j < GROUP; j++) {
        valid = valid && values[j] == values[j];
        if (i + j < end_ && values[j] > best) best = values[j], id = i + j;
      }
    }, logits, nullptr);
    // Bits that rise with the number, of which 0 has one kind; then the lowest id.
    unsigned bits = __float_as_uint(best + 0.0f), rising = bits >> 31 ? ~bits : bits | 0x80000000;
    uint64_t winner = add_up<true>(uint64_t(rising) << 32 | ~unsigned(id), valid);
    constexpr uint64_t LOWEST = 0x00800000, HIGHEST = 0xff7fffff;  // finite numbers, so turned
    valid = valid && LOWEST <= winner >> 32 && winner >> 32 <= HIGHEST;
    return ~unsigned(winner);
  }

  // The token that unit number `at` of the mass belongs to, in the one lane whose span holds it; -1 in all others. It is
  // of what mass() was asked for last.
  __device__ int draw(const Residual& left, uint64_t at) const {
    if (at < before_ || at - before_ >= block_sum_) return -1;
    at -= before_;
    uint64_t sum = lane_ < ROW_WARPS ? warp_sums_[turn_ * ROW_WARPS + lane_] : 0, until = warp_prefix_sum(sum);
    int owner = __ffs(__ballot_sync(ALL_LANES, until > at)) - 1;
    at -= __shfl_sync(ALL_LANES, until - sum, owner);
    if (owner != warp_) return -1;

    bool valid = true;
    int size = (end_ - begin_ + WARP - 1) / WARP, first = min(end_, begin_ + lane_ * size);
    int last = min(end_, first + size);
    sum = 0;
    for (int i = first; i < last; i++) sum += integer(left.at(i, valid));
    until = warp_prefix_sum(sum);
    owner = __ffs(__ballot_sync(ALL_LANES, until > at)) - 1;
    if (owner != lane_) return -1;
    at -= until - sum;
    for (int i = first; i < last; i++) {
      uint64_t units = integer(left.at(i, valid));
      if (at < units) return i;
      at -= units;
    }
    return -1;
  }

 private:
  // Call each(i, values, others) for this lane's groups of a row, and of another row unless it is null.
  template <class T, class Each>
  __device__ __forceinline__ void each_group(const Each& each, const T* row, const T* other) const {
    constexpr int STEP = GROUP * WARP;
    for (int first = begin_ + lane_ * GROUP; first < end_; first += GROUPS * STEP) {
      float values[GROUPS][GROUP], others[GROUPS][GROUP] = {};
#pragma unroll
      for (int group = 0; group < GROUPS; group++) load(row, first + group * STEP, end_, values[group]);
      if (other) {
#pragma unroll
        for (int group = 0; group < GROUPS; group++) load(other, first + group * STEP, end_, others[group]);
      }
#pragma unroll
      for (int group = 0; group < GROUPS; group++) each(first + group * STEP, values[group], others[group]);
    }
  }

  // The sum or the maximum of what all threads bring, and whether all of them found what they read valid.
  template <bool MAXIMUM>
  __device__ uint64_t add_up(uint64_t value, bool& valid) {
    turn_ ^= 1;
    uint64_t* sums = warp_sums_ + turn_ * ROW_WARPS;
    value = MAXIMUM ? warp_max(value) : warp_sum(value);
    if (lane_ == 0) sums[warp_] = value;
    int fault = __syncthreads_or(!valid);
    value = lane_ < ROW_WARPS ? sums[lane_] : 0;
    block_sum_ = value = MAXIMUM ? warp_max(value) : warp_sum(value);
    before_ = 0;
    if (cluster_size() > 1) {
      if (threadIdx.x == 0) block_sums_[turn_] = value, block_faults_[turn_] = fault;
      cluster_sync();
      value = 0;
      for (unsigned rank = 0; rank < cluster_size(); rank++) {
        uint64_t its = *peer(block_sums_ + turn_, rank);
        fault |= *peer(block_faults_ + turn_, rank);
        if (rank < cluster_rank()) before_ += its;
        value = MAXIMUM ? max(value, its) : value + its;
      }
    }
    valid = !fault;
    return value;
  }

  uint64_t *warp_sums_, *block_sums_;
  int* block_faults_;
  int lane_, warp_, begin_, end_, turn_ = 0;
  uint64_t block_sum_ = 0, before_ = 0;  // this block's, and that of the blocks before it
};

}  // namespace pangu
