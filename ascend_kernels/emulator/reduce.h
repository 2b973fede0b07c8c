// Reductions of the API. A sum of all elements is the sum of its repeats in order on 910B, where their number is given;
// it is a tree otherwise.
#pragma once

#include <optional>

#include "reduction.h"

namespace AscendC {

// ---- of all elements ----
template <class T, bool isSetMask = true>
void ReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& sharedTmpBuffer,
               const int32_t count) {
  using namespace emulator;
  Instruction instruction("ReduceSum", Pipe::V);
  const Lanes lanes = count_lanes<isSetMask>(instruction, count, lanes_of<T>);
  reduce_sum(instruction, lanes, is_910b, dst, contiguous(src, "src", lanes_of<T>), sharedTmpBuffer,
             std::max<int64_t>(1, count / lanes_of<T>));
}
template <class T, emulator::AnyMask Mask>
void ReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& sharedTmpBuffer,
               const Mask mask, const int32_t repeatTime, const int32_t srcRepStride) {
  using namespace emulator;
  Instruction instruction("ReduceSum", Pipe::V);
  const Lanes lanes = mask_lanes<true>(instruction, mask, repeatTime, lanes_of<T>, INT32_MAX);
  reduce_sum(instruction, lanes, false, dst, source(instruction, src, 1, srcRepStride), sharedTmpBuffer, lanes.repeats);
}

namespace emulator {

template <class T>
void reduce_extreme(const char* name, bool largest, const LocalTensor<T>& dst, const LocalTensor<T>& src,
                    const LocalTensor<T>& workspace, int32_t count, bool with_index) {
  Instruction instruction(name, Pipe::V);
  const Lanes lanes = count_lanes(instruction, count, lanes_of<T>);
  reduce_extreme(instruction, lanes, largest, dst, contiguous(src, "src", lanes_of<T>), workspace,
                 std::max<int64_t>(1, count / lanes_of<T>), with_index);
}

template <class T, class Mask>
void reduce_extreme(const char* name, bool largest, const LocalTensor<T>& dst, const LocalTensor<T>& src,
                    const LocalTensor<T>& workspace, Mask mask, int32_t repeats, int32_t src_repeat, bool with_index) {
  Instruction instruction(name, Pipe::V);
  const Lanes lanes = mask_lanes<true>(instruction, mask, repeats, lanes_of<T>, INT32_MAX);
  reduce_extreme(instruction, lanes, largest, dst, source(instruction, src, 1, src_repeat), workspace, lanes.repeats,
                 with_index);
}

template <bool isSetMask, class T, class Mask>
void whole_extreme(const char* name, bool largest, const LocalTensor<T>& dst, const LocalTensor<T>& src, Mask mask,
                   int32_t repeats, int32_t dst_repeat, int32_t src_block, int32_t src_repeat, ReduceOrder order) {
  Instruction instruction(name, Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeats, lanes_of<T>);
  check_stride(instruction, "dstRepStride", dst_repeat);
  whole_extreme(instruction, lanes, largest, dst, source(instruction, src, src_block, src_repeat), dst_repeat, order);
}

}  // namespace emulator

template <class T>
void ReduceMax(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& sharedTmpBuffer,
               const int32_t count, bool calIndex = 0) {
  emulator::reduce_extreme("ReduceMax", true, dst, src, sharedTmpBuffer, count, calIndex);
}
template <class T, emulator::AnyMask Mask>
void ReduceMax(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& sharedTmpBuffer,
               const Mask mask, const int32_t repeatTime, const int32_t srcRepStride, bool calIndex = 0) {
  emulator::reduce_extreme("ReduceMax", true, dst, src, sharedTmpBuffer, mask, repeatTime, srcRepStride, calIndex);
}

template <class T>
void ReduceMin(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& sharedTmpBuffer,
               const int32_t count, bool calIndex = 0) {
  emulator::reduce_extreme("ReduceMin", false, dst, src, sharedTmpBuffer, count, calIndex);
}
template <class T, emulator::AnyMask Mask>
void ReduceMin(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& sharedTmpBuffer,
               const Mask mask, const int32_t repeatTime, const int32_t srcRepStride, bool calIndex = 0) {
  emulator::reduce_extreme("ReduceMin", false, dst, src, sharedTmpBuffer, mask, repeatTime, srcRepStride, calIndex);
}

// ---- of each repeat; the destination's stride is in results ----
template <class T, bool isSetMask = true, emulator::AnyMask Mask>
void WholeReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const Mask mask, const int32_t repeatTime,
                    const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride) {
  using namespace emulator;
  Instruction instruction("WholeReduceSum", Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeatTime, lanes_of<T>);
  check_stride(instruction, "dstRepStride", dstRepStride);
  whole_sum(instruction, lanes, dst, source(instruction, src, srcBlkStride, srcRepStride), dstRepStride);
}
template <class T, bool isSetMask = true, emulator::AnyMask Mask>
void WholeReduceMax(const LocalTensor<T>& dst, const LocalTensor<T>& src, const Mask mask, const int32_t repeatTime,
                    const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride,
                    ReduceOrder order = ReduceOrder::ORDER_VALUE_INDEX) {
  emulator::whole_extreme<isSetMask>("WholeReduceMax", true, dst, src, mask, repeatTime, dstRepStride, srcBlkStride,
                                     srcRepStride, order);
}
template <class T, bool isSetMask = true, emulator::AnyMask Mask>
void WholeReduceMin(const LocalTensor<T>& dst, const LocalTensor<T>& src, const Mask mask, const int32_t repeatTime,
                    const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride,
                    ReduceOrder order = ReduceOrder::ORDER_VALUE_INDEX) {
  emulator::whole_extreme<isSetMask>("WholeReduceMin", false, dst, src, mask, repeatTime, dstRepStride, srcBlkStride,
                                     srcRepStride, order);
}

template <class T, bool isSetMask = true, emulator::AnyMask Mask>
void RepeatReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t repeatTime, const Mask mask,
                     const int32_t dstBlkStride, const int32_t srcBlkStride, const int32_t dstRepStride,
                     const int32_t srcRepStride) {
  using namespace emulator;
  Instruction instruction("RepeatReduceSum", Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeatTime, lanes_of<T>);
  check_stride(instruction, "dstRepStride", dstRepStride);
  check_stride(instruction, "dstBlkStride", dstBlkStride);
  whole_sum(instruction, lanes, dst, source(instruction, src, srcBlkStride, srcRepStride), dstRepStride);
}

// ---- of each block and of each pair; the repeats come before the mask ----
namespace emulator {

template <class T>
constexpr int per_block = int(BLOCK / sizeof(T));

// `most`: whether the largest is wanted, or the smallest; without it the sum.
template <bool isSetMask, class T, class Mask>
void reduce_groups(const char* name, int group, std::optional<bool> most, const LocalTensor<T>& dst,
                   const LocalTensor<T>& src, int32_t repeats, Mask mask, int32_t dstRepStride, int32_t srcBlkStride,
                   int32_t srcRepStride) {
  Instruction instruction(name, Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeats, lanes_of<T>);
  check_stride(instruction, "dstRepStride", dstRepStride);
  group_reduce(instruction, lanes, group, dst, source(instruction, src, srcBlkStride, srcRepStride), dstRepStride,
               [=](const T* values, const bool* present, int count) {
                 return most ? group_extreme(*most, values, present, count) : tree_sum(values, present, count);
               });
}

}  // namespace emulator

template <class T, bool isSetMask = true, emulator::AnyMask Mask>
void BlockReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t repeatTime, const Mask mask,
                    const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride) {
  emulator::reduce_groups<isSetMask>("BlockReduceSum", emulator::per_block<T>, std::nullopt, dst, src, repeatTime, mask,
                                     dstRepStride, srcBlkStride, srcRepStride);
}
template <class T, bool isSetMask = true, emulator::AnyMask Mask>
void BlockReduceMax(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t repeatTime, const Mask mask,
                    const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride) {
  emulator::reduce_groups<isSetMask>("BlockReduceMax", emulator::per_block<T>, true, dst, src, repeatTime, mask,
                                     dstRepStride, srcBlkStride, srcRepStride);
}
template <class T, bool isSetMask = true, emulator::AnyMask Mask>
void BlockReduceMin(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t repeatTime, const Mask mask,
                    const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride) {
  emulator::reduce_groups<isSetMask>("BlockReduceMin", emulator::per_block<T>, false, dst, src, repeatTime, mask,
                                     dstRepStride, srcBlkStride, srcRepStride);
}
template <class T, bool isSetMask = true, emulator::AnyMask Mask>
void PairReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t repeatTime, const Mask mask,
                   const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride) {
  emulator::reduce_groups<isSetMask>("PairReduceSum", 2, std::nullopt, dst, src, repeatTime, mask,
                                     dstRepStride, srcBlkStride, srcRepStride);
}

// ---- what the last reduction left for the scalar unit ----
// The extreme of WholeReduceMax or Min over all repeats, or of ReduceMax or Min.
template <class T>
void GetReduceMaxMinCount(T& maxMinValue, T& maxMinIndex) {
  static_assert(emulator::is_910b && sizeof(T) > 0, "this chip gives the value only");
  maxMinValue = emulator::remembered<T>(emulator::EXTREME_VALUE);
  maxMinIndex = emulator::remembered<T>(emulator::EXTREME_INDEX);
}
template <class T>
void GetReduceMaxMinCount(T& maxMinValue) {
  static_assert(emulator::is_310p && sizeof(T) > 0, "this chip gives value and index");
  maxMinValue = emulator::remembered<T>(emulator::EXTREME_VALUE);
}

// The sum of ReduceSum over the first elements.
template <class T>
T GetAccVal() {
  static_assert(emulator::is_910b && sizeof(T) > 0, "there is no such register on this chip");
  return emulator::remembered<T>(emulator::SUM);
}

}  // namespace AscendC
