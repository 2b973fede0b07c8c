// attention_ffn: one dense decoder block. In the matrix products threads own columns and read every weight once; in
// between they own whole tokens, and in the attention a KV head of some tokens (cpu/attention.h).
#include "common/attention_ffn.h"

#include <torch/csrc/stable/library.h>

#include "cpu/attention.h"
#include "cpu/linear.h"
#include "cpu/norm.h"
#include "cpu/rotate.h"

namespace pangu {
namespace {

template <class T>
void run(const AttentionFfn& op) {
  int64_t hidden = op.hidden, size = op.paging.head_dim, kv_heads = op.paging.kv_heads, q_heads = op.q_heads;
  int64_t q_size = q_heads * size, qkv_size = q_size + 2 * kv_heads * size;
  Tensor rows = empty_of(op.x, {op.num_tokens, std::max(hidden, q_size)});
  Tensor projected = empty_of(op.x, {op.num_tokens, qkv_size}), middle = empty_of(op.x, {op.num_tokens, hidden});
  const T* x = data<T>(op.x);
  T *buffer = mutable_data<T>(rows), *qkv = mutable_data<T>(projected), *residual = mutable_data<T>(middle);
  auto hidden_row = [=](int64_t token) { return buffer + token * hidden; };

  normalise_rows(x, data<T>(op.input_norm), buffer, op.num_tokens, hidden, op.eps);
  const T* qkv_bias = op.qkv_bias ? data<T>(*op.qkv_bias) : nullptr;
  linear_into(hidden_row, op.num_tokens, data<T>(op.qkv_weight), qkv_bias, qkv_size, hidden, op.x, qkv);

  PagedCache<T> cache(op.paging);
  const float *cos = data<float>(op.cos), *sin = data<float>(op.sin);
  cache.for_tokens([&](int64_t token, int64_t sequence, int64_t position) {
    const float *c = cos + token * (size / 2), *s = sin + token * (size / 2);
    T *q = qkv + token * qkv_size, *k = q + q_size, *v = k + kv_heads * size;
    for (int64_t head = 0; head < q_heads; head++) rotate_head(q + head * size, c, s, q + head * size, size / 2);
    for (int64_t head = 0; head < kv_heads; head++) {
      int64_t at = cache.offset(sequence, head, position);
      rotate_head(k + head * size, c, s, cache.keys + at, size / 2);
      std::copy_n(v + head * size, size, cache.values + at);
    }
  });
  QueryHeads<T> queries{qkv, q_heads, qkv_size, size};
  attend(cache, queries, float(1.0 / std::sqrt(double(size))), buffer);

  const T* o_bias = op.o_bias ? data<T>(*op.o_bias) : nullptr;
  linear([=](int64_t token) { return buffer + token * q_size; }, op.num_tokens, data<T>(op.o_weight), hidden, q_size,
         op.x, [=](int64_t token, int64_t column, const float* products, int64_t count) {
           int64_t at = token * hidden + column;
           for_vectors(count, [&](int64_t i, auto load, auto store) {
             vf sum = load(products + i) + load(x + at + i);
             store(residual + at + i, o_bias ? sum + load(o_bias + column + i) : sum);
           });
         });

  normalise_rows<T>(residual, data<T>(op.ffn_norm), buffer, op.num_tokens, hidden, op.eps);
  T* out = mutable_data<T>(op.out);
  feed_forward(hidden_row, op.num_tokens, data<T>(op.gate_up), data<T>(op.down), hidden, op.intermediate, op.x,
               [=](int64_t token, int64_t column, const float* products, int64_t count) {
                 int64_t at = token * hidden + column;
                 for_vectors(count, [&](int64_t i, auto load, auto store) {
                   store(out + at + i, load(products + i) + load(residual + at + i));
                 });
               });
}

Tensor attention_ffn(const Tensor& x, const Tensor& input_norm, const Tensor& qkv_weight,
                     std::optional<Tensor> qkv_bias, const Tensor& o_weight, std::optional<Tensor> o_bias,
                     const Tensor& ffn_norm, const Tensor& gate_up, const Tensor& down, const Tensor& cos,
                     const Tensor& sin, const Tensor& key_cache, const Tensor& value_cache, const Tensor& block_table,
                     const Tensor& context_lens, const Tensor& query_starts, double eps) {
  AttentionFfn op = attention_ffn_prologue(x, input_norm, qkv_weight, qkv_bias, o_weight, o_bias, ffn_norm, gate_up,
                                           down, cos, sin, key_cache, value_cache, block_table, context_lens,
                                           query_starts, eps);
  check_paging_values("attention_ffn", op.paging, op.num_tokens);
  if (op.num_tokens == 0) return op.out;
  with_dtype(op.x.scalar_type(), [&](auto t) { run<decltype(t)>(op); });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("attention_ffn", TORCH_BOX(&attention_ffn)); }

}  // namespace pangu
