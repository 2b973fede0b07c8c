// Vectors of 4 floats that every CPU can run (SSE2, NEON); half precision goes through integer arithmetic.
#pragma once

#include <cstring>

#include "common/dtype.h"

namespace pangu {

constexpr int LANES = 4;
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint16_t vh __attribute__((vector_size(8)));

inline float half_to_float(uint16_t half) {
  uint32_t bits = uint32_t(half & 0x7fff) << 13, exponent = bits & 0x0f800000;
  bits += 112u << 23;
  if (exponent == 0x0f800000) bits += 112u << 23;  // inf and NaN
  float value;
  if (exponent == 0) {  // zero and subnormal: let the subtraction normalise
    bits += 1u << 23;
    std::memcpy(&value, &bits, 4);
    value -= 0x1p-14f;
    std::memcpy(&bits, &value, 4);
  }
  bits |= uint32_t(half & 0x8000) << 16;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline uint16_t float_to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  uint16_t sign = (bits >> 16) & 0x8000;
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) return sign | 0x7e00;
  if (bits >= 0x477ff000) return sign | 0x7c00;  // rounds to 65536 or more
  if (bits < 0x38800000) {                       // subnormal: the addition rounds
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    return sign | uint16_t(bits - 0x3f000000);
  }
  return sign | uint16_t((bits - 0x38000000 + 0xfff + ((bits >> 13) & 1)) >> 13);
}

// 16-bit elements, zero-extended.
inline vi load_widened(const bf16* p) {
  vh halves;
  std::memcpy(&halves, p, sizeof halves);
  return __builtin_convertvector(halves, vi);
}

// The low 16 bits of elements below 2^16.
inline void store_narrowed(bf16* p, vi v) {
  vh halves = __builtin_convertvector(v, vh);
  std::memcpy(p, &halves, sizeof halves);
}

inline vf load_halves(const f16* p) {
  vf v;
  for (int i = 0; i < LANES; i++) v[i] = half_to_float(p[i].bits);
  return v;
}

inline void store_halves(f16* p, vf v) {
  for (int i = 0; i < LANES; i++) p[i].bits = float_to_half(v[i]);
}

inline float sum(vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }

// Of two lanes, b where one is NaN.
inline vf max(vf a, vf b) { return a > b ? a : b; }
inline vf min(vf a, vf b) { return a < b ? a : b; }

inline float max(vf v) {
  float low = v[0] > v[2] ? v[0] : v[2], high = v[1] > v[3] ? v[1] : v[3];
  return low > high ? low : high;
}

// The first lane that equals value; there must be one.
inline int first_equal(vf v, float value) {
  int lane = 0;
  while (v[lane] != value) lane++;
  return lane;
}

}  // namespace pangu
