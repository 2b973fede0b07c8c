// linear: threads own columns of the result and read their weight rows once, where they lie.
#include "common/linear.h"

#include <torch/csrc/stable/library.h>

#include "cpu/linear.h"

namespace pangu {
namespace {

Tensor linear_op(const Tensor& x, const Tensor& weight, std::optional<Tensor> bias) {
  Linear op = linear_prologue(x, weight, bias);
  if (op.out.numel() == 0) return op.out;
  with_dtype(op.x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *rows = data<T>(op.x), *bias = op.bias ? data<T>(*op.bias) : nullptr;
    linear_into([=](int64_t token) { return rows + token * op.size; }, op.num_tokens, data<T>(op.weight), bias,
                op.columns, op.size, op.x, mutable_data<T>(op.out));
  });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("linear", TORCH_BOX(&linear_op)); }

}  // namespace pangu
