// silu_mul: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include <vector>

#include "common/dtype.h"

namespace pangu {

struct SiluMul {
  Tensor gate_up, out;
  int64_t num_rows, intermediate;
};

inline SiluMul silu_mul_prologue(const Tensor& gate_up) {
  int64_t dim = gate_up.dim();
  PANGU_CHECK(dim >= 1 && gate_up.size(dim - 1) % 2 == 0, "silu_mul", "gate_up must be [..., 2*I]", gate_up);
  check_float("silu_mul", "gate_up", gate_up);
  std::vector<int64_t> sizes(gate_up.sizes().begin(), gate_up.sizes().end());
  int64_t intermediate = sizes.back() /= 2;
  Tensor out = torch::stable::new_empty(gate_up, sizes, gate_up.scalar_type());
  return {dense(gate_up), out, intermediate ? out.numel() / intermediate : 0, intermediate};
}

}  // namespace pangu
