// half as vector lanes see it: widened to float, rounded once. In plain integer steps, which every compiler turns into
// vector code; the conversions of the language call a function for each element where the processor has none.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "types.h"

namespace AscendC::emulator {

template <class To, class From>
inline To bits_of(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  std::memcpy(&bits, &value, sizeof(To));
  return bits;
}

inline float widen_half(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
  const uint32_t finite = bits_of<uint32_t>(bits_of<float>(magnitude << 13) * 0x1p112f);  // the exponent's bias moves
  const uint32_t special = magnitude << 13 | 0x7f800000u;                                 // inf and NaN keep all ones
  return bits_of<float>((magnitude >= 0x7c00 ? special : finite) | sign);
}

inline uint16_t round_half(float value) {  // to nearest, ties to even
  const uint32_t word = bits_of<uint32_t>(value), magnitude = word & 0x7fffffffu;
  const uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
  // Below 2^-14 a half is a multiple of 2^-24, as is a float in [0.5, 1): the addition rounds.
  const uint32_t tiny = bits_of<uint32_t>(bits_of<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t nan = 0x7e00u | (magnitude >> 13 & 0x3ff);
  uint32_t half = magnitude < 0x38800000u ? tiny : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;  // 65520 and more
  half = magnitude > 0x7f800000u ? nan : half;
  return static_cast<uint16_t>(half | (word >> 16 & 0x8000));
}

// What arithmetic on T is done in: half is computed as float and rounded once.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, half>, float, T>;

template <class T>
inline Wide<T> widen(T value) {
  if constexpr (std::is_same_v<T, half>)
    return widen_half(bits_of<uint16_t>(value));
  else
    return value;
}

template <class T>
inline T narrow(Wide<T> value) {
  if constexpr (std::is_same_v<T, half>)
    return bits_of<half>(round_half(value));
  else
    return value;
}

}  // namespace AscendC::emulator
