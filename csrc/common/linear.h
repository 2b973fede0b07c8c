// linear: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/dtype.h"

namespace pangu {

struct Linear {
  Tensor x, weight;
  std::optional<Tensor> bias;
  Tensor out;
  int64_t num_tokens, columns, size;
};

inline Linear linear_prologue(const Tensor& x, const Tensor& weight, std::optional<Tensor> bias) {
  PANGU_CHECK(x.dim() == 2, "linear", "x must be [T, H]", x);
  PANGU_CHECK(weight.dim() == 2 && weight.size(1) == x.size(1), "linear", "weight must be [N, H] with the H of x",
              weight);
  check_float("linear", "x", x);
  check_dtype_of("linear", "weight", weight, "x", x);
  int64_t columns = weight.size(0);
  if (bias) {
    PANGU_CHECK(bias->dim() == 1 && bias->size(0) == columns, "linear",
                "bias must be [N] = [" + std::to_string(columns) + "]", *bias);
    check_dtype_of("linear", "bias", *bias, "x", x);
    bias = dense(*bias);
  }
  return {dense(x), dense(weight), bias, empty_of(x, {x.size(0), columns}), x.size(0), columns, x.size(1)};
}

}  // namespace pangu
