// The shapes of elementwise instructions, by how many tensors and scalars they take: the lanes, the operands and the
// loop.
#pragma once

#include "loops.h"
#include "mask.h"
#include "operations.h"

namespace AscendC::emulator {

template <class...>
struct Types {};
using Floats = Types<half, float>;
using Signs = Types<half, int32_t, float>;
using Sums = Types<int16_t, half, float>;
using Numbers = Types<int16_t, half, int32_t, float>;
using Words = Types<int16_t, uint16_t>;
using Shifted = Types<int16_t, uint16_t, int32_t, uint32_t>;
using Filled = Types<int16_t, uint16_t, half, bfloat16_t, int32_t, uint32_t, float>;

template <class T, class... Allowed>
constexpr void check_type(Types<Allowed...>) {
  static_assert(one_of<T, Allowed...>, "the instruction does not take this type on this chip");
}

template <class T>
constexpr int lanes_of = REPEAT / static_cast<int>(sizeof(T));

inline void run(Instruction& instruction, const Lanes& lanes, Loop loop, const void* scalar, const Operand& dst,
                std::initializer_list<Operand> src = {}) {
  Walk{instruction, lanes, dst, src.begin(), static_cast<int>(src.size())}.run(loop, scalar);
}

// A destination that is the second source too, again and again, sums up.
inline void allow_sum(Instruction& instruction, const Operand& dst, const Operand& src1) {
  if (dst.address() == src1.address() && (dst.repeat == 0 || src1.repeat == 0)) instruction.allow_accumulate();
}

// Mask is a number of lanes or an array of bits.
template <class Op, bool isSetMask, class Allowed, class T, class Mask>
void unary(const char* name, const LocalTensor<T>& dst, const LocalTensor<T>& src, Mask mask, int64_t repeats,
           const UnaryRepeatParams& by) {
  check_type<T>(Allowed{});
  Instruction instruction(name, Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeats, lanes_of<T>);
  run(instruction, lanes, unary_loop<Op, T>, nullptr, operand(dst, "dst", by.dstBlkStride, by.dstRepStride),
      {operand(src, "src", by.srcBlkStride, by.srcRepStride)});
}

template <class Op, class Allowed, class T>
void unary(const char* name, const LocalTensor<T>& dst, const LocalTensor<T>& src, int64_t count) {
  check_type<T>(Allowed{});
  Instruction instruction(name, Pipe::V);
  const Lanes lanes = count_lanes(instruction, count, lanes_of<T>);
  run(instruction, lanes, unary_loop<Op, T>, nullptr, contiguous(dst, "dst", lanes_of<T>),
      {contiguous(src, "src", lanes_of<T>)});
}

template <class Op, bool isSetMask, bool sums, class Allowed, class T, class Mask>
void binary(const char* name, const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,
            Mask mask, int64_t repeats, const BinaryRepeatParams& by) {
  check_type<T>(Allowed{});
  Instruction instruction(name, Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeats, lanes_of<T>);
  const Operand to = operand(dst, "dst", by.dstBlkStride, by.dstRepStride);
  const Operand a = operand(src0, "src0", by.src0BlkStride, by.src0RepStride);
  const Operand b = operand(src1, "src1", by.src1BlkStride, by.src1RepStride);
  if constexpr (sums && one_of<T, half, int32_t, float>) allow_sum(instruction, to, b);
  run(instruction, lanes, binary_loop<Op, T>, nullptr, to, {a, b});
}

template <class Op, class Allowed, class T>
void binary(const char* name, const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,
            int64_t count) {
  check_type<T>(Allowed{});
  Instruction instruction(name, Pipe::V);
  const Lanes lanes = count_lanes(instruction, count, lanes_of<T>);
  run(instruction, lanes, binary_loop<Op, T>, nullptr, contiguous(dst, "dst", lanes_of<T>),
      {contiguous(src0, "src0", lanes_of<T>), contiguous(src1, "src1", lanes_of<T>)});
}

template <class T>
void check_shift(Instruction& instruction, T by) {
  static_assert(is_910b && sizeof(T) > 0, "there is no such instruction on this chip");
  instruction.require(by >= T(0) && static_cast<size_t>(by) <= sizeof(T) * 8,
                      "the shift must be from 0 to " + std::to_string(sizeof(T) * 8), std::to_string(by));
}

template <class Op, bool isSetMask, class Allowed, class T, class Mask>
void with_scalar(const char* name, const LocalTensor<T>& dst, const LocalTensor<T>& src, T scalar, Mask mask,
                 int64_t repeats, const UnaryRepeatParams& by) {
  check_type<T>(Allowed{});
  Instruction instruction(name, Pipe::V);
  if constexpr (one_of<Op, OpShiftLeft, OpShiftRight, OpShiftRightRound>) check_shift(instruction, scalar);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeats, lanes_of<T>);
  run(instruction, lanes, scalar_loop<Op, T>, &scalar, operand(dst, "dst", by.dstBlkStride, by.dstRepStride),
      {operand(src, "src", by.srcBlkStride, by.srcRepStride)});
}

template <class Op, bool isSetMask, class Allowed, class T>
void with_scalar(const char* name, const LocalTensor<T>& dst, const LocalTensor<T>& src, T scalar, int64_t count) {
  check_type<T>(Allowed{});
  Instruction instruction(name, Pipe::V);
  if constexpr (one_of<Op, OpShiftLeft, OpShiftRight, OpShiftRightRound>) check_shift(instruction, scalar);
  const Lanes lanes = count_lanes<isSetMask>(instruction, count, lanes_of<T>);
  run(instruction, lanes, scalar_loop<Op, T>, &scalar, contiguous(dst, "dst", lanes_of<T>),
      {contiguous(src, "src", lanes_of<T>)});
}

// dst = f(src0, src1, dst); half may be added to float, 64 lanes at a time.
template <class Op, class T, class U>
void accumulate(Instruction& instruction, const Lanes& lanes, const Operand& dst, const Operand& a, const Operand& b) {
  Operand own = dst;
  own.name = "itself";
  run(instruction, lanes, accumulate_loop<Op, T, U, false>, nullptr, dst, {own, a, b});
}

template <class T, class U>
constexpr void check_mixed() {
  static_assert(one_of<T, half, float> && (std::is_same_v<T, U> || (one_of<T, float> && one_of<U, half>)),
                "the instruction takes half, float, or half into float");
}

template <class Op, bool isSetMask, class T, class U, class Mask>
void accumulate(const char* name, const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1,
                Mask mask, int64_t repeats, const BinaryRepeatParams& by) {
  check_mixed<T, U>();
  Instruction instruction(name, Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeats, lanes_of<T>);
  accumulate<Op, T, U>(instruction, lanes, operand(dst, "dst", by.dstBlkStride, by.dstRepStride),
                       operand(src0, "src0", by.src0BlkStride, by.src0RepStride),
                       operand(src1, "src1", by.src1BlkStride, by.src1RepStride));
}

template <class Op, class T, class U>
void accumulate(const char* name, const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1,
                int64_t count) {
  check_mixed<T, U>();
  Instruction instruction(name, Pipe::V);
  const Lanes lanes = count_lanes(instruction, count, lanes_of<T>);
  accumulate<Op, T, U>(instruction, lanes, contiguous(dst, "dst", lanes_of<T>), contiguous(src0, "src0", lanes_of<T>),
                       contiguous(src1, "src1", lanes_of<T>));
}

template <class T, class U>
void axpy(Instruction& instruction, const Lanes& lanes, const Operand& dst, const Operand& src, U scalar) {
  check_mixed<T, U>();
  Operand own = dst;
  own.name = "itself";
  run(instruction, lanes, accumulate_loop<OpMulAddDst, T, U, true>, &scalar, dst, {own, src});
}

}  // namespace AscendC::emulator
