// moge_combine: every thread owns whole tokens and walks their K rows side by side, so that K streams are read at once
// and each output element is written once.
#include "common/moge_combine.h"

#include <torch/csrc/stable/library.h>

#include <vector>

#include "cpu/isa/vec.h"

namespace pangu {
namespace {

template <class T>
struct WeightedRow {
  const T* row;
  float weight;
};

template <class T>
void combine_token(const std::vector<WeightedRow<T>>& chosen, const T* addend, T* out, int64_t hidden) {
  constexpr int BLOCK = 4;  // vectors of each row at a time: independent sums, and whole lines of every stream
  int64_t whole = hidden - hidden % (BLOCK * LANES);
  for (int64_t i = 0; i < whole; i += BLOCK * LANES) {
    vf total[BLOCK] = {};
    for (const auto& [row, weight] : chosen)
      for (int j = 0; j < BLOCK; j++) total[j] += load(row + i + j * LANES) * weight;
    for (int j = 0; j < BLOCK; j++) {
      int64_t at = i + j * LANES;
      store(out + at, addend ? total[j] + load(addend + at) : total[j]);
    }
  }
  for_vectors(hidden - whole, [&](int64_t i, auto load, auto store) {
    vf total = {};
    for (const auto& [row, weight] : chosen) total += load(row + whole + i) * weight;
    store(out + whole + i, addend ? total + load(addend + whole + i) : total);
  });
}

Tensor moge_combine(const Tensor& rows, const Tensor& weights, const Tensor& slot_rows, std::optional<Tensor> addend) {
  MogeCombine op = moge_combine_prologue(rows, weights, slot_rows, addend);
  with_dtype(op.rows.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *rows = data<T>(op.rows), *addend = op.addend ? data<T>(*op.addend) : nullptr;
    const float* weights = data<float>(op.weights);
    const int32_t* slot_rows = data<int32_t>(op.slot_rows);
    T* out = mutable_data<T>(op.out);
    int64_t token_size = 1 + op.num_slots * op.hidden;
    torch::stable::parallel_for(0, op.num_tokens, 1 + 16384 / token_size, [&](int64_t begin, int64_t end) {
      std::vector<WeightedRow<T>> chosen;
      for (int64_t token = begin; token < end; token++) {
        chosen.clear();
        for (int64_t slot = token * op.num_slots; slot < (token + 1) * op.num_slots; slot++) {
          int64_t row = slot_rows[slot];
          if (0 <= row && row < op.num_rows) chosen.push_back({rows + row * op.hidden, weights[slot]});
        }
        combine_token(chosen, addend ? addend + token * op.hidden : nullptr, out + token * op.hidden, op.hidden);
      }
    });
  });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("moge_combine", TORCH_BOX(&moge_combine)); }

}  // namespace pangu
