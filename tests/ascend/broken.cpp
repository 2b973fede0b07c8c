// Rules of instructions, each broken once.
#include "scene.h"

namespace {

CASE(mask_zero, Abs(x.out<float>(), x.in<float>(0), 0ull, 1, UnaryRepeatParams()););
CASE(mask_too_large, Abs(x.out<float>(), x.in<float>(0), 65, 1, UnaryRepeatParams()););
CASE(no_lane, uint64_t none[2] = {}; Abs(x.out<float>(), x.in<float>(0), none, 1, UnaryRepeatParams()););
CASE(too_many_repeats, Abs(x.out<float>(), x.in<float>(0), 8, 256, UnaryRepeatParams(1, 1, 1, 1)););
CASE(negative_count, Abs(x.out<float>(), x.in<float>(0), -1););
CASE(unaligned_dst, Abs(x.out<float>()[1], x.in<float>(0), 8););
CASE(unaligned_src, Abs(x.out<float>(), x.in<float>(0)[3], 8););
CASE(dst_block_stride_zero, Abs(x.out<float>(), x.in<float>(0), 64, 1, UnaryRepeatParams(0, 1, 8, 8)););
CASE(past_the_end, Abs(x.out<float>(), x.in<float>(0), 1025););
CASE(partial_overlap, Abs(x.in<float>(0)[8], x.in<float>(0), 64););
CASE(overlap_of_widths, Axpy(x.in<float>(0), x.in<half>(0), half(1), 64););
CASE(next_repeat_reads, Abs(x.in<float>(0)[64], x.in<float>(0), 64, 2, UnaryRepeatParams()););
CASE(sum_of_itself, Div(x.out<float>(), x.in<float>(0), x.out<float>(), 64, 4, BinaryRepeatParams(1, 1, 1, 0, 8, 0)););
CASE(unmasked_lanes, Duplicate(x.work<float>(), 1.f, 8, 1, 1, 8); PipeBarrier<PIPE_V>();
     Abs(x.out<float>(), x.work<float>(), 16););
CASE(half_compared_by_a_part, Compare(x.out<uint8_t>(), x.in<float>(0), x.in<float>(1), CMPMODE::LT, 100););
CASE(wrong_mode_of_select,
     Select(x.out<float>(), x.in<uint8_t>(2), x.in<float>(0), x.in<float>(1), SELMODE::VSEL_TENSOR_SCALAR_MODE, 64););
CASE(small_workspace, ReduceMax(x.out<float>(), x.in<float>(0), x.work<float>()[x.work<float>().GetSize() - 8], 1024););
CASE(workspace_read, Duplicate(x.work<float>(), 1.f, 64); PipeBarrier<PIPE_V>();
     ReduceMin(x.out<float>(), x.in<float>(0), x.work<float>(), 64); PipeBarrier<PIPE_V>();
     Abs(x.out<float>(), x.work<float>(), 8););
CASE(unaligned_result, WholeReduceMax(x.out<float>()[1], x.in<float>(0), 64, 1, 1, 1, 8););
CASE(unaligned_offset, PipeBarrier<PIPE_ALL>(); x.in<uint32_t>(1).SetValue(0, 2); PipeBarrier<PIPE_ALL>();
     Gather(x.out<float>(), x.in<float>(0), x.in<uint32_t>(1), 0, 1););
CASE(gather_in_place, Duplicate(x.in<uint32_t>(1), 0u, 64); PipeBarrier<PIPE_V>();
     Gather(x.in<float>(0), x.in<float>(0), x.in<uint32_t>(1), 0, 64););
CASE(unknown_pattern, uint64_t kept = 0;
     GatherMask(x.out<float>(), x.in<float>(0), 8, false, 0, GatherMaskParams(1, 1, 8, 0), kept););
CASE(brcb_in_place, Brcb(x.in<float>(0), x.in<float>(0), 1, BrcbRepeatParams(1, 8)););
CASE(counter_without_a_count, SetMaskCount();
     Abs<float, false>(x.out<float>(), x.in<float>(0), MASK_PLACEHOLDER, 1, UnaryRepeatParams()););
CASE(counter_mode_left, SetMaskCount(););
CASE(count_restores_the_mask, SetVectorMask<float>(0, 1); Abs(x.out<float>(), x.in<float>(0), 8); PipeBarrier<PIPE_V>();
     Abs<float, false>(x.out<float>(), x.in<float>(0), MASK_PLACEHOLDER, 1, UnaryRepeatParams()););
#if __NPU_ARCH__ == 2201
CASE(unknown_round_mode, Cast(x.out<float>(), x.in<half>(0), RoundMode::CAST_FLOOR, 64););
CASE(no_deq_scale, SetDeqScale(half(0)); Cast(x.out<half>(), x.in<int32_t>(0), RoundMode::CAST_NONE, 64););
CASE(shift_too_far, ShiftRight(x.out<int16_t>(), x.in<int16_t>(0), int16_t(17), 64););
CASE(int32_compared_by_less, Compare(x.out<uint8_t>(), x.in<int32_t>(0), x.in<int32_t>(1), CMPMODE::LT, 64););
CASE(unaligned_sort, Sort32(x.out<float>()[8], x.in<float>(0), x.in<uint32_t>(1), 1););
CASE(merge_upon_itself, uint16_t lengths[4] = {32, 32, 0, 0}; auto a = x.in<float>(0);
     MrgSort(a, MrgSortSrcList<float>(a, a[64], a, a), MrgSort4Info(lengths, false, 3, 1)););
CASE(merge_of_one, uint16_t lengths[4] = {32, 0, 0, 0}; auto a = x.in<float>(0);
     MrgSort(x.out<float>(), MrgSortSrcList<float>(a, a, a, a), MrgSort4Info(lengths, false, 1, 1)););
#else
CASE(unknown_round_mode, Cast(x.out<half>(), x.in<float>(0), RoundMode::CAST_RINT, 64););
CASE(only_the_value, WholeReduceMax(x.out<float>(), x.in<float>(0), 64, 1, 1, 1, 8, ReduceOrder::ORDER_ONLY_VALUE););
CASE(scattered_twice, Duplicate(x.in<uint32_t>(1), 0u, 64); PipeBarrier<PIPE_V>();
     Scatter(x.out<float>(), x.in<float>(0), x.in<uint32_t>(1), 0, 2););
#endif

}  // namespace
