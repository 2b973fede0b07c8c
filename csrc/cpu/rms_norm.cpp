// rms_norm: every thread normalises whole rows, each read twice (the second time from cache).
#include "common/rms_norm.h"

#include <torch/csrc/stable/library.h>

#include "cpu/norm.h"

namespace pangu {
namespace {

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  RmsNorm op = rms_norm_prologue(x, weight, eps);
  with_dtype(op.x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *x = data<T>(op.x), *weight = data<T>(op.weight);
    T* out = mutable_data<T>(op.out);
    torch::stable::parallel_for(0, op.num_rows, 1 + 16384 / op.hidden, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++)
        normalise(x + row * op.hidden, weight, out + row * op.hidden, op.hidden, op.eps);
    });
  });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("rms_norm", TORCH_BOX(&rms_norm)); }

}  // namespace pangu
