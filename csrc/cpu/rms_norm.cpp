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
    normalise_rows(data<T>(op.x), data<T>(op.weight), mutable_data<T>(op.out), op.num_rows, op.hidden, op.eps);
  });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("rms_norm", TORCH_BOX(&rms_norm)); }

}  // namespace pangu
