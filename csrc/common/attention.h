// attention: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include <cmath>
#include <vector>

#include "common/rotary.h"

namespace pangu {

// A batch of sequences whose keys and values lie in blocks: what attention and attention_ffn share.
struct Paging {
  Tensor key_cache, value_cache, block_table, context_lens, query_starts;
  int64_t num_sequences, max_blocks, num_blocks, kv_heads, block_size, head_dim;
};

inline Paging paging_prologue(const char* op, const char* x_name, const Tensor& x, const Tensor& key_cache,
                              const Tensor& value_cache, const Tensor& block_table, const Tensor& context_lens,
                              const Tensor& query_starts) {
  PANGU_CHECK(key_cache.dim() == 4 && key_cache.size(1) > 0 && key_cache.size(2) > 0 && key_cache.size(3) > 0, op,
              "key_cache must be [N, Hk, block, D]", key_cache);
  PANGU_CHECK(same_shape(value_cache, key_cache), op, "value_cache must have the shape of key_cache", value_cache);
  for (auto [name, cache] : {std::pair("key_cache", &key_cache), std::pair("value_cache", &value_cache)}) {
    check_dtype_of(op, name, *cache, x_name, x);
    PANGU_CHECK(cache->is_contiguous(), op, std::string(name) + " must be contiguous, since it is written", "strides");
  }
  PANGU_CHECK(block_table.dim() == 2, op, "block_table must be [B, M]", block_table);
  int64_t batch = block_table.size(0);
  PANGU_CHECK(context_lens.dim() == 1 && context_lens.size(0) == batch, op,
              "context_lens must be [B] with the B of block_table", context_lens);
  PANGU_CHECK(query_starts.dim() == 1 && query_starts.size(0) == batch + 1, op,
              "query_starts must be [B+1] with the B of block_table", query_starts);
  check_dtype(op, "block_table", block_table, ScalarType::Int);
  check_dtype(op, "context_lens", context_lens, ScalarType::Int);
  check_dtype(op, "query_starts", query_starts, ScalarType::Int);
  return {key_cache,           value_cache,         dense(block_table),  dense(context_lens),
          dense(query_starts), batch,               block_table.size(1), key_cache.size(0),
          key_cache.size(1),   key_cache.size(2),   key_cache.size(3)};
}

// The values that index memory; for kernels that run where they can be read.
inline void check_paging_values(const char* op, const Paging& paging, int64_t num_tokens) {
  const int32_t *starts = data<int32_t>(paging.query_starts), *lens = data<int32_t>(paging.context_lens),
                *table = data<int32_t>(paging.block_table);
  int64_t batch = paging.num_sequences, room = paging.max_blocks * paging.block_size;
  bool rising = starts[0] == 0 && starts[batch] == num_tokens;
  for (int64_t b = 0; b < batch; b++) rising &= starts[b] <= starts[b + 1];
  PANGU_CHECK(rising, op, "query_starts must rise from 0 to T = " + std::to_string(num_tokens), "other values");
  for (int64_t b = 0; b < batch; b++) {
    int64_t least = starts[b + 1] - starts[b];
    PANGU_CHECK(lens[b] >= least && lens[b] <= room, op,
                "context_lens must count the new tokens and be at most M * block = " + std::to_string(room),
                int64_t(lens[b]));
    for (int64_t i = 0; i * paging.block_size < lens[b]; i++) {
      int64_t block = table[b * paging.max_blocks + i];
      PANGU_CHECK(block >= 0 && block < paging.num_blocks, op,
                  "block_table must hold numbers of blocks below N = " + std::to_string(paging.num_blocks) +
                      " for every context",
                  block);
    }
  }
}

struct Attention {
  Tensor q, k, v;
  Paging paging;
  Tensor out;
  int64_t num_tokens, q_heads;
  double scale;
};

inline Attention attention_prologue(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& key_cache,
                                    const Tensor& value_cache, const Tensor& block_table, const Tensor& context_lens,
                                    const Tensor& query_starts, std::optional<double> scale) {
  const char* op = "attention";
  PANGU_CHECK(q.dim() == 3, op, "q must be [T, Hq, D]", q);
  check_float(op, "q", q);
  Paging paging = paging_prologue(op, "q", q, key_cache, value_cache, block_table, context_lens, query_starts);
  PANGU_CHECK(q.size(2) == paging.head_dim && q.size(1) > 0 && q.size(1) % paging.kv_heads == 0, op,
              "q must be [T, Hq, D] with the D of key_cache and a multiple of its Hk heads", q);
  std::string sizes = list(std::vector<int64_t>{q.size(0), paging.kv_heads, paging.head_dim});
  for (auto [name, heads] : {std::pair("k", &k), std::pair("v", &v)}) {
    PANGU_CHECK(list(heads->sizes()) == sizes, op, std::string(name) + " must be [T, Hk, D] = " + sizes, *heads);
    check_dtype_of(op, name, *heads, "q", q);
  }
  return {dense_heads(q), dense_heads(k), dense_heads(v), paging, empty_of(q, {q.size(0), q.size(1), q.size(2)}),
          q.size(0), q.size(1), scale.value_or(1.0 / std::sqrt(double(q.size(2))))};
}

}  // namespace pangu
