// Normalising one row: shared by rms_norm and add_rms_norm, so that the two agree bit for bit.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "cpu/isa/vec.h"

namespace pangu {

template <class T>
void normalise(const T* x, const T* weight, T* out, int64_t hidden, float eps) {
  constexpr int CHAINS = 4;  // independent sums: one alone would wait for itself at every step
  vf squares[CHAINS] = {};
  int64_t whole = hidden - hidden % (CHAINS * LANES);
  for (int64_t i = 0; i < whole; i += CHAINS * LANES)
    for (int chain = 0; chain < CHAINS; chain++) {
      vf v = load(x + i + chain * LANES);
      squares[chain] += v * v;
    }
  for_vectors(hidden - whole, [&](int64_t i, auto load, auto) {
    vf v = load(x + whole + i);
    squares[0] += v * v;
  });
  float mean = sum((squares[0] + squares[1]) + (squares[2] + squares[3])) / hidden;
  float scale = 1.0f / std::sqrt(mean + eps);
  for_vectors(hidden, [&](int64_t i, auto load, auto store) {
    store(out + i, load(x + i) * scale * load(weight + i));
  });
}

// [rows, hidden] of x into out.
template <class T>
void normalise_rows(const T* x, const T* weight, T* out, int64_t num_rows, int64_t hidden, float eps) {
  torch::stable::parallel_for(0, num_rows, 1 + 16384 / hidden, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) normalise(x + row * hidden, weight, out + row * hidden, hidden, eps);
  });
}

}  // namespace pangu
