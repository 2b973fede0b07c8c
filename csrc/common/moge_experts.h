// moge_experts: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/dtype.h"

namespace pangu {

struct MogeExperts {
  Tensor rows, expert_offsets, gate_up, down, out;
  int64_t num_rows, num_experts, hidden, intermediate;
};

// What moge_experts and moge_ffn ask of the experts' weights; x is [.., H].
inline void check_weights(const char* op, const char* name, const Tensor& x, const Tensor& gate_up,
                          const Tensor& down) {
  int64_t hidden = x.size(1);
  PANGU_CHECK(gate_up.dim() == 3 && gate_up.size(1) % 2 == 0 && gate_up.size(2) == hidden, op,
              std::string("gate_up must be [E, 2*I, H] with the H of ") + name, gate_up);
  std::string sizes = list(std::initializer_list<int64_t>{gate_up.size(0), hidden, gate_up.size(1) / 2});
  PANGU_CHECK(list(down.sizes()) == sizes, op, "down must be [E, H, I] = " + sizes, down);
  check_float(op, name, x);
  check_dtype_of(op, "gate_up", gate_up, name, x);
  check_dtype_of(op, "down", down, name, x);
}

inline MogeExperts moge_experts_prologue(const Tensor& rows, const Tensor& expert_offsets, const Tensor& gate_up,
                                         const Tensor& down) {
  const char* op = "moge_experts";
  PANGU_CHECK(rows.dim() == 2, op, "rows must be [R, H]", rows);
  check_weights(op, "rows", rows, gate_up, down);
  int64_t num_experts = gate_up.size(0);
  PANGU_CHECK(expert_offsets.dim() == 1 && expert_offsets.size(0) == num_experts + 1, op,
              "expert_offsets must be [E+1] = [" + std::to_string(num_experts + 1) + "]", expert_offsets);
  check_dtype(op, "expert_offsets", expert_offsets, ScalarType::Int);
  return {dense(rows), dense(expert_offsets), dense(gate_up), dense(down),
          empty_of(rows, {rows.size(0), rows.size(1)}), rows.size(0), num_experts, rows.size(1), gate_up.size(1) / 2};
}

}  // namespace pangu
