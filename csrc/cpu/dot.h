// Dot products of a few rows with a panel of weight rows, all read where they lie in memory: a checkpoint's [out, in]
// matrix needs no packing, and twelve rows are twelve streams for the memory to keep busy.
//
// Every product is summed in the same order whatever the number of rows, so on this path a token's result does not
// depend on its batch mates.
#pragma once

#include "cpu/isa/vec.h"

namespace pangu {

constexpr int PANEL = 12;  // weight rows side by side
constexpr int TILE = 3;    // rows of x side by side

// out[m * PANEL + n] = sum over k of x[m][k] * w[n][k], for M rows of x and N of w.
template <int M, int N, class X, class W>
void dot_tile(const X* const* x, const W* const* w, int64_t size, float* out) {
  vf total[M][N] = {};
  auto step = [&](int64_t k, auto load) __attribute__((always_inline)) {
    vf rows[M];
#pragma GCC unroll 12
    for (int m = 0; m < M; m++) rows[m] = load(x[m] + k);
#pragma GCC unroll 12
    for (int n = 0; n < N; n++) {
      vf weight = load(w[n] + k);
#pragma GCC unroll 12
      for (int m = 0; m < M; m++) total[m][n] += rows[m] * weight;
    }
  };
  int64_t k = 0;
  for (; k + LANES <= size; k += LANES) step(k, [](auto* p) { return load(p); });
  if (int64_t rest = size - k) step(k, [=](auto* p) { return load_first(p, rest); });
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) out[m * PANEL + n] = sum(total[m][n]);
}

template <int M, class X, class W>
void dot_panel(const X* const* x, const W* const* w, int64_t size, float* out) {
  // As many weight rows at once as the accumulators leave registers for: 32 of AVX-512, 16 elsewhere.
  constexpr int N = LANES != 16 ? PANEL / M : M < 3 ? PANEL : PANEL / 2;
  for (int n = 0; n < PANEL; n += N) dot_tile<M, N>(x, w + n, size, out + n);
}

// The products of up to TILE rows of x with the PANEL rows of w.
template <class X, class W>
void dot(const X* const* x, int64_t num_rows, const W* const* w, int64_t size, float* out) {
  switch (num_rows) {
    case 1: return dot_panel<1>(x, w, size, out);
    case 2: return dot_panel<2>(x, w, size, out);
    default: return dot_panel<3>(x, w, size, out);
  }
}

}  // namespace pangu
