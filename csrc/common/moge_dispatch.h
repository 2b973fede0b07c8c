// moge_dispatch: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/dtype.h"

namespace pangu {

struct MogeDispatch {
  Tensor x, expert_ids, rows, slot_rows, expert_offsets;
  int64_t num_tokens, hidden, num_slots, num_experts, num_groups;
};

// What moge_dispatch and moge_ffn ask of their routing.
inline void check_routing(const char* op, const Tensor& x, const Tensor& expert_ids, int64_t num_experts,
                          int64_t num_groups) {
  PANGU_CHECK(x.dim() == 2, op, "x must be [T, H]", x);
  PANGU_CHECK(expert_ids.dim() == 2 && expert_ids.size(0) == x.size(0), op,
              "expert_ids must be [T, K] with the T of x", expert_ids);
  check_dtype(op, "expert_ids", expert_ids, ScalarType::Int);
  check_device_of(op, "expert_ids", expert_ids, "x", x);
  PANGU_CHECK(num_experts < int64_t(1) << 31, op, "num_experts must be below 2^31", num_experts);
  PANGU_CHECK(num_groups >= 1 && num_experts >= 1 && num_experts % num_groups == 0, op,
              "num_groups must divide num_experts",
              std::to_string(num_groups) + " for " + std::to_string(num_experts) + " experts");
  PANGU_CHECK(expert_ids.size(1) >= 1 && expert_ids.size(1) % num_groups == 0, op,
              "num_groups must divide the slots of a token",
              std::to_string(num_groups) + " for " + std::to_string(expert_ids.size(1)) + " slots");
  PANGU_CHECK(expert_ids.numel() < int64_t(1) << 31, op, "T*K must be below 2^31", expert_ids.numel());
}

inline MogeDispatch moge_dispatch_prologue(const Tensor& x, const Tensor& expert_ids, int64_t num_experts,
                                           int64_t num_groups) {
  check_routing("moge_dispatch", x, expert_ids, num_experts, num_groups);
  check_float("moge_dispatch", "x", x);
  int64_t num_tokens = x.size(0), hidden = x.size(1), num_slots = expert_ids.size(1);
  return {dense(x),
          dense(expert_ids),
          empty_of(x, {num_tokens * num_slots, hidden}),
          empty_of(expert_ids, {num_tokens, num_slots}),
          empty_of(expert_ids, {num_experts + 1}),
          num_tokens,
          hidden,
          num_slots,
          num_experts,
          num_groups};
}

}  // namespace pangu
