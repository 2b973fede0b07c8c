// Vectors of 8 floats: AVX2, FMA and F16C.
#pragma once

#include <immintrin.h>

#include "common/dtype.h"

namespace pangu {

constexpr int LANES = 8;
typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));

// 16-bit elements, zero-extended. The compiler's own conversion takes four instructions for this one.
inline vi load_widened(const bf16* p) {
  return (vi)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// The low 16 bits of elements below 2^16.
inline void store_narrowed(bf16* p, vi v) {
  __m256i packed = _mm256_packus_epi32((__m256i)v, (__m256i)v);
  packed = _mm256_permute4x64_epi64(packed, 0x88);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

inline vf load_halves(const f16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

inline void store_halves(f16* p, vf v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

inline float sum(vf v) {
  __m128 four = _mm256_castps256_ps128(v) + _mm256_extractf128_ps(v, 1);
  __m128 two = four + _mm_movehl_ps(four, four);
  return two[0] + two[1];
}

// Of two lanes, b where one is NaN.
inline vf max(vf a, vf b) { return _mm256_max_ps(a, b); }
inline vf min(vf a, vf b) { return _mm256_min_ps(a, b); }

inline float max(vf v) {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return two[0] > two[1] ? two[0] : two[1];
}

// The first lane that equals value; there must be one.
inline int first_equal(vf v, float value) {
  return __builtin_ctz(_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(value), _CMP_EQ_OQ)));
}

}  // namespace pangu
