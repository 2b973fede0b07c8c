// Stores that add: what SetAtomicAdd and its like leave in the core until SetAtomicNone, and how a store then does it.
#pragma once

#include <algorithm>
#include <cstring>

#include "tensor.h"

namespace AscendC {
namespace emulator {

enum class AtomicOp { NONE, ADD, MAX, MIN };

template <class T>
constexpr int atomic_type = one_of<T, float>        ? 1
                            : one_of<T, half>       ? 2
                            : one_of<T, int16_t>    ? 3
                            : one_of<T, int32_t>    ? 4
                            : one_of<T, int8_t>     ? 5
                            : one_of<T, bfloat16_t> ? 6
                                                    : 0;
constexpr int ATOMIC_TYPES = 8;

template <class T>
void set_atomic(const char* name, AtomicOp op) {
  static_assert(atomic_type<T> != 0, "stores can add float, half, int16_t, int32_t, int8_t and bfloat16_t");
  Core& core = emulator::core();
  const bool has = is_910b || (op == AtomicOp::ADD && one_of<T, float, half, int16_t>);
  if (!has) core.fail(name, "chip", "stores must add float, half or int16_t on this chip", "another type or operation");
  core.atomic = int(op) * ATOMIC_TYPES + atomic_type<T>;
}

template <class T>
void combine(char* place, const T* values, int64_t count, AtomicOp op) {
  for (int64_t i = 0; i < count; i++) {
    T old, value;
    std::memcpy(&old, place + i * int64_t(sizeof(T)), sizeof(T));
    if constexpr (one_of<T, bfloat16_t>) {
      const float a = float(old), b = float(values[i]);
      value = T(op == AtomicOp::ADD ? a + b : op == AtomicOp::MAX ? std::max(a, b) : std::min(a, b));
    } else {
      const T a = old, b = values[i];
      value = op == AtomicOp::ADD ? T(a + b) : op == AtomicOp::MAX ? (a < b ? b : a) : (b < a ? b : a);
    }
    std::memcpy(place + i * int64_t(sizeof(T)), &value, sizeof(T));
  }
}

// Put bytes of a tensor of T into GM, or add them to what is there.
template <class T>
void store(const Instruction& instruction, char* place, const T* values, int64_t bytes) {
  const int atomic = instruction.core_of().atomic;
  if (!atomic) {
    std::memcpy(place, values, size_t(bytes));
    return;
  }
  if (atomic % ATOMIC_TYPES != atomic_type<T>)
    instruction.fail("atomic-type", "the tensor must have the type that SetAtomicAdd was given", "another");
  if constexpr (atomic_type<T> != 0)
    combine(place, values, bytes / int64_t(sizeof(T)), AtomicOp(atomic / ATOMIC_TYPES));
}

}  // namespace emulator

template <class T>
void SetAtomicAdd() {
  emulator::set_atomic<T>("SetAtomicAdd", emulator::AtomicOp::ADD);
}
template <class T>
void SetAtomicMax() {
  emulator::set_atomic<T>("SetAtomicMax", emulator::AtomicOp::MAX);
}
template <class T>
void SetAtomicMin() {
  emulator::set_atomic<T>("SetAtomicMin", emulator::AtomicOp::MIN);
}
inline void SetAtomicNone() { emulator::core().atomic = 0; }
inline void DisableDmaAtomic() { SetAtomicNone(); }

}  // namespace AscendC
