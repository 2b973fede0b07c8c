// moge_combine: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/dtype.h"

namespace pangu {

struct MogeCombine {
  Tensor rows, weights, slot_rows;
  std::optional<Tensor> addend;
  Tensor out;
  int64_t num_rows, num_tokens, num_slots, hidden;
};

inline MogeCombine moge_combine_prologue(const Tensor& rows, const Tensor& weights, const Tensor& slot_rows,
                                         std::optional<Tensor> addend) {
  const char* op = "moge_combine";
  PANGU_CHECK(rows.dim() == 2, op, "rows must be [R, H]", rows);
  check_float(op, "rows", rows);
  PANGU_CHECK(slot_rows.dim() == 2, op, "slot_rows must be [T, K]", slot_rows);
  check_dtype(op, "slot_rows", slot_rows, ScalarType::Int);
  PANGU_CHECK(same_shape(weights, slot_rows), op, "weights must have the shape of slot_rows", weights);
  check_dtype(op, "weights", weights, ScalarType::Float);
  int64_t num_tokens = slot_rows.size(0), hidden = rows.size(1);
  if (addend) {
    PANGU_CHECK(addend->dim() == 2 && addend->size(0) == num_tokens && addend->size(1) == hidden, op,
                "addend must be [T, H]", *addend);
    check_dtype_of(op, "addend", *addend, "rows", rows);
    addend = dense(*addend);
  }
  return {dense(rows), dense(weights), dense(slot_rows), addend, empty_of(rows, {num_tokens, hidden}),
          rows.size(0), num_tokens, slot_rows.size(1), hidden};
}

}  // namespace pangu
