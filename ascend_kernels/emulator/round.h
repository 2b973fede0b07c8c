// Rounding in the modes of Cast: to integers, which saturate, and to floats with fewer bits.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "float16.h"

namespace AscendC::emulator {

// Whether what remains is rounded up in magnitude, where `rest` of `2 * tie` is cut off.
inline bool rounds_up(RoundMode mode, bool negative, bool odd, uint64_t rest, uint64_t tie) {
  switch (mode) {
    case RoundMode::CAST_FLOOR:
      return negative && rest;
    case RoundMode::CAST_CEIL:
      return !negative && rest;
    case RoundMode::CAST_ROUND:
      return rest >= tie;
    case RoundMode::CAST_TRUNC:
      return false;
    case RoundMode::CAST_ODD:
      return rest && !odd;
    default:
      return rest > tie || (rest == tie && odd);
  }
}

inline uint16_t round_half(float value, RoundMode mode) {
  const uint32_t word = bits_of<uint32_t>(value), magnitude = word & 0x7fffffffu, sign = word >> 16 & 0x8000;
  if (magnitude >= 0x7f800000u || mode == RoundMode::CAST_RINT || mode == RoundMode::CAST_NONE)
    return round_half(value);
  uint32_t kept, rest, tie = 1 << 12;
  if (magnitude >= 0x47800000u) {  // 65536 and more: nearest to inf
    kept = 0x7bff, rest = 2 * tie - 1;
  } else if (magnitude >= 0x38800000u) {
    kept = (magnitude - (112u << 23)) >> 13, rest = magnitude & 0x1fff;
  } else {  // subnormal, in units of 2^-24
    const int exponent = static_cast<int>(magnitude >> 23), shift = std::min(126 - std::max(exponent, 1), 30);
    const uint32_t significand = (magnitude & 0x7fffff) | (exponent ? 0x800000u : 0);
    kept = significand >> shift, rest = significand & ((1u << shift) - 1), tie = 1u << (shift - 1);
  }
  return static_cast<uint16_t>(sign | (kept + rounds_up(mode, sign, kept & 1, rest, tie)));
}

inline bfloat16_t round_bfloat16(float value, RoundMode mode) {
  if (mode == RoundMode::CAST_RINT || value != value) return bfloat16_t(value);
  const uint32_t word = bits_of<uint32_t>(value);
  bfloat16_t result;
  const bool up = rounds_up(mode, word >> 31, word >> 16 & 1, word & 0xffff, 0x8000);
  result.bits = static_cast<uint16_t>((word >> 16) + up);
  return result;
}

// An integral value as a float of `digits` bits.
inline float round_integer(int64_t value, RoundMode mode, int digits) {
  const bool negative = value < 0;
  uint64_t magnitude = negative ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  int shift = 0;
  if (magnitude >> digits) {
    shift = 64 - __builtin_clzll(magnitude) - digits;
    const uint64_t rest = magnitude & ((uint64_t{1} << shift) - 1);
    magnitude >>= shift;
    magnitude += rounds_up(mode, negative, magnitude & 1, rest, uint64_t{1} << (shift - 1));
  }
  const float result = std::ldexp(static_cast<float>(magnitude), shift);
  return negative ? -result : result;
}

template <class F>
inline F round_to_integral(F value, RoundMode mode) {
  switch (mode) {
    case RoundMode::CAST_FLOOR:
      return std::floor(value);
    case RoundMode::CAST_CEIL:
      return std::ceil(value);
    case RoundMode::CAST_ROUND:
      return std::round(value);
    case RoundMode::CAST_TRUNC:
      return std::trunc(value);
    default:
      return std::nearbyint(value);
  }
}

// What does not fit becomes the nearest that does; NaN becomes 0.
template <class Int>
inline Int saturate(float integral) {
  constexpr float low = static_cast<float>(std::numeric_limits<Int>::min());
  constexpr float high = static_cast<float>(std::numeric_limits<Int>::max());  // rounded up for long types
  if (integral != integral) return 0;
  if (integral >= high) return std::numeric_limits<Int>::max();
  return integral <= low ? std::numeric_limits<Int>::min() : static_cast<Int>(integral);
}

template <class Int>
inline Int saturate(int64_t value) {
  return static_cast<Int>(
      std::min<int64_t>(std::max<int64_t>(value, std::numeric_limits<Int>::min()), std::numeric_limits<Int>::max()));
}

}  // namespace AscendC::emulator
