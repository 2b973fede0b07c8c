// moge_gating: every thread owns whole tokens; a token's scores stay in L1 from the load to the weights.
#include "common/moge_gating.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "cpu/isa/vec.h"

namespace pangu {
namespace {

constexpr int64_t MAX_EXPERTS = 1024;

struct GatingRow {
  alignas(64) float logits[MAX_EXPERTS + LANES];
  alignas(64) float scores[MAX_EXPERTS + LANES];
  alignas(64) float ranks[MAX_EXPERTS];

  // Scores of all experts; a softmax row without a finite maximum gets 0.
  template <class T>
  void score(const T* row, int64_t num_experts, bool softmax) {
    vf best = splat(-INFINITY);
    for_vectors(num_experts, [&](int64_t i, auto load, auto store) {
      vf v = load(row + i);
      store(logits + i, v == v ? v : splat(-INFINITY));
    });
    for (int64_t i = num_experts; i % LANES; i++) logits[i] = -INFINITY;  // whole vectors from here on
    if (!softmax) {
      for (int64_t i = 0; i < num_experts; i += LANES) store(scores + i, 1.0f / (1.0f + exp(-load(logits + i))));
      return;
    }
    for (int64_t i = 0; i < num_experts; i += LANES) best = max(best, load(logits + i));
    float top = max(best);
    vf total = {};
    for (int64_t i = 0; i < num_experts; i += LANES) {
      vf e = exp(load(logits + i) - top);
      store(scores + i, e);
      total += e;
    }
    float scale = std::isfinite(top) ? 1.0f / sum(total) : 0.0f;
    for (int64_t i = 0; i < num_experts; i += LANES)
      store(scores + i, std::isfinite(top) ? load(scores + i) * scale : splat(0.0f));
  }
};

// The k best of [begin, end) by falling rank, ties to the lower id. Taken experts are marked in a bitset.
inline void choose(const float* ranks, int64_t begin, int64_t end, int64_t k, int32_t* ids) {
  if (k == 1) {
    int64_t best = begin;
    for (int64_t i = begin + 1; i < end; i++) best = ranks[i] > ranks[best] ? i : best;
    ids[0] = int32_t(best);
    return;
  }
  bool taken[MAX_EXPERTS] = {};
  for (int64_t slot = 0; slot < k; slot++) {
    int64_t best = -1;
    for (int64_t i = begin; i < end; i++)
      if (!taken[i - begin] && (best < 0 || ranks[i] > ranks[best])) best = i;
    taken[best - begin] = true;
    ids[slot] = int32_t(best);
  }
}

template <class T>
void gate_token(const MogeGating& op, int64_t token, GatingRow& row) {
  int64_t group_size = op.num_experts / op.num_groups, top_k = op.num_groups * op.topk_per_group;
  row.score(data<T>(op.logits) + token * op.num_experts, op.num_experts, op.softmax);

  // Both score functions rise with the logit, so without a bias the logit itself ranks, free of rounding.
  const float* ranks = row.logits;
  if (op.correction_bias) {
    const float* bias = data<float>(*op.correction_bias);
    for (int64_t i = 0; i < op.num_experts; i++) {
      float rank = row.scores[i] + bias[i];
      row.ranks[i] = row.logits[i] == -INFINITY || std::isnan(rank) ? -INFINITY : rank;
    }
    ranks = row.ranks;
  }

  int32_t* ids = mutable_data<int32_t>(op.expert_ids) + token * top_k;
  float* weights = mutable_data<float>(op.weights) + token * top_k;
  for (int64_t group = 0; group < op.num_groups; group++)
    choose(ranks, group * group_size, (group + 1) * group_size, op.topk_per_group, ids + group * op.topk_per_group);

  float total = 0;
  for (int64_t slot = 0; slot < top_k; slot++) total += row.scores[ids[slot]];
  float scale = op.renormalize && total != 0 ? 1.0f / total : 1.0f;
  const float* expert_scale = op.expert_scale ? data<float>(*op.expert_scale) : nullptr;
  for (int64_t slot = 0; slot < top_k; slot++)
    weights[slot] = row.scores[ids[slot]] * scale * (expert_scale ? expert_scale[ids[slot]] : 1.0f) * op.scaling_factor;
}

std::tuple<Tensor, Tensor> moge_gating(const Tensor& logits, int64_t num_groups, int64_t topk_per_group,
                                       std::string score_function, std::optional<Tensor> correction_bias,
                                       std::optional<Tensor> expert_scale, bool renormalize, double scaling_factor) {
  MogeGating op = moge_gating_prologue(logits, num_groups, topk_per_group, score_function, correction_bias,
                                       expert_scale, renormalize, scaling_factor);
  with_dtype(op.logits.scalar_type(), [&](auto t) {
    using T = decltype(t);
    torch::stable::parallel_for(0, op.num_tokens, 1 + 8192 / op.num_experts, [&](int64_t begin, int64_t end) {
      GatingRow row;
      for (int64_t token = begin; token < end; token++) gate_token<T>(op, token, row);
    });
  });
  return {op.weights, op.expert_ids};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("moge_gating", TORCH_BOX(&moge_gating)); }

}  // namespace pangu
