// add_rms_norm: every thread owns whole rows; the sum is rounded to the row's dtype before it is normalised.
#include "common/add_rms_norm.h"

#include <torch/csrc/stable/library.h>

#include "cpu/isa/vec.h"

namespace pangu {
namespace {

template <class T>
void add_rms_norm_row(const T* x, const T* residual, const T* weight, T* normed, T* total, int64_t hidden, float eps) {
  vf squares = {};
  for_vectors(hidden, [&](int64_t i, auto load, auto store) {
    store(total + i, load(x + i) + load(residual + i));
    vf v = load(total + i);
    squares += v * v;
  });
  float scale = 1.0f / std::sqrt(sum(squares) / hidden + eps);
  for_vectors(hidden, [&](int64_t i, auto load, auto store) {
    store(normed + i, load(total + i) * scale * load(weight + i));
  });
}

std::tuple<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  AddRmsNorm op = add_rms_norm_prologue(x, residual, weight, eps);
  with_dtype(op.x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    torch::stable::parallel_for(0, op.num_rows, 1 + 16384 / op.hidden, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        int64_t at = row * op.hidden;
        add_rms_norm_row(data<T>(op.x) + at, data<T>(op.residual) + at, data<T>(op.weight),
                         mutable_data<T>(op.normed) + at, mutable_data<T>(op.sum) + at, op.hidden, op.eps);
      }
    });
  });
  return {op.normed, op.sum};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("add_rms_norm", TORCH_BOX(&add_rms_norm)); }

}  // namespace pangu
