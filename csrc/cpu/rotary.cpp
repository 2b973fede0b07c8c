// rotary: every thread owns whole tokens, all their heads of q and k.
#include "common/rotary.h"

#include <torch/csrc/stable/library.h>

#include "cpu/isa/vec.h"

namespace pangu {
namespace {

template <class T>
void rotate_head(const T* x, const float* cos, const float* sin, T* out, int64_t half) {
  for_vectors(half, [&](int64_t i, auto load, auto store) {
    vf a = load(x + i), b = load(x + half + i), c = load(cos + i), s = load(sin + i);
    store(out + i, a * c - b * s);
    store(out + half + i, b * c + a * s);
  });
}

template <class T>
void rotate_token(const Tensor& x, const Tensor& out, int64_t token, const float* cos, const float* sin, int64_t half) {
  int64_t heads = x.size(1);
  const T* from = data<T>(x) + token * x.stride(0);
  T* to = mutable_data<T>(out) + token * heads * 2 * half;
  for (int64_t head = 0; head < heads; head++)
    rotate_head(from + head * x.stride(1), cos, sin, to + head * 2 * half, half);
}

std::tuple<Tensor, Tensor> rotary(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  Rotary op = rotary_prologue(q, k, cos, sin);
  int64_t token_size = (op.q_heads + op.k_heads) * 2 * op.half;
  if (token_size == 0) return {op.out_q, op.out_k};
  with_dtype(op.q.scalar_type(), [&](auto t) {
    using T = decltype(t);
    torch::stable::parallel_for(0, op.num_tokens, 1 + 16384 / token_size, [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; token++) {
        const float* cos = data<float>(op.cos) + token * op.half;
        const float* sin = data<float>(op.sin) + token * op.half;
        rotate_token<T>(op.q, op.out_q, token, cos, sin, op.half);
        rotate_token<T>(op.k, op.out_k, token, cos, sin, op.half);
      }
    });
  });
  return {op.out_q, op.out_k};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("rotary", TORCH_BOX(&rotary)); }

}  // namespace pangu
