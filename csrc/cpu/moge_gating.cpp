// moge_gating: every thread owns whole tokens; a token's scores stay in L1 from the load to the weights.
#include "common/moge_gating.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "cpu/isa/vec.h"

namespace pangu {
namespace {

struct GatingRow {
  alignas(64) float logits[MAX_EXPERTS + LANES];
  alignas(64) float scores[MAX_EXPERTS + LANES];

  // Scores of all experts up to the factor that is returned; a softmax row without a finite maximum gets 0.
  template <class T>
  float score(const T* row, int64_t num_experts, bool softmax) {
    vf best = splat(-INFINITY);
    for_vectors(num_experts, [&](int64_t i, auto load, auto store) {
      vf v = load(row + i);
      store(logits + i, v == v ? v : splat(-INFINITY));
    });
    for (int64_t i = num_experts; i % LANES; i++) logits[i] = -INFINITY;  // whole vectors from here on
    if (!softmax) {
      for (int64_t i = 0; i < num_experts; i += LANES) store(scores + i, 1.0f / (1.0f + exp(-load(logits + i))));
      return 1.0f;
    }
    for (int64_t i = 0; i < num_experts; i += LANES) best = max(best, load(logits + i));
    float top = max(best);
    if (!std::isfinite(top)) {
      std::fill(scores, scores + num_experts, 0.0f);
      return 0.0f;
    }
    vf total = {};
    for (int64_t i = 0; i < num_experts; i += LANES) {
      vf e = exp(load(logits + i) - top);
      store(scores + i, e);
      total += e;
    }
    return 1.0f / sum(total);
  }
};

// The best of [begin, end), ties to the lower id, without a branch on which one it is. Lanes past the end may be read.
inline int32_t best_of(const float* ranks, int64_t begin, int64_t end) {
  auto ranks_at = [&](int64_t i) {
    vf v = load(ranks + i);
    return end - i < LANES ? keep_first(v, end - i, -INFINITY) : v;
  };
  vf top = ranks_at(begin);
  for (int64_t i = begin + LANES; i < end; i += LANES) top = max(top, ranks_at(i));
  float best = max(top);
  int64_t i = begin;
  while (i + LANES < end && max(ranks_at(i)) != best) i += LANES;
  return int32_t(i + first_equal(ranks_at(i), best));
}

// The k best of [begin, end) by falling rank, ties to the lower id.
inline void choose(const float* ranks, int64_t begin, int64_t end, int64_t k, int32_t* ids) {
  if (k == 1) {
    ids[0] = best_of(ranks, begin, end);
    return;
  }
  bool taken[MAX_EXPERTS];
  std::fill(taken, taken + (end - begin), false);
  for (int64_t slot = 0; slot < k; slot++) {
    int64_t best = -1;
    for (int64_t i = begin; i < end; i++)
      if (!taken[i - begin] && (best < 0 || ranks[i] > ranks[best])) best = i;
    taken[best - begin] = true;
    ids[slot] = int32_t(best);
  }
}

template <class T>
struct Gate {
  const MogeGating& op;
  const T* logits;
  const float *correction_bias, *expert_scale;  // null where not given
  float* weights;
  int32_t* expert_ids;

  explicit Gate(const MogeGating& op)
      : op(op), logits(data<T>(op.logits)),
        correction_bias(op.correction_bias ? data<float>(*op.correction_bias) : nullptr),
        expert_scale(op.expert_scale ? data<float>(*op.expert_scale) : nullptr),
        weights(mutable_data<float>(op.weights)), expert_ids(mutable_data<int32_t>(op.expert_ids)) {}

  void token(int64_t token, GatingRow& row) const {
    int64_t group_size = op.num_experts / op.num_groups, top_k = op.num_groups * op.topk_per_group;
    float scale = row.score(logits + token * op.num_experts, op.num_experts, op.softmax);

    // Both score functions rise with the logit, so without a bias the logit itself ranks, free of rounding.
    if (correction_bias)
      for (int64_t i = 0; i < op.num_experts; i++) {
        float biased = row.scores[i] * scale + correction_bias[i];
        if (row.logits[i] != -INFINITY) row.logits[i] = std::isnan(biased) ? -INFINITY : biased;
      }

    int32_t* ids = expert_ids + token * top_k;
    for (int64_t group = 0; group < op.num_groups; group++)
      choose(row.logits, group * group_size, (group + 1) * group_size, op.topk_per_group,
             ids + group * op.topk_per_group);

    float total = 0;
    for (int64_t slot = 0; slot < top_k; slot++) total += row.scores[ids[slot]];
    if (op.renormalize && total != 0) scale = 1.0f / total;
    for (int64_t slot = 0; slot < top_k; slot++)
      weights[token * top_k + slot] =
          row.scores[ids[slot]] * scale * (expert_scale ? expert_scale[ids[slot]] : 1.0f) * op.scaling_factor;
  }
};

std::tuple<Tensor, Tensor> moge_gating(const Tensor& logits, int64_t num_groups, int64_t topk_per_group,
                                       std::string score_function, std::optional<Tensor> correction_bias,
                                       std::optional<Tensor> expert_scale, bool renormalize, double scaling_factor) {
  MogeGating op = moge_gating_prologue(logits, num_groups, topk_per_group, score_function, correction_bias,
                                       expert_scale, renormalize, scaling_factor);
  with_dtype(op.logits.scalar_type(), [&](auto t) {
    Gate<decltype(t)> gate(op);
    torch::stable::parallel_for(0, op.num_tokens, 1 + 8192 / op.num_experts, [&](int64_t begin, int64_t end) {
      GatingRow row;
      for (int64_t token = begin; token < end; token++) gate.token(token, row);
    });
  });
  return {op.weights, op.expert_ids};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("moge_gating", TORCH_BOX(&moge_gating)); }

}  // namespace pangu
