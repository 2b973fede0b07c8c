// moge_ffn: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/moge_dispatch.h"
#include "common/moge_experts.h"

namespace pangu {

struct MogeFfn {
  Tensor x, weights, expert_ids, gate_up, down;
  std::optional<Tensor> addend;
  Tensor out;
  int64_t num_tokens, num_slots, num_experts, num_groups, hidden, intermediate;
};

inline MogeFfn moge_ffn_prologue(const Tensor& x, const Tensor& weights, const Tensor& expert_ids,
                                 const Tensor& gate_up, const Tensor& down, int64_t num_groups,
                                 std::optional<Tensor> addend) {
  const char* op = "moge_ffn";
  PANGU_CHECK(x.dim() == 2, op, "x must be [T, H]", x);
  check_weights(op, "x", x, gate_up, down);
  check_routing(op, x, expert_ids, gate_up.size(0), num_groups);
  PANGU_CHECK(same_shape(weights, expert_ids), op, "weights must have the shape of expert_ids", weights);
  check_dtype(op, "weights", weights, ScalarType::Float);
  if (addend) {
    PANGU_CHECK(same_shape(*addend, x), op, "addend must be [T, H]", *addend);
    check_dtype_of(op, "addend", *addend, "x", x);
    addend = dense(*addend);
  }
  return {dense(x), dense(weights), dense(expert_ids), dense(gate_up), dense(down), addend,
          empty_of(x, {x.size(0), x.size(1)}), x.size(0), expert_ids.size(1), gate_up.size(0), num_groups,
          x.size(1), gate_up.size(1) / 2};
}

}  // namespace pangu
