// attention_ffn: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/attention.h"

namespace pangu {

struct AttentionFfn {
  Tensor x, input_norm, qkv_weight, o_weight, ffn_norm, gate_up, down, cos, sin;
  std::optional<Tensor> qkv_bias, o_bias;
  Paging paging;
  Tensor out;
  int64_t num_tokens, hidden, q_heads, intermediate;
  double eps;
};

inline AttentionFfn attention_ffn_prologue(const Tensor& x, const Tensor& input_norm, const Tensor& qkv_weight,
                                           std::optional<Tensor> qkv_bias, const Tensor& o_weight,
                                           std::optional<Tensor> o_bias, const Tensor& ffn_norm, const Tensor& gate_up,
                                           const Tensor& down, const Tensor& cos, const Tensor& sin,
                                           const Tensor& key_cache, const Tensor& value_cache,
                                           const Tensor& block_table, const Tensor& context_lens,
                                           const Tensor& query_starts, double eps) {
  const char* op = "attention_ffn";
  PANGU_CHECK(x.dim() == 2 && x.size(1) > 0, op, "x must be [T, H]", x);
  check_float(op, "x", x);
  Paging paging = paging_prologue(op, "x", x, key_cache, value_cache, block_table, context_lens, query_starts);
  int64_t num_tokens = x.size(0), hidden = x.size(1), kv_heads = paging.kv_heads, size = paging.head_dim;
  PANGU_CHECK(size % 2 == 0, op, "key_cache must be [N, Hk, block, D] with an even D", key_cache);
  PANGU_CHECK(o_weight.dim() == 2 && o_weight.size(0) == hidden && o_weight.size(1) > 0 &&
                  o_weight.size(1) % (kv_heads * size) == 0,
              op, "o_weight must be [H, Hq*D] with a multiple of the Hk heads of key_cache", o_weight);
  int64_t q_heads = o_weight.size(1) / size;
  PANGU_CHECK(gate_up.dim() == 2 && gate_up.size(0) % 2 == 0 && gate_up.size(1) == hidden, op,
              "gate_up must be [2*I, H] with the H of x", gate_up);
  int64_t intermediate = gate_up.size(0) / 2, qkv_rows = (q_heads + 2 * kv_heads) * size;
  auto check_part = [&](const char* name, const char* shape, const Tensor& part, std::vector<int64_t> sizes) {
    PANGU_CHECK(list(part.sizes()) == list(sizes), op, std::string(name) + " must be " + shape + " = " + list(sizes),
                part);
    check_dtype_of(op, name, part, "x", x);
  };
  check_part("input_norm", "[H]", input_norm, {hidden});
  check_part("qkv_weight", "[(Hq+2*Hk)*D, H]", qkv_weight, {qkv_rows, hidden});
  if (qkv_bias) check_part("qkv_bias", "[(Hq+2*Hk)*D]", *qkv_bias, {qkv_rows});
  check_dtype_of(op, "o_weight", o_weight, "x", x);
  if (o_bias) check_part("o_bias", "[H]", *o_bias, {hidden});
  check_part("ffn_norm", "[H]", ffn_norm, {hidden});
  check_dtype_of(op, "gate_up", gate_up, "x", x);
  check_part("down", "[H, I]", down, {hidden, intermediate});
  check_tables(op, cos, sin, num_tokens, size / 2);
  if (qkv_bias) qkv_bias = dense(*qkv_bias);
  if (o_bias) o_bias = dense(*o_bias);
  return {dense(x),   dense(input_norm), dense(qkv_weight), dense(o_weight), dense(ffn_norm),
          dense(gate_up), dense(down),   dense(cos),        dense(sin),      qkv_bias,
          o_bias,     paging,            empty_of(x, {num_tokens, hidden}),  num_tokens, hidden,
          q_heads,    intermediate,      eps};
}

}  // namespace pangu
