// add_rms_norm: every thread owns whole rows; the sum is rounded to the row's dtype before it is normalised.
#include "common/add_rms_norm.h"

#include <torch/csrc/stable/library.h>

#include "cpu/norm.h"

namespace pangu {
namespace {

std::tuple<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  AddRmsNorm op = add_rms_norm_prologue(x, residual, weight, eps);
  with_dtype(op.x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *x = data<T>(op.x), *residual = data<T>(op.residual), *weight = data<T>(op.weight);
    T *normed = mutable_data<T>(op.normed), *total = mutable_data<T>(op.sum);
    torch::stable::parallel_for(0, op.num_rows, 1 + 16384 / op.hidden, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        int64_t at = row * op.hidden;
        for_vectors(op.hidden, [&](int64_t i, auto load, auto store) {
          store(total + at + i, load(x + at + i) + load(residual + at + i));
        });
        normalise(total + at, weight, normed + at, op.hidden, op.eps);
      }
    });
  });
  return {op.normed, op.sum};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("add_rms_norm", TORCH_BOX(&add_rms_norm)); }

}  // namespace pangu
