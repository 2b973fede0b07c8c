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
    T* out = mutable_data<T>(op.out);
    linear([&](int64_t token) { return rows + token * op.size; }, op.num_tokens, data<T>(op.weight), op.columns,
           op.size, op.x, [&](int64_t token, int64_t column, const float* products, int64_t count) {
             T* to = out + token * op.columns + column;
             for_vectors(count, [&](int64_t i, auto load, auto store) {
               store(to + i, bias ? load(products + i) + load(bias + column + i) : load(products + i));
             });
           });
  });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("linear", TORCH_BOX(&linear_op)); }

}  // namespace pangu
