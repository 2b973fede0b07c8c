// What the lanes of a warp do together, and numbers as floats.
#pragma once

#include "cuda/launch.h"

namespace pangu {

__device__ __forceinline__ float widen(float value) { return value; }

__device__ __forceinline__ float widen(bf16 value) { return __uint_as_float(unsigned(value.bits) << 16); }

__device__ __forceinline__ float widen(f16 value) {
#ifdef PANGU_EMULATED
  float tiny = float(value.bits & 0x7fff) * 0x1p-24f;  // what a subnormal number is
  unsigned exponent = value.bits >> 10 & 0x1f, rest = value.bits & 0x3ff;
  float size = exponent == 0    ? tiny
               : exponent == 31 ? (rest ? NAN : INFINITY)
                                : __uint_as_float((exponent + 112) << 23 | rest << 13);
  return value.bits >> 15 ? -size : size;
#else
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
  return wide;
#endif
}

// The same in all lanes: every lane adds the same pairs.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int lanes = WARP / 2; lanes; lanes /= 2) value += __shfl_xor_sync(ALL_LANES, value, lanes);
  return value;
}

template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int lanes = WARP / 2; lanes; lanes /= 2) value = max(value, __shfl_xor_sync(ALL_LANES, value, lanes));
  return value;
}

// The sum of this lane's value and of those of the lanes below it.
template <class T>
__device__ __forceinline__ T warp_prefix_sum(T value) {
#pragma unroll
  for (unsigned lanes = 1; lanes < WARP; lanes *= 2) {
    T below = __shfl_up_sync(ALL_LANES, value, lanes);
    if (threadIdx.x % WARP >= lanes) value += below;
  }
  return value;
}

}  // namespace pangu
