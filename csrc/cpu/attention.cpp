// attention: first every thread copies whole tokens' keys and values into the cache, then each takes tokens of one KV
// head (cpu/attention.h).
#include "common/attention.h"

#include <torch/csrc/stable/library.h>

#include "cpu/attention.h"

namespace pangu {
namespace {

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& key_cache, const Tensor& value_cache,
                 const Tensor& block_table, const Tensor& context_lens, const Tensor& query_starts,
                 std::optional<double> scale) {
  Attention op =
      attention_prologue(q, k, v, key_cache, value_cache, block_table, context_lens, query_starts, scale);
  check_paging_values("attention", op.paging, op.num_tokens);
  if (op.out.numel() == 0) return op.out;
  with_dtype(op.q.scalar_type(), [&](auto t) {
    using T = decltype(t);
    PagedCache<T> cache(op.paging);
    QueryHeads<T> queries{data<T>(op.q), op.q_heads, op.q.stride(0), op.q.stride(1)};
    const T *keys = data<T>(op.k), *values = data<T>(op.v);
    int64_t size = cache.head_dim, key_token = op.k.stride(0), key_head = op.k.stride(1);
    int64_t value_token = op.v.stride(0), value_head = op.v.stride(1);
    cache.for_tokens([&](int64_t token, int64_t sequence, int64_t position) {
      for (int64_t head = 0; head < cache.kv_heads; head++) {
        int64_t at = cache.offset(sequence, head, position);
        std::copy_n(keys + token * key_token + head * key_head, size, cache.keys + at);
        std::copy_n(values + token * value_token + head * value_head, size, cache.values + at);
      }
    });
    attend(cache, queries, float(op.scale), mutable_data<T>(op.out));
  });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("attention", TORCH_BOX(&attention)); }

}  // namespace pangu
