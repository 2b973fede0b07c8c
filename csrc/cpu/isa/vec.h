// What the kernels do with a vector, whatever its width: load, store, exp. The compiler's vector types carry the
// arithmetic (a * b + c becomes one FMA), so only what they cannot say is written per instruction set.
#pragma once

#include <cmath>
#include <cstring>
#include <utility>

#if defined(PANGU_ISA_AMX) || defined(PANGU_ISA_AVX512BF16) || defined(PANGU_ISA_AVX512)
#include "cpu/isa/avx512.h"
#elif defined(PANGU_ISA_AVX2)
#include "cpu/isa/avx2.h"
#else
#include "cpu/isa/generic.h"
#endif

namespace pangu {

inline vf splat(float value) { return vf{} + value; }

inline vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline vf load(const bf16* p) { return (vf)(load_widened(p) << 16); }

inline vf load(const f16* p) { return load_halves(p); }

inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }

inline void store(bf16* p, vf v) {
  vi bits = (vi)v;
  vi rounded = bits + 0x7fff + ((bits >> 16) & 1);     // to nearest, ties to even
  rounded = (v == v) ? rounded : (bits | 0x00400000);  // a NaN stays one
  store_narrowed(p, (rounded >> 16) & 0xffff);
}

inline void store(f16* p, vf v) { store_halves(p, v); }

// The first n < LANES elements; the other lanes are zero.
template <class T>
vf load_first(const T* p, int64_t n) {
  T buffer[LANES] = {};
  std::memcpy(buffer, p, n * sizeof(T));
  return load(buffer);
}

template <class T>
void store_first(T* p, vf v, int64_t n) {
  T buffer[LANES];
  store(buffer, v);
  std::memcpy(p, buffer, n * sizeof(T));
}

// Call body(index, load, store) for every vector of n elements, the last one partial.
template <class Body>
void for_vectors(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    body(i, [](auto* p) { return load(p); }, [](auto* p, vf v) { store(p, v); });
  if (int64_t rest = n - i)
    body(i, [=](auto* p) { return load_first(p, rest); }, [=](auto* p, vf v) { store_first(p, v, rest); });
}

// Lanes from n on get the filler.
inline vf keep_first(vf v, int64_t n, float filler) {
  vi lane;
  for (int i = 0; i < LANES; i++) lane[i] = i;
  return lane < int32_t(n) ? v : splat(filler);
}

// Lane i is lane from(i) of a and b, one behind the other.
template <class V, class From, int... LANE>
inline V shuffle(V a, V b, From from, std::integer_sequence<int, LANE...>) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, from(LANE)...);
#else
  return __builtin_shuffle(a, b, vi{from(LANE)...});
#endif
}

// Of every 2 * SIDE lanes the lower SIDE, those of a before those of b; and the upper ones.
template <int SIDE, class V>
inline V lower_blocks(V a, V b) {
  return shuffle(a, b, [](int lane) constexpr { return lane & SIDE ? LANES + lane - SIDE : lane; },
                 std::make_integer_sequence<int, LANES>());
}

template <int SIDE, class V>
inline V upper_blocks(V a, V b) {
  return shuffle(a, b, [](int lane) constexpr { return lane & SIDE ? LANES + lane : lane + SIDE; },
                 std::make_integer_sequence<int, LANES>());
}

// Lane i is the sum of all lanes of rows[i], for LANES rows, which it overwrites.
template <int SIDE = LANES / 2>
inline vf sum_each(vf* rows) {
  for (int i = 0; i < SIDE; i++)
    rows[i] = lower_blocks<SIDE>(rows[i], rows[i + SIDE]) + upper_blocks<SIDE>(rows[i], rows[i + SIDE]);
  if constexpr (SIDE > 1) {
    return sum_each<SIDE / 2>(rows);
  } else {
    return rows[0];
  }
}

// e^x to about 1 ulp; 0 below -88, inf above 88.4, NaN stays NaN. Both ends come from 2^n running out of exponents.
inline vf exp(vf x) {
  vf clamped = min(splat(89.0f), max(splat(-88.0f), x));
  vf magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  vf shifted = clamped * 1.44269504f + magic;
  vf n = shifted - magic;
  vf r = clamped - n * 0.693145752f;
  r = r - n * 1.42860677e-6f;
  vf p = splat(1.38888889e-3f);
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * (vf)(((vi)shifted << 23) + (127 << 23));
}

inline vf silu(vf x) { return x / (1.0f + exp(-x)); }

}  // namespace pangu
