// Copies between GM and the UB, on MTE2 and MTE3, and inside the UB, on V.
#pragma once

#include "atomic.h"
#include "mask.h"

namespace AscendC {
namespace emulator {

constexpr int64_t MOST_BURSTS = 4095, MOST_BURST_BYTES = 2097151;

// `count` bursts of `bytes`; the distances from the beginning of one to that of the next.
struct Bursts {
  int64_t count, bytes, from_step, to_step;

  bool dense() const { return count == 1 || (from_step == bytes && to_step == bytes); }
};

// A queue's events order only the pipes that it is between.
inline void check_position(const Instruction& instruction, const Place& place, bool loads) {
  const Core& core = instruction.core_of();
  if (place.buffer >= core.buffers.size()) return;
  const Buffer& buffer = core.buffers[place.buffer];
  if (!buffer.is_queue) return;
  const bool from_gm = buffer.source == TPosition::GM || buffer.source == TPosition::VECIN;
  const bool to_gm = buffer.destination == TPosition::GM || buffer.destination == TPosition::VECOUT;
  if (loads ? !from_gm : !to_gm)
    instruction.soft("position",
                     loads ? "a copy from GM must go to a VECIN queue's tensor"
                           : "a copy to GM must come from a VECOUT queue's tensor",
                     core.describe(place.address));
}

inline bool check_bursts(const Instruction& instruction, const Bursts& bursts) {
  if (bursts.count > MOST_BURSTS)
    instruction.fail("burst", "blockCount must be at most 4095", std::to_string(bursts.count));
  if (bursts.count < 1 || bursts.bytes < 1) {
    instruction.soft("burst", "a copy must copy something", bursts.count < 1 ? "blockCount 0" : "blockLen 0");
    return false;
  }
  return true;
}

template <class T>
Bursts of_count(const Instruction& instruction, uint32_t count) {
  const int64_t bytes = int64_t(count) * int64_t(sizeof(T));
  if (bytes % BLOCK)
    instruction.soft(
        "rounded-down", "count must be whole blocks of 32 bytes",
        std::to_string(bytes) + " bytes, of which " + std::to_string(bytes / BLOCK * BLOCK) + " are copied");
  return {1, bytes / BLOCK * BLOCK, 0, 0};
}

inline Bursts of_params(const DataCopyParams& params) {
  const int64_t bytes = int64_t(params.blockLen) * BLOCK;
  return {params.blockCount, bytes, bytes + int64_t(params.srcStride) * BLOCK,
          bytes + int64_t(params.dstStride) * BLOCK};
}

template <class T>
void load(Instruction& instruction, const LocalTensor<T>& dst, const GlobalTensor<T>& src, Bursts bursts) {
  instruction.align(dst, BLOCK, "dst");
  check_gm(instruction, src);
  check_position(instruction, dst.place(), true);
  if (!check_bursts(instruction, bursts)) return;
  if (bursts.dense()) bursts = {1, bursts.count * bursts.bytes, 0, 0};
  for (int64_t i = 0; i < bursts.count; i++) {
    const char* from = instruction.read_gm(src, i * bursts.from_step, bursts.bytes);
    std::memcpy(static_cast<void*>(instruction.write(dst, i * bursts.to_step, bursts.bytes)), from,
                size_t(bursts.bytes));
  }
}

template <class T>
void store(Instruction& instruction, const GlobalTensor<T>& dst, const LocalTensor<T>& src, Bursts bursts) {
  instruction.align(src, BLOCK, "src");
  check_gm(instruction, dst);
  check_position(instruction, src.place(), false);
  if (!check_bursts(instruction, bursts)) return;
  if (bursts.dense()) bursts = {1, bursts.count * bursts.bytes, 0, 0};
  const bool is_atomic = instruction.core_of().atomic;
  for (int64_t i = 0; i < bursts.count; i++) {
    const T* from = instruction.read(src, i * bursts.from_step, bursts.bytes);
    store(instruction, instruction.write_gm(dst, i * bursts.to_step, bursts.bytes, is_atomic), from, bursts.bytes);
  }
}

inline void move(Instruction& instruction, const LocalTensor<uint8_t>& dst, const LocalTensor<uint8_t>& src,
                 Bursts bursts) {
  instruction.align(dst, BLOCK, "dst");
  instruction.align(src, BLOCK, "src");
  if (!check_bursts(instruction, bursts)) return;
  if (bursts.dense()) bursts = {1, bursts.count * bursts.bytes, 0, 0};
  for (int64_t i = 0; i < bursts.count; i++) {
    instruction.repeat((bursts.bytes + REPEAT - 1) / REPEAT);
    const uint8_t* from = instruction.read(src, i * bursts.from_step, bursts.bytes);
    std::memmove(instruction.write(dst, i * bursts.to_step, bursts.bytes), from, size_t(bursts.bytes));
  }
}

inline void needs_910b(const Instruction& instruction) {
  if (!is_910b) instruction.fail("chip", "the instruction must be one of this chip's", "one that only the 910B has");
}

struct Padding {
  int64_t left, right;  // elements
  bool has_value;
};

// To whole blocks of the UB: each burst begins a block; what is neither data nor padding is garbage.
template <class T>
void load_padded(Instruction& instruction, const LocalTensor<T>& dst, const GlobalTensor<T>& src, int64_t count,
                 int64_t bytes, int64_t from_gap, int64_t to_gap, const Padding& padding, T value) {
  needs_910b(instruction);
  instruction.align(dst, BLOCK, "dst");
  check_gm(instruction, src);
  check_position(instruction, dst.place(), true);
  const int64_t size = sizeof(T), left = padding.left * size, right = padding.right * size;
  instruction.require(bytes % size == 0 && bytes <= MOST_BURST_BYTES,
                      "blockLen must be whole elements and at most 2097151 bytes", std::to_string(bytes));
  instruction.require(left <= BLOCK && right <= BLOCK, "padding must be at most 32 bytes on each side",
                      std::to_string(std::max(left, right)));
  if (!check_bursts(instruction, {count, bytes, 0, 0})) return;
  const int64_t used = left + bytes + right, whole = whole_blocks(used), step = whole + to_gap * BLOCK;
  if (whole == bytes && from_gap == 0 && to_gap == 0) return load(instruction, dst, src, {1, count * bytes, 0, 0});
  for (int64_t i = 0; i < count; i++) {
    const int64_t begin = i * step;
    const char* from = instruction.read_gm(src, i * (bytes + from_gap), bytes);
    if (padding.has_value) {
      std::fill_n(instruction.write(dst, begin, left), padding.left, value);
      std::fill_n(instruction.write(dst, begin + left + bytes, right), padding.right, value);
    } else {
      instruction.spoil(dst, begin, left);
      instruction.spoil(dst, begin + left + bytes, right);
    }
    instruction.spoil(dst, begin + used, whole - used);
    std::memcpy(static_cast<void*>(instruction.write(dst, begin + left, bytes)), from, size_t(bytes));
  }
}

template <class T>
void store_padded(const GlobalTensor<T>& dst, const LocalTensor<T>& src, int64_t count, int64_t bytes, int64_t from_gap,
                  int64_t to_gap) {
  Instruction instruction("DataCopyPad", Pipe::MTE3);
  needs_910b(instruction);
  const int64_t size = sizeof(T), whole = whole_blocks(bytes);
  instruction.require(bytes % size == 0 && bytes <= MOST_BURST_BYTES,
                      "blockLen must be whole elements and at most 2097151 bytes", std::to_string(bytes));
  store(instruction, dst, src, {count, bytes, whole + from_gap * BLOCK, bytes + to_gap});
}

}  // namespace emulator

// ---- whole blocks of 32 bytes ----
template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const uint32_t count) {
  emulator::Instruction instruction("DataCopy", emulator::Pipe::MTE2);
  emulator::load(instruction, dst, src, emulator::of_count<T>(instruction, count));
}

template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const DataCopyParams& params) {
  emulator::Instruction instruction("DataCopy", emulator::Pipe::MTE2);
  emulator::load(instruction, dst, src, emulator::of_params(params));
}

template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count) {
  emulator::Instruction instruction("DataCopy", emulator::Pipe::MTE3);
  emulator::store(instruction, dst, src, emulator::of_count<T>(instruction, count));
}

template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyParams& params) {
  emulator::Instruction instruction("DataCopy", emulator::Pipe::MTE3);
  emulator::store(instruction, dst, src, emulator::of_params(params));
}

template <class T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count) {
  emulator::Instruction instruction("DataCopy", emulator::Pipe::V);
  emulator::move(instruction, dst.template ReinterpretCast<uint8_t>(), src.template ReinterpretCast<uint8_t>(),
                 emulator::of_count<T>(instruction, count));
}

template <class T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyParams& params) {
  emulator::Instruction instruction("DataCopy", emulator::Pipe::V);
  emulator::move(instruction, dst.template ReinterpretCast<uint8_t>(), src.template ReinterpretCast<uint8_t>(),
                 emulator::of_params(params));
}

// ---- any number of bytes (910B) ----
template <class T>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const DataCopyExtParams& params,
                 const DataCopyPadExtParams<T>& padding) {
  emulator::Instruction instruction("DataCopyPad", emulator::Pipe::MTE2);
  emulator::load_padded(instruction, dst, src, params.blockCount, params.blockLen, params.srcStride, params.dstStride,
                        {padding.leftPadding, padding.rightPadding, padding.isPad}, padding.paddingValue);
}

template <class T>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const DataCopyParams& params,
                 const DataCopyPadParams& padding) {
  emulator::Instruction instruction("DataCopyPad", emulator::Pipe::MTE2);
  T value;
  std::memcpy(static_cast<void*>(&value), &padding.paddingValue, sizeof(T));
  emulator::load_padded(instruction, dst, src, params.blockCount, params.blockLen, params.srcStride, params.dstStride,
                        {padding.leftPadding, padding.rightPadding, padding.isPad}, value);
}

template <class T>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyExtParams& params) {
  emulator::store_padded(dst, src, params.blockCount, params.blockLen, params.srcStride, params.dstStride);
}

template <class T>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyParams& params) {
  emulator::store_padded(dst, src, params.blockCount, params.blockLen, params.srcStride, params.dstStride);
}

// ---- inside the UB, by repeats (910B). In Counter mode the mask counts each repeat's elements. ----
namespace emulator {

template <bool isSetMask, class T, class Mask>
void copy_repeats(const LocalTensor<T>& dst, const LocalTensor<T>& src, Mask mask, uint8_t repeats,
                  const CopyRepeatParams& by) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4, "Copy takes types of 16 and 32 bits");
  Instruction instruction("Copy", Pipe::V);
  needs_910b(instruction);
  Core& now = core();
  const int per_repeat = REPEAT / int(sizeof(T));
  Lanes lanes{per_repeat, repeats, false, 0, {0, 0}};
  if (now.counter_mode) {
    if constexpr (isSetMask && std::is_integral_v<Mask>) now.mask[0] = mask, now.mask[1] = 0;
    instruction.require(now.mask[0] >= 1 && now.mask[0] <= uint64_t(per_repeat),
                        "mask must be from 1 to " + std::to_string(per_repeat), std::to_string(now.mask[0]));
    put_low_bits(int64_t(now.mask[0]), lanes.bits);
  } else {
    lanes = mask_lanes<isSetMask>(instruction, mask, repeats, per_repeat);
  }
  const Operand from = operand(src, "src", by.srcStride, by.srcRepeatSize);
  Walk{instruction, lanes, operand(dst, "dst", by.dstStride, by.dstRepeatSize), &from, 1}.run(
      [](uint8_t* to, const uint8_t* const* source, const void*, int64_t, int64_t count) {
        std::memmove(to, source[0], size_t(count) * sizeof(T));
      },
      nullptr);
}

}  // namespace emulator

template <class T, bool isSetMask = true>
void Copy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint64_t mask, const uint8_t repeats,
          const CopyRepeatParams& by) {
  emulator::copy_repeats<isSetMask>(dst, src, mask, repeats, by);
}

template <class T, bool isSetMask = true>
void Copy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint64_t mask[], const uint8_t repeats,
          const CopyRepeatParams& by) {
  emulator::copy_repeats<isSetMask>(dst, src, mask, repeats, by);
}

}  // namespace AscendC
