// Vectors of 16 floats: AVX-512 F, BW, VL and DQ, and the pairs of bfloat16 of AVX512-BF16.
#pragma once

#include <immintrin.h>

#include "common/dtype.h"

namespace pangu {

constexpr int LANES = 16;
typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));

// 16-bit elements, zero-extended.
inline vi load_widened(const bf16* p) {
  return (vi)_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

// The low 16 bits of elements below 2^16.
inline void store_narrowed(bf16* p, vi v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16((__m512i)v));
}

#if defined(PANGU_ISA_AMX) || defined(PANGU_ISA_AVX512BF16)
#define PANGU_BF16_PAIRS
typedef __m512bh pairs;
inline pairs load_pairs(const bf16* p) { return (pairs)_mm512_loadu_si512(p); }
// sum + the products of both elements of every pair
inline vf add_pairs(vf sum, pairs a, pairs b) { return (vf)_mm512_dpbf16_ps((__m512)sum, a, b); }
#endif

inline vf load_halves(const f16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

inline void store_halves(f16* p, vf v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

inline float sum(vf v) { return _mm512_reduce_add_ps(v); }

// Of two lanes, b where one is NaN.
inline vf max(vf a, vf b) { return _mm512_max_ps(a, b); }
inline vf min(vf a, vf b) { return _mm512_min_ps(a, b); }

inline float max(vf v) { return _mm512_reduce_max_ps(v); }

// The first lane that equals value; there must be one.
inline int first_equal(vf v, float value) {
  return __builtin_ctz(_mm512_cmpeq_ps_mask(v, _mm512_set1_ps(value)));
}

}  // namespace pangu
