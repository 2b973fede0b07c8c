// Elementwise vector instructions: arithmetic, with scalars, shifts, and what fills a tensor. Each has the three forms
// of the API: the first elements, a contiguous mask, and a mask bit by bit.
#pragma once

#include "elementwise.h"

namespace AscendC {

// ---- the mask register ----
inline void SetMaskNorm() { emulator::core().counter_mode = false; }
inline void SetMaskCount() { emulator::core().counter_mode = true; }
inline void ResetMask() { emulator::core().mask[0] = emulator::core().mask[1] = FULL_MASK; }

template <class T, MaskMode mode = MaskMode::NORMAL>
void SetVectorMask(const uint64_t maskHigh, const uint64_t maskLow) {
  emulator::core().mask[0] = maskLow, emulator::core().mask[1] = maskHigh;
}

template <class T, MaskMode mode = MaskMode::NORMAL>
void SetVectorMask(int32_t len) {
  emulator::Instruction instruction("SetVectorMask", emulator::Pipe::S);
  instruction.require(len >= 0 && (mode == MaskMode::COUNTER || len <= emulator::lanes_of<T>),
                      "len must be from 0 to the lanes of a repeat", std::to_string(len));
  if (mode == MaskMode::COUNTER)
    SetVectorMask<T, mode>(0, static_cast<uint64_t>(len));
  else
    emulator::put_low_bits(len, emulator::core().mask);
}

// What kernels use of the API's own helpers.
struct AscendCUtils {
  template <class T>
  static void SetMask(const uint64_t& maskHigh, const uint64_t& maskLow) {
    SetVectorMask<T>(maskHigh, maskLow);
  }
  template <class T>
  static void SetMask(int32_t len) {
    SetVectorMask<T>(len);
  }
  static void ResetMask() { AscendC::ResetMask(); }
};

// ---- dst = f(src) ----
#define PANGU_UNARY(Name, Allowed)                                                                     \
  template <class T, bool isSetMask = true, emulator::WritableMask Mask>                               \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, Mask mask, const int64_t repeatTime, \
            const UnaryRepeatParams& repeatParams) {                                                   \
    using emulator::unary, emulator::Op##Name;                                                         \
    unary<Op##Name, isSetMask, emulator::Allowed>(#Name, dst, src, mask, repeatTime, repeatParams);    \
  }                                                                                                    \
  template <class T>                                                                                   \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t& count) {              \
    emulator::unary<emulator::Op##Name, emulator::Allowed>(#Name, dst, src, count);                    \
  }
PANGU_UNARY(Exp, Floats)
PANGU_UNARY(Ln, Floats)
PANGU_UNARY(Abs, Floats)
PANGU_UNARY(Sqrt, Floats)
PANGU_UNARY(Rsqrt, Floats)
PANGU_UNARY(Reciprocal, Floats)
PANGU_UNARY(Relu, Signs)
PANGU_UNARY(Not, Words)
#undef PANGU_UNARY

// ---- dst = f(src0, src1); `sums`: dst may be src1 in all repeats ----
#define PANGU_BINARY(Name, Allowed, sums)                                                                              \
  template <class T, bool isSetMask = true, emulator::WritableMask Mask>                                               \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, Mask mask,              \
            const int64_t repeatTime, const BinaryRepeatParams& repeatParams) {                                        \
    using emulator::binary, emulator::Op##Name;                                                                        \
    binary<Op##Name, isSetMask, sums, emulator::Allowed>(#Name, dst, src0, src1, mask, repeatTime, repeatParams);      \
  }                                                                                                                    \
  template <class T>                                                                                                   \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, const int32_t& count) { \
    emulator::binary<emulator::Op##Name, emulator::Allowed>(#Name, dst, src0, src1, count);                            \
  }
PANGU_BINARY(Add, Numbers, true)
PANGU_BINARY(Sub, Numbers, true)
PANGU_BINARY(Mul, Numbers, true)
PANGU_BINARY(Div, Floats, false)
PANGU_BINARY(Max, Numbers, true)
PANGU_BINARY(Min, Numbers, true)
PANGU_BINARY(And, Words, false)
PANGU_BINARY(Or, Words, false)
PANGU_BINARY(AddRelu, Sums, true)
PANGU_BINARY(SubRelu, Sums, true)
#undef PANGU_BINARY

// ---- dst = f(src, scalar) ----
#define PANGU_SCALAR(Name, Allowed)                                                                                    \
  template <class T, bool isSetMask = true, emulator::WritableMask Mask>                                               \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, const T& scalarValue, Mask mask,                     \
            const int64_t repeatTime, const UnaryRepeatParams& repeatParams) {                                         \
    using emulator::with_scalar, emulator::Op##Name;                                                                   \
    with_scalar<Op##Name, isSetMask, emulator::Allowed>(#Name, dst, src, scalarValue, mask, repeatTime, repeatParams); \
  }                                                                                                                    \
  template <class T, bool isSetMask = true>                                                                            \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, const T& scalarValue, const int32_t& count) {        \
    emulator::with_scalar<emulator::Op##Name, isSetMask, emulator::Allowed>(#Name, dst, src, scalarValue, count);      \
  }
PANGU_SCALAR(Adds, Numbers)
PANGU_SCALAR(Muls, Numbers)
PANGU_SCALAR(Maxs, Numbers)
PANGU_SCALAR(Mins, Numbers)
PANGU_SCALAR(LeakyRelu, Floats)
PANGU_SCALAR(ShiftLeft, Shifted)
#undef PANGU_SCALAR

// roundEn adds the last bit that was shifted out; for signed types.
template <class T, bool isSetMask = true, emulator::WritableMask Mask>
void ShiftRight(const LocalTensor<T>& dst, const LocalTensor<T>& src, const T& scalarValue, Mask mask,
                const int64_t repeatTime, const UnaryRepeatParams& repeatParams, bool roundEn = false) {
  using namespace emulator;
  if (roundEn && std::is_signed_v<T>)
    with_scalar<OpShiftRightRound, isSetMask, Shifted>("ShiftRight", dst, src, scalarValue, mask, repeatTime,
                                                       repeatParams);
  else
    with_scalar<OpShiftRight, isSetMask, Shifted>("ShiftRight", dst, src, scalarValue, mask, repeatTime, repeatParams);
}
template <class T, bool isSetMask = true>
void ShiftRight(const LocalTensor<T>& dst, const LocalTensor<T>& src, const T& scalarValue, const int32_t& count) {
  emulator::with_scalar<emulator::OpShiftRight, isSetMask, emulator::Shifted>("ShiftRight", dst, src, scalarValue,
                                                                              count);
}

// ---- dst = f(src0, src1, dst) ----
#define PANGU_ACCUMULATE(Name)                                                                                         \
  template <class T, bool isSetMask = true, emulator::WritableMask Mask>                                               \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, Mask mask,              \
            const int64_t repeatTime, const BinaryRepeatParams& repeatParams) {                                        \
    using emulator::accumulate, emulator::Op##Name;                                                                    \
    accumulate<Op##Name, isSetMask>(#Name, dst, src0, src1, mask, repeatTime, repeatParams);                           \
  }                                                                                                                    \
  template <class T>                                                                                                   \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, const int32_t& count) { \
    emulator::accumulate<emulator::Op##Name>(#Name, dst, src0, src1, count);                                           \
  }
PANGU_ACCUMULATE(FusedMulAdd)
PANGU_ACCUMULATE(FusedMulAddRelu)
PANGU_ACCUMULATE(MulAddRelu)
#undef PANGU_ACCUMULATE

template <class T, class U, bool isSetMask = true, emulator::AnyMask Mask>
void MulAddDst(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1, Mask mask,
               const int64_t repeatTime, const BinaryRepeatParams& repeatParams) {
  emulator::accumulate<emulator::OpMulAddDst, isSetMask>("MulAddDst", dst, src0, src1, mask, repeatTime, repeatParams);
}
template <class T, class U>
void MulAddDst(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1,
               const int32_t& count) {
  emulator::accumulate<emulator::OpMulAddDst>("MulAddDst", dst, src0, src1, count);
}

template <class T, class U, bool isSetMask = true, emulator::WritableMask Mask>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, const U& scalarValue, Mask mask,
          const int64_t repeatTime, const UnaryRepeatParams& repeatParams) {
  using namespace emulator;
  Instruction instruction("Axpy", Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeatTime, lanes_of<T>);
  axpy<T>(instruction, lanes, operand(dst, "dst", repeatParams.dstBlkStride, repeatParams.dstRepStride),
          operand(src, "src", repeatParams.srcBlkStride, repeatParams.srcRepStride), scalarValue);
}
template <class T, class U>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, const U& scalarValue, const int32_t& count) {
  using namespace emulator;
  Instruction instruction("Axpy", Pipe::V);
  const Lanes lanes = count_lanes(instruction, count, lanes_of<T>);
  axpy<T>(instruction, lanes, contiguous(dst, "dst", lanes_of<T>), contiguous(src, "src", lanes_of<T>), scalarValue);
}

// ---- what fills a tensor ----
template <class T, bool isSetMask = true, emulator::WritableMask Mask>
void Duplicate(const LocalTensor<T>& dst, const T& scalarValue, Mask mask, const int64_t repeatTime,
               const uint16_t dstBlockStride, const uint8_t dstRepeatStride) {
  using namespace emulator;
  check_type<T>(Filled{});
  Instruction instruction("Duplicate", Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeatTime, lanes_of<T>);
  run(instruction, lanes, fill_loop<T>, &scalarValue, operand(dst, "dst", dstBlockStride, dstRepeatStride));
}
template <class T>
void Duplicate(const LocalTensor<T>& dst, const T& scalarValue, const int32_t& count) {
  using namespace emulator;
  check_type<T>(Filled{});
  Instruction instruction("Duplicate", Pipe::V);
  run(instruction, count_lanes(instruction, count, lanes_of<T>), fill_loop<T>, &scalarValue,
      contiguous(dst, "dst", lanes_of<T>));
}

// dst[i] = firstValue + i.
template <class T, emulator::WritableMask Mask>
void CreateVecIndex(LocalTensor<T>& dst, const T& firstValue, Mask mask, const int64_t repeatTime,
                    uint16_t dstBlkStride, uint8_t dstRepStride) {
  using namespace emulator;
  check_type<T>(Numbers{});
  Instruction instruction("CreateVecIndex", Pipe::V);
  const Lanes lanes = mask_lanes<true>(instruction, mask, repeatTime, lanes_of<T>);
  const Progression<T> line{firstValue, T(1)};
  run(instruction, lanes, progression_loop<T>, &line, operand(dst, "dst", dstBlkStride, dstRepStride));
}
template <class T>
void CreateVecIndex(LocalTensor<T> dst, const T& firstValue, uint32_t count) {
  using namespace emulator;
  check_type<T>(Numbers{});
  Instruction instruction("CreateVecIndex", Pipe::V);
  const Progression<T> line{firstValue, T(1)};
  run(instruction, count_lanes(instruction, count, lanes_of<T>), progression_loop<T>, &line,
      contiguous(dst, "dst", lanes_of<T>));
}

// dst[i] = firstValue + i * diffValue.
template <class T>
void ArithProgression(const LocalTensor<T>& dst, const T firstValue, const T diffValue, const int32_t count) {
  using namespace emulator;
  check_type<T>(Numbers{});
  Instruction instruction("ArithProgression", Pipe::V);
  const Progression<T> line{firstValue, diffValue};
  run(instruction, count_lanes(instruction, count, lanes_of<T>), progression_loop<T>, &line,
      contiguous(dst, "dst", lanes_of<T>));
}

}  // namespace AscendC
