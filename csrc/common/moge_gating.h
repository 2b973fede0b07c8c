// moge_gating: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/dtype.h"

namespace pangu {

constexpr int64_t MAX_EXPERTS = 1024;  // the kernels hold a token's scores in arrays of this size

struct MogeGating {
  Tensor logits;
  std::optional<Tensor> correction_bias, expert_scale;
  Tensor weights, expert_ids;
  int64_t num_tokens, num_experts, num_groups, topk_per_group;
  bool softmax, renormalize;
  float scaling_factor;
};

inline MogeGating moge_gating_prologue(const Tensor& logits, int64_t num_groups, int64_t topk_per_group,
                                       const std::string& score_function, std::optional<Tensor> correction_bias,
                                       std::optional<Tensor> expert_scale, bool renormalize, double scaling_factor) {
  const char* op = "moge_gating";
  PANGU_CHECK(logits.dim() == 2, op, "logits must be [T, E]", logits);
  check_float(op, "logits", logits);
  int64_t num_tokens = logits.size(0), num_experts = logits.size(1);
  PANGU_CHECK(1 <= num_experts && num_experts <= MAX_EXPERTS, op, "the number of experts must be 1 to 1024",
              num_experts);
  PANGU_CHECK(num_groups >= 1 && num_experts % num_groups == 0, op, "num_groups must divide the number of experts",
              std::to_string(num_groups) + " for " + std::to_string(num_experts) + " experts");
  int64_t group_size = num_experts / num_groups;
  PANGU_CHECK(1 <= topk_per_group && topk_per_group <= group_size, op,
              "topk_per_group must be 1 to the experts of a group",
              std::to_string(topk_per_group) + " for groups of " + std::to_string(group_size));
  PANGU_CHECK(score_function == "softmax" || score_function == "sigmoid", op,
              "score_function must be softmax or sigmoid", score_function);
  auto check_per_expert = [&](const char* name, std::optional<Tensor>& tensor) {
    if (!tensor) return;
    PANGU_CHECK(tensor->dim() == 1 && tensor->size(0) == num_experts, op,
                std::string(name) + " must be [E] = [" + std::to_string(num_experts) + "]", *tensor);
    check_dtype(op, name, *tensor, ScalarType::Float);
    check_device_of(op, name, *tensor, "logits", logits);
    tensor = dense(*tensor);
  };
  check_per_expert("correction_bias", correction_bias);
  check_per_expert("expert_scale", expert_scale);
  int64_t top_k = num_groups * topk_per_group;
  return {dense(logits),
          correction_bias,
          expert_scale,
          empty_of(logits, {num_tokens, top_k}, ScalarType::Float),
          empty_of(logits, {num_tokens, top_k}, ScalarType::Int),
          num_tokens,
          num_experts,
          num_groups,
          topk_per_group,
          score_function == "softmax",
          renormalize,
          float(scaling_factor)};
}

}  // namespace pangu
