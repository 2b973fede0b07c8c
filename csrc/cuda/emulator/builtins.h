// What nvcc knows by itself, said in C++ for the emulator.
#pragma once

#include "cuda/emulator/machine.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define threadIdx (::pangu::emulator::Machine::get().here().thread)
#define blockIdx (::pangu::emulator::Machine::get().here().block)
#define blockDim (::pangu::emulator::block_dim())
#define gridDim (::pangu::emulator::grid_dim())

namespace pangu::emulator {

inline Index block_dim() { return {unsigned(Machine::get().geometry().threads), 1, 1}; }
inline Index grid_dim() {
  return {unsigned(Machine::get().geometry().blocks), unsigned(Machine::get().geometry().columns), 1};
}

template <class T, int SIZE>
Array<T, SIZE>& shared(const void* key) {
  return *reinterpret_cast<Array<T, SIZE>*>(Machine::get().shared(key, sizeof(Array<T, SIZE>)));
}

// The bits of a value that travels between lanes, and back.
template <class T>
uint64_t pack(T value) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T unpack(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The bits of those among `lanes` that `test` holds for.
template <class Test>
unsigned lanes_that(unsigned lanes, const Test& test) {
  unsigned found = 0;
  for (unsigned i = 0; i < 32; i++)
    if (lanes >> i & 1 && test(i)) found |= 1u << i;
  return found;
}

template <class To, class From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace pangu::emulator

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

using std::max;
using std::min;

inline void __syncthreads(int line = __builtin_LINE()) {
  pangu::emulator::Machine::get().barrier("__syncthreads", line, false, false);
}
inline int __syncthreads_or(int vote, int line = __builtin_LINE()) {
  return pangu::emulator::Machine::get().barrier("__syncthreads_or", line, false, vote != 0);
}
inline void __syncwarp(unsigned lanes = ~0u, int line = __builtin_LINE()) {
  pangu::emulator::Machine::get().exchange("__syncwarp", line, lanes, 0, [](auto) { return 0; });
}

template <class T>
T __shfl_sync(unsigned lanes, T value, int from, int line = __builtin_LINE()) {
  return pangu::emulator::Machine::get().exchange("__shfl_sync", line, lanes, pangu::emulator::pack(value),
      [=](auto given) { return pangu::emulator::unpack<T>(given(from % 32)); });
}
template <class T>
T __shfl_xor_sync(unsigned lanes, T value, int with, int line = __builtin_LINE()) {
  unsigned from = threadIdx.x % 32 ^ with;
  return pangu::emulator::Machine::get().exchange("__shfl_xor_sync", line, lanes, pangu::emulator::pack(value),
      [=](auto given) { return pangu::emulator::unpack<T>(given(from)); });
}
// Lanes that have none so far below keep their own.
template <class T>
T __shfl_up_sync(unsigned lanes, T value, unsigned by, int line = __builtin_LINE()) {
  unsigned lane = threadIdx.x % 32, from = lane < by ? lane : lane - by;
  return pangu::emulator::Machine::get().exchange("__shfl_up_sync", line, lanes, pangu::emulator::pack(value),
      [=](auto given) { return pangu::emulator::unpack<T>(given(from)); });
}

inline unsigned __ballot_sync(unsigned lanes, int vote, int line = __builtin_LINE()) {
  return pangu::emulator::Machine::get().exchange("__ballot_sync", line, lanes, vote != 0, [=](auto given) {
    return pangu::emulator::lanes_that(lanes, [&](unsigned i) { return given(i) != 0; });
  });
}
inline unsigned __match_any_sync(unsigned lanes, int value, int line = __builtin_LINE()) {
  uint64_t mine = pangu::emulator::pack(value);
  return pangu::emulator::Machine::get().exchange("__match_any_sync", line, lanes, mine, [=](auto given) {
    return pangu::emulator::lanes_that(lanes, [&](unsigned i) { return given(i) == mine; });
  });
}
inline int __reduce_add_sync(unsigned lanes, int value, int line = __builtin_LINE()) {
  uint64_t mine = pangu::emulator::pack(value);
  return pangu::emulator::Machine::get().exchange("__reduce_add_sync", line, lanes, mine, [=](auto given) {
    int sum = 0;
    for (unsigned i = 0; i < 32; i++)
      if (lanes >> i & 1) sum += pangu::emulator::unpack<int>(given(i));
    return sum;
  });
}

inline int atomicAdd(int* at, int value) { return std::exchange(*at, *at + value); }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline unsigned __float_as_uint(float value) { return pangu::emulator::bits_as<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return pangu::emulator::bits_as<float>(bits); }
inline long long __double_as_longlong(double value) { return pangu::emulator::bits_as<long long>(value); }

// Each is rounded by itself: the emulator is compiled without contraction.
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __ll2double_rn(long long value) { return double(value); }
inline long long __double2ll_rn(double value) { return std::llrint(value); }
inline long long __double2ll_rz(double value) { return static_cast<long long>(value); }
