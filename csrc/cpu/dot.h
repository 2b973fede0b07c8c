// Dot products of a few rows with a panel of weight rows, all read where they lie in memory: a checkpoint's [out, in]
// matrix needs no packing, and twelve rows are twelve streams for the memory to keep busy.
//
// Every product is summed in the same order whatever the number of rows, so on this path a token's result does not
// depend on its batch mates.
#pragma once

#include "cpu/isa/vec.h"

namespace pangu {

constexpr int PANEL = 12;                  // weight rows side by side
constexpr int TILE = LANES == 16 ? 4 : 3;  // rows of x side by side, as registers allow

// How a vector's worth of x and of w is read and multiplied into a sum: in fp32, except where the CPU has an
// instruction that adds the products of pairs of bfloat16 to fp32 sums, taking subnormal numbers for zeros.
template <class X, class W>
struct Step {
  static constexpr int SIZE = LANES;
  template <class T>
  static vf read(const T* p) {
    return load(p);
  }
  template <class T>
  static vf read_first(const T* p, int64_t n) {
    return load_first(p, n);
  }
  static vf multiply_add(vf x, vf w, vf sum) { return sum + x * w; }
};

#ifdef PANGU_BF16_PAIRS
template <>
struct Step<bf16, bf16> {
  static constexpr int SIZE = 2 * LANES;
  static pairs read(const bf16* p) { return load_pairs(p); }
  static pairs read_first(const bf16* p, int64_t n) {
    bf16 buffer[SIZE] = {};
    std::memcpy(buffer, p, n * sizeof(bf16));
    return load_pairs(buffer);
  }
  static vf multiply_add(pairs x, pairs w, vf sum) { return add_pairs(sum, x, w); }
};
#endif

// out[m * PANEL + n] = sum over k of x[m][k] * w[n][k], for M rows of x and N of w.
template <int M, int N, class X, class W>
void dot_tile(const X* const* x, const W* const* w, int64_t size, float* out) {
  using Step = Step<X, W>;
  constexpr int GROUPS = (M * N + LANES - 1) / LANES;
  vf total[GROUPS * LANES] = {};  // of (m, n), and some that stay zero
  auto step = [&](int64_t k, auto read_x, auto read_w) __attribute__((always_inline)) {
    decltype(read_x(x[0])) rows[M];
#pragma GCC unroll 12
    for (int m = 0; m < M; m++) rows[m] = read_x(x[m] + k);
#pragma GCC unroll 12
    for (int n = 0; n < N; n++) {
      auto weight = read_w(w[n] + k);
#pragma GCC unroll 12
      for (int m = 0; m < M; m++) total[m * N + n] = Step::multiply_add(rows[m], weight, total[m * N + n]);
    }
  };
  int64_t k = 0;
  for (; k + Step::SIZE <= size; k += Step::SIZE)
    step(k, [](auto* p) { return Step::read(p); }, [](auto* p) { return Step::read(p); });
  if (int64_t rest = size - k)
    step(k, [=](auto* p) { return Step::read_first(p, rest); }, [=](auto* p) { return Step::read_first(p, rest); });
  float sums[GROUPS * LANES];
  for (int group = 0; group < GROUPS; group++) store(sums + group * LANES, sum_each(total + group * LANES));
  for (int m = 0; m < M; m++) std::memcpy(out + m * PANEL, sums + m * N, N * sizeof(float));
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
    case 3: return dot_panel<3>(x, w, size, out);
    default: return dot_panel<TILE>(x, w, size, out);
  }
}

}  // namespace pangu
