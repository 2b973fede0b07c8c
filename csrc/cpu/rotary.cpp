// rotary: every thread owns whole tokens, all their heads of q and k.
#include "common/rotary.h"

#include <torch/csrc/stable/library.h>

#include "cpu/rotate.h"

namespace pangu {
namespace {

// All heads of q or of k, read with their strides and written side by side.
template <class T>
struct Heads {
  const T* from;
  T* to;
  int64_t count, half, token_stride, head_stride;

  Heads(const Tensor& x, const Tensor& out)
      : from(data<T>(x)), to(mutable_data<T>(out)), count(x.size(1)), half(x.size(2) / 2), token_stride(x.stride(0)),
        head_stride(x.stride(1)) {}

  void rotate(int64_t token, const float* cos, const float* sin) const {
    for (int64_t head = 0; head < count; head++)
      rotate_head(from + token * token_stride + head * head_stride, cos, sin, to + (token * count + head) * 2 * half,
                  half);
  }
};

std::tuple<Tensor, Tensor> rotary(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  Rotary op = rotary_prologue(q, k, cos, sin);
  int64_t token_size = (op.q_heads + op.k_heads) * 2 * op.half;
  if (token_size == 0) return {op.out_q, op.out_k};
  with_dtype(op.q.scalar_type(), [&](auto t) {
    using T = decltype(t);
    Heads<T> q(op.q, op.out_q), k(op.k, op.out_k);
    const float *cos = data<float>(op.cos), *sin = data<float>(op.sin);
    torch::stable::parallel_for(0, op.num_tokens, 1 + 16384 / token_size, [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; token++) {
        q.rotate(token, cos + token * op.half, sin + token * op.half);
        k.rotate(token, cos + token * op.half, sin + token * op.half);
      }
    });
  });
  return {op.out_q, op.out_k};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("rotary", TORCH_BOX(&rotary)); }

}  // namespace pangu
