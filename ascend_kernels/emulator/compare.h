// Compare, whose result is a bit for each element, and Select, which chooses by such bits. On A2 and 310P comparisons
// ignore masks: a repeat is always whole.
#pragma once

#include "elementwise.h"

namespace AscendC {
namespace emulator {

template <class T>
bool holds(T a, T b, CMPMODE mode) {
  switch (mode) {
    case CMPMODE::LT:
      return a < b;
    case CMPMODE::GT:
      return a > b;
    case CMPMODE::EQ:
      return a == b;
    case CMPMODE::LE:
      return a <= b;
    case CMPMODE::GE:
      return a >= b;
    default:
      return a != b;
  }
}

template <class T>
void check_mode(Instruction& instruction, CMPMODE mode) {
  static_assert(one_of<T, half, float> || (one_of<T, int32_t> && is_910b),
                "half and float are compared, on 910B int32 too");
  if (mode > CMPMODE::NE || (one_of<T, int32_t> && mode != CMPMODE::EQ))
    instruction.require(false, one_of<T, int32_t> ? "int32 must be compared by EQ" : "cmpMode must be one of CMPMODE",
                        std::to_string(static_cast<int>(mode)));
}

// The bits of one whole repeat; `b` is null if src1 is the scalar.
template <class T>
void compare_repeat(const T* a, const T* b, T scalar, CMPMODE mode, uint8_t* bits) {
  bool result[lanes_of<T>];
  for (int i = 0; i < lanes_of<T>; ++i) result[i] = holds(widen(a[i]), widen(b ? b[i] : scalar), mode);
  for (int i = 0; i < lanes_of<T> / 8; ++i) {
    bits[i] = 0;
    for (int k = 0; k < 8; ++k) bits[i] |= static_cast<uint8_t>(result[8 * i + k] << k);
  }
}

template <class T>
void compare(Instruction& instruction, int64_t repeats, CMPMODE mode, const LocalTensor<uint8_t>& dst,
             const Operand& src0, const Operand* src1, T scalar) {
  check_mode<T>(instruction, mode);
  Lanes lanes{lanes_of<T>, repeats, false, 0, {FULL_MASK, FULL_MASK}};
  instruction.align(dst, BLOCK, "dst");
  instruction.align(src0.bytes, BLOCK, src0.name);
  if (src1) instruction.align(src1->bytes, BLOCK, src1->name);
  constexpr int bytes = lanes_of<T> / 8;
  const auto whole = [](const Operand& operand) { return operand.block == 1 && operand.repeat == REPEAT / BLOCK; };
  if (whole(src0) && (!src1 || whole(*src1))) {
    instruction.repeat(repeats);
    const auto* from0 = at<T>(instruction.read(src0.bytes, 0, repeats * REPEAT), 0);
    const auto* from1 = src1 ? at<T>(instruction.read(src1->bytes, 0, repeats * REPEAT), 0) : nullptr;
    uint8_t* to = instruction.write(dst, 0, repeats * bytes);
    for (int64_t i = 0; i < repeats; ++i)
      compare_repeat<T>(from0 + i * lanes_of<T>, from1 ? from1 + i * lanes_of<T> : nullptr, scalar, mode,
                        to + i * bytes);
    return;
  }
  Gathered<T> a, b;
  for (int64_t repeat = 0; repeat < repeats; ++repeat) {
    instruction.repeat();
    gather(instruction, lanes, src0, repeat, a);
    if (src1) gather(instruction, lanes, *src1, repeat, b);
    compare_repeat<T>(a.values, src1 ? b.values : nullptr, scalar, mode, instruction.write(dst, repeat * bytes, bytes));
  }
}

template <class T>
int64_t whole_repeats(Instruction& instruction, uint32_t count) {
  if (count % lanes_of<T>)
    instruction.require(false, "count elements must be a multiple of 256 bytes", std::to_string(count) + " elements");
  return count_lanes(instruction, count, lanes_of<T>).repeats;
}

template <class U>
LocalTensor<uint8_t> as_bits(const LocalTensor<U>& tensor) {
  static_assert(one_of<U, int8_t, uint8_t>, "the bits of a comparison are int8 or uint8");
  return tensor.template ReinterpretCast<uint8_t>();
}

// ---- Select ----
struct Choice {
  const uint8_t* bits;
  int64_t period;      // elements after which the bits begin again
  const void* scalar;  // or null
};

template <class T>
void select_loop(uint8_t* dst, const uint8_t* const* src, const void* scalar, int64_t first, int64_t count) {
  const auto& choice = *static_cast<const Choice*>(scalar);
  const T fixed = choice.scalar ? *static_cast<const T*>(choice.scalar) : T{};
  in_chunks(count, [&](int64_t done, auto n) {
    T out[CHUNK];
    const T *a = at<T>(src[0], done), *b = choice.scalar ? nullptr : at<T>(src[1], done);
    for (int i = 0; i < n; ++i) {
      const int64_t index = (first + done + i) % choice.period;
      out[i] = choice.bits[index / 8] >> index % 8 & 1 ? a[i] : b ? b[i] : fixed;
    }
    put(dst, done, out, n);
  });
}

template <class T, class U>
void select(Instruction& instruction, const Lanes& lanes, SELMODE mode, const Operand& dst, const LocalTensor<U>& bits,
            const Operand& src0, const Operand* src1, const T* scalar) {
  check_type<T>(Floats{});
  static_assert(one_of<U, uint8_t, uint16_t, uint32_t, uint64_t>, "selMask is unsigned");
  if (scalar)
    instruction.require(mode == SELMODE::VSEL_TENSOR_SCALAR_MODE,
                        "with a scalar selMode must be VSEL_TENSOR_SCALAR_MODE",
                        std::to_string(static_cast<int>(mode)));
  else
    instruction.require(mode == SELMODE::VSEL_CMPMASK_SPR || mode == SELMODE::VSEL_TENSOR_TENSOR_MODE,
                        "with two tensors selMode must be VSEL_CMPMASK_SPR or VSEL_TENSOR_TENSOR_MODE",
                        std::to_string(static_cast<int>(mode)));
  if (lanes.repeats == 0) return;
  instruction.align(bits, BLOCK, "selMask");
  const int64_t elements = lanes.counted ? lanes.total : lanes.repeats * lanes.per_repeat;
  const bool again = mode == SELMODE::VSEL_CMPMASK_SPR;  // the same bits in every repeat
  const int64_t period = again ? lanes.per_repeat : elements;
  const auto* chosen = instruction.read(bits, 0, (std::min(period, elements) + 7) / 8);
  const Choice choice{reinterpret_cast<const uint8_t*>(chosen), period, scalar};
  if (src1)
    run(instruction, lanes, select_loop<T>, &choice, dst, {src0, *src1});
  else
    run(instruction, lanes, select_loop<T>, &choice, dst, {src0});
}

}  // namespace emulator

// ---- dst: bits ----
template <class T, class U, bool isSetMask = true, emulator::AnyMask Mask>
void Compare(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, CMPMODE cmpMode,
             const Mask, const int64_t repeatTime, const BinaryRepeatParams& repeatParams) {
  using namespace emulator;
  Instruction instruction("Compare", Pipe::V);
  check_repeats(instruction, repeatTime, MAX_REPEAT_TIMES);
  const Operand b = operand(src1, "src1", repeatParams.src1BlkStride, repeatParams.src1RepStride);
  compare<T>(instruction, repeatTime, cmpMode, as_bits(dst),
             operand(src0, "src0", repeatParams.src0BlkStride, repeatParams.src0RepStride), &b, T{});
}
template <class T, class U>
void Compare(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, CMPMODE cmpMode,
             uint32_t count) {
  using namespace emulator;
  Instruction instruction("Compare", Pipe::V);
  const Operand b = contiguous(src1, "src1", lanes_of<T>);
  compare<T>(instruction, whole_repeats<T>(instruction, count), cmpMode, as_bits(dst),
             contiguous(src0, "src0", lanes_of<T>), &b, T{});
}

template <class T, class U, bool isSetMask = true, emulator::AnyMask Mask>
void CompareScalar(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const T src1Scalar, CMPMODE cmpMode,
                   const Mask, const int64_t repeatTime, const UnaryRepeatParams& repeatParams) {
  using namespace emulator;
  Instruction instruction("CompareScalar", Pipe::V);
  check_repeats(instruction, repeatTime, MAX_REPEAT_TIMES);
  compare<T>(instruction, repeatTime, cmpMode, as_bits(dst),
             operand(src0, "src0", repeatParams.srcBlkStride, repeatParams.srcRepStride), nullptr, src1Scalar);
}
template <class T, class U>
void CompareScalar(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const T src1Scalar, CMPMODE cmpMode,
                   uint32_t count) {
  using namespace emulator;
  Instruction instruction("CompareScalar", Pipe::V);
  compare<T>(instruction, whole_repeats<T>(instruction, count), cmpMode, as_bits(dst),
             contiguous(src0, "src0", lanes_of<T>), nullptr, src1Scalar);
}
// The new name.
template <class T, class U, bool isSetMask = true, emulator::AnyMask Mask>
void Compares(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const T src1Scalar, CMPMODE cmpMode,
              const Mask mask, const int64_t repeatTime, const UnaryRepeatParams& repeatParams) {
  CompareScalar<T, U, isSetMask>(dst, src0, src1Scalar, cmpMode, mask, repeatTime, repeatParams);
}
template <class T, class U>
void Compares(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const T src1Scalar, CMPMODE cmpMode,
              uint32_t count) {
  CompareScalar<T, U>(dst, src0, src1Scalar, cmpMode, count);
}

// ---- into the compare register: one repeat, whose lanes the mask does choose ----
template <class T, bool isSetMask = true, emulator::AnyMask Mask>
void Compare(const LocalTensor<T>& src0, const LocalTensor<T>& src1, CMPMODE cmpMode, const Mask mask,
             const BinaryRepeatParams& repeatParams) {
  using namespace emulator;
  check_type<T>(Floats{});
  Instruction instruction("Compare", Pipe::V);
  check_mode<T>(instruction, cmpMode);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, 1, lanes_of<T>);
  instruction.align(src0, BLOCK, "src0");
  instruction.align(src1, BLOCK, "src1");
  Gathered<T> a, b;
  instruction.repeat();
  gather(instruction, lanes, operand(src0, "src0", repeatParams.src0BlkStride, 0), 0, a);
  gather(instruction, lanes, operand(src1, "src1", repeatParams.src1BlkStride, 0), 0, b);
  for (int i = 0; i < lanes_of<T>; ++i) {
    uint64_t& word = core().compare_mask[i / 64];
    const uint64_t bit = uint64_t{1} << i % 64;
    if (a.present[i]) word = holds(widen(a.values[i]), widen(b.values[i]), cmpMode) ? word | bit : word & ~bit;
  }
}

template <class T>
void GetCmpMask(const LocalTensor<T>& dst) {
  emulator::Instruction instruction("GetCmpMask", emulator::Pipe::V);
  instruction.align(dst, 16, "dst");
  std::memcpy(instruction.write(dst, 0, 16), emulator::core().compare_mask, 16);
}

template <class T>
void SetCmpMask(const LocalTensor<T>& src) {
  emulator::Instruction instruction("SetCmpMask", emulator::Pipe::V);
  instruction.align(src, 16, "src");
  std::memcpy(emulator::core().compare_mask, instruction.read(src, 0, 16), 16);
}

// ---- dst = bit ? src0 : src1. Modes 1 and 2 need the 8 KiB that the API keeps for itself at the UB's end ----
template <class T, class U, bool isSetMask = true, emulator::WritableMask Mask>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const LocalTensor<T>& src1, SELMODE selMode, const Mask mask, const int64_t repeatTime,
            const BinaryRepeatParams& repeatParams) {
  using namespace emulator;
  Instruction instruction("Select", Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeatTime, lanes_of<T>);
  const Operand b = operand(src1, "src1", repeatParams.src1BlkStride, repeatParams.src1RepStride);
  select<T>(instruction, lanes, selMode, operand(dst, "dst", repeatParams.dstBlkStride, repeatParams.dstRepStride),
            selMask, operand(src0, "src0", repeatParams.src0BlkStride, repeatParams.src0RepStride), &b, nullptr);
}
template <class T, class U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const LocalTensor<T>& src1, SELMODE selMode, uint32_t count) {
  using namespace emulator;
  Instruction instruction("Select", Pipe::V);
  const Operand b = contiguous(src1, "src1", lanes_of<T>);
  select<T>(instruction, count_lanes(instruction, count, lanes_of<T>), selMode, contiguous(dst, "dst", lanes_of<T>),
            selMask, contiguous(src0, "src0", lanes_of<T>), &b, nullptr);
}
template <class T, class U, bool isSetMask = true, emulator::WritableMask Mask>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0, T src1,
            SELMODE selMode, const Mask mask, const int64_t repeatTime, const BinaryRepeatParams& repeatParams) {
  using namespace emulator;
  Instruction instruction("Select", Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeatTime, lanes_of<T>);
  select<T>(instruction, lanes, selMode, operand(dst, "dst", repeatParams.dstBlkStride, repeatParams.dstRepStride),
            selMask, operand(src0, "src0", repeatParams.src0BlkStride, repeatParams.src0RepStride), nullptr, &src1);
}
template <class T, class U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0, T src1,
            SELMODE selMode, uint32_t count) {
  using namespace emulator;
  Instruction instruction("Select", Pipe::V);
  select<T>(instruction, count_lanes(instruction, count, lanes_of<T>), selMode, contiguous(dst, "dst", lanes_of<T>),
            selMask, contiguous(src0, "src0", lanes_of<T>), nullptr, &src1);
}

// By the compare register, with the lanes of the mask register.
template <class T, SELMODE selMode>
void Select(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, const int64_t repeatTime,
            const BinaryRepeatParams& repeatParams) {
  using namespace emulator;
  check_type<T>(Floats{});
  static_assert(selMode == SELMODE::VSEL_CMPMASK_SPR, "only VSEL_CMPMASK_SPR is emulated in this form");
  Instruction instruction("Select", Pipe::V);
  const Lanes lanes = register_lanes(instruction, repeatTime, lanes_of<T>);
  const Choice choice{reinterpret_cast<const uint8_t*>(core().compare_mask), lanes.per_repeat, nullptr};
  run(instruction, lanes, select_loop<T>, &choice,
      operand(dst, "dst", repeatParams.dstBlkStride, repeatParams.dstRepStride),
      {operand(src0, "src0", repeatParams.src0BlkStride, repeatParams.src0RepStride),
       operand(src1, "src1", repeatParams.src1BlkStride, repeatParams.src1RepStride)});
}

}  // namespace AscendC
