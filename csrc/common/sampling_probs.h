// sampling_probs: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/dtype.h"

namespace pangu {

struct SamplingProbs {
  Tensor logits, temperature, top_k, top_p, probs;
  int64_t num_rows, num_ids;
};

inline SamplingProbs sampling_probs_prologue(const Tensor& logits, const Tensor& temperature, const Tensor& top_k,
                                             const Tensor& top_p) {
  const char* op = "sampling_probs";
  PANGU_CHECK(logits.dim() == 2, op, "logits must be [T, V]", logits);
  check_float(op, "logits", logits);
  int64_t num_rows = logits.size(0), num_ids = logits.size(1);
  PANGU_CHECK(num_ids >= 1, op, "the vocabulary must have at least one id", num_ids);
  auto check_per_row = [&](const char* name, const Tensor& tensor, ScalarType dtype) {
    PANGU_CHECK(tensor.dim() == 1 && tensor.size(0) == num_rows, op,
                std::string(name) + " must be [T] = [" + std::to_string(num_rows) + "]", tensor);
    check_dtype(op, name, tensor, dtype);
  };
  check_per_row("temperature", temperature, ScalarType::Float);
  check_per_row("top_k", top_k, ScalarType::Int);
  check_per_row("top_p", top_p, ScalarType::Float);
  return {dense(logits), dense(temperature), dense(top_k), dense(top_p),
          empty_of(logits, {num_rows, num_ids}, ScalarType::Float), num_rows, num_ids};
}

}  // namespace pangu
