// add_rms_norm: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/rms_norm.h"

namespace pangu {

struct AddRmsNorm {
  Tensor x, residual, weight, normed, sum;
  int64_t num_rows, hidden;
  float eps;
};

inline AddRmsNorm add_rms_norm_prologue(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  check_norm("add_rms_norm", x, weight);
  PANGU_CHECK(same_shape(residual, x), "add_rms_norm", "residual must have the shape of x", residual);
  check_dtype_of("add_rms_norm", "residual", residual, "x", x);
  int64_t hidden = weight.size(0);
  Tensor normed = torch::stable::new_empty(x, x.sizes(), x.scalar_type());
  Tensor sum = torch::stable::new_empty(x, x.sizes(), x.scalar_type());
  return {dense(x), dense(residual), dense(weight), normed, sum, x.numel() / hidden, hidden, float(eps)};
}

}  // namespace pangu
