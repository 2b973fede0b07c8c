// rms_norm: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/dtype.h"

namespace pangu {

struct RmsNorm {
  Tensor x, weight, out;
  int64_t num_rows, hidden;
  float eps;
};

inline void check_norm(const char* op, const Tensor& x, const Tensor& weight) {
  PANGU_CHECK(x.dim() >= 1 && x.size(x.dim() - 1) >= 1, op, "x must be [..., H] with H at least 1", x);
  PANGU_CHECK(weight.dim() == 1 && weight.size(0) == x.size(x.dim() - 1), op, "weight must be [H] with the H of x",
              weight);
  check_float(op, "x", x);
  check_dtype_of(op, "weight", weight, "x", x);
}

inline RmsNorm rms_norm_prologue(const Tensor& x, const Tensor& weight, double eps) {
  check_norm("rms_norm", x, weight);
  int64_t hidden = weight.size(0);
  Tensor out = torch::stable::new_empty(x, x.sizes(), x.scalar_type());
  return {dense(x), dense(weight), out, x.numel() / hidden, hidden, float(eps)};
}

}  // namespace pangu
