// rotary: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include <utility>
#include <vector>

#include "common/dtype.h"

namespace pangu {

struct Rotary {
  Tensor q, k, cos, sin, out_q, out_k;
  int64_t num_tokens, q_heads, k_heads, half;
};

// Heads are read where they lie, as slices of a fused projection, as long as a head itself is contiguous.
inline Tensor dense_heads(const Tensor& heads) {
  return heads.stride(2) == 1 ? heads : torch::stable::contiguous(heads);
}

inline void check_tables(const char* op, const Tensor& cos, const Tensor& sin, int64_t num_tokens, int64_t half) {
  std::string sizes = list(std::vector<int64_t>{num_tokens, half});
  for (auto [name, table] : {std::pair("cos", &cos), std::pair("sin", &sin)}) {
    PANGU_CHECK(list(table->sizes()) == sizes, op, std::string(name) + " must be [T, D/2] = " + sizes, *table);
    check_dtype(op, name, *table, ScalarType::Float);
  }
}

inline Rotary rotary_prologue(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  PANGU_CHECK(q.dim() == 3 && q.size(2) % 2 == 0 && q.size(2) >= 2, "rotary", "q must be [T, Hq, D] with an even D", q);
  PANGU_CHECK(k.dim() == 3 && k.size(0) == q.size(0) && k.size(2) == q.size(2), "rotary",
              "k must be [T, Hk, D] with the T and D of q", k);
  check_float("rotary", "q", q);
  check_dtype_of("rotary", "k", k, "q", q);
  int64_t num_tokens = q.size(0), half = q.size(2) / 2;
  check_tables("rotary", cos, sin, num_tokens, half);
  Tensor out_q = torch::stable::new_empty(q, q.sizes(), q.scalar_type());
  Tensor out_k = torch::stable::new_empty(k, k.sizes(), k.scalar_type());
  return {dense_heads(q), dense_heads(k), dense(cos), dense(sin), out_q, out_k, num_tokens, q.size(1), k.size(1), half};
}

}  // namespace pangu
