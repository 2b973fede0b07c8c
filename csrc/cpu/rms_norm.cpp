// rms_norm: every thread normalises whole rows, each read twice (the second time from cache).
#include "common/rms_norm.h"

#include <torch/csrc/stable/library.h>

#include "cpu/isa/vec.h"

namespace pangu {
namespace {

template <class T>
void rms_norm_row(const T* x, const T* weight, T* out, int64_t hidden, float eps) {
  vf squares = {};
  for_vectors(hidden, [&](int64_t i, auto load, auto) {
    vf v = load(x + i);
    squares += v * v;
  });
  float scale = 1.0f / std::sqrt(sum(squares) / hidden + eps);
  for_vectors(hidden, [&](int64_t i, auto load, auto store) {
    store(out + i, load(x + i) * scale * load(weight + i));
  });
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  RmsNorm op = rms_norm_prologue(x, weight, eps);
  with_dtype(op.x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    torch::stable::parallel_for(0, op.num_rows, 1 + 16384 / op.hidden, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++)
        rms_norm_row(data<T>(op.x) + row * op.hidden, data<T>(op.weight), mutable_data<T>(op.out) + row * op.hidden,
                     op.hidden, op.eps);
    });
  });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("rms_norm", TORCH_BOX(&rms_norm)); }

}  // namespace pangu
