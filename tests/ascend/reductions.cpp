// Comparisons, Select and reductions.
#include "scene.h"

namespace {

// ---- Compare and Select ----
#define COMPARE(T)                                                                                                    \
  NAMED(case_Compare_##T, "Compare." #T, const CMPMODE mode = CMPMODE(x.more(0));                                     \
        if (x.form() == COUNT) Compare(x.out<uint8_t>(), x.in<T>(0), x.in<T>(1), mode, x.count());                    \
        else Compare(x.out<uint8_t>(), x.in<T>(0), x.in<T>(1), mode, uint64_t(x.count()), x.repeats(), x.binary());); \
  NAMED(                                                                                                              \
      case_CompareScalar_##T, "CompareScalar." #T, const CMPMODE mode = CMPMODE(x.more(0));                           \
      if (x.form() == COUNT) CompareScalar(x.out<uint8_t>(), x.in<T>(0), x.scalar<T>(), mode, x.count());             \
      else Compares(x.out<uint8_t>(), x.in<T>(0), x.scalar<T>(), mode, uint64_t(x.count()), x.repeats(), x.unary()););
#define SELECT(T)                                                                                             \
  NAMED(case_Select_##T, "Select." #T, const SELMODE mode = SELMODE(x.more(0)); auto bits = x.in<uint8_t>(2); \
        each_form<T>(                                                                                         \
            x,                                                                                                \
            [&](auto mask, auto repeats) {                                                                    \
              if (mode == SELMODE::VSEL_TENSOR_SCALAR_MODE)                                                   \
                Select(x.out<T>(), bits, x.in<T>(0), x.scalar<T>(), mode, mask, repeats, x.binary());         \
              else                                                                                            \
                Select(x.out<T>(), bits, x.in<T>(0), x.in<T>(1), mode, mask, repeats, x.binary());            \
            },                                                                                                \
            [](auto, auto) {},                                                                                \
            [&](int32_t count) {                                                                              \
              if (mode == SELMODE::VSEL_TENSOR_SCALAR_MODE)                                                   \
                Select(x.out<T>(), bits, x.in<T>(0), x.scalar<T>(), mode, count);                             \
              else                                                                                            \
                Select(x.out<T>(), bits, x.in<T>(0), x.in<T>(1), mode, count);                                \
            });)
COMPARE(half);
COMPARE(float);
SELECT(half);
SELECT(float);
#if __NPU_ARCH__ == 2201
COMPARE(int32_t);
#endif
CASE(compare_register, Compare(x.in<float>(0), x.in<float>(1), CMPMODE::LT, x.mask, BinaryRepeatParams());
     GetCmpMask(x.out<uint8_t>()); PipeBarrier<PIPE_ALL>(); SetCmpMask(x.out<uint8_t>()); PipeBarrier<PIPE_ALL>();
     ResetMask();
     Select<float, SELMODE::VSEL_CMPMASK_SPR>(x.out<float>()[8], x.in<float>(0), x.in<float>(1), 1, x.binary()););

// ---- reductions ----
#define REDUCE(Name, T, ...)                                                                                    \
  NAMED(case_##Name##_##T, #Name "." #T,                                                                        \
        if (x.form() == COUNT) Name(x.out<T>(), x.in<T>(0), x.work<T>(), x.count() __VA_OPT__(, ) __VA_ARGS__); \
        else if (x.form() == MASK) Name(x.out<T>(), x.in<T>(0), x.work<T>(), x.count(), x.repeats(),            \
                                        x.numbers[9] __VA_OPT__(, ) __VA_ARGS__);                               \
        else Name(x.out<T>(), x.in<T>(0), x.work<T>(), x.mask, x.repeats(), x.numbers[9] __VA_OPT__(, ) __VA_ARGS__);)
#define WHOLE(Name, T, ...)                                                                              \
  NAMED(case_##Name##_##T, #Name "." #T, const int32_t d = x.numbers[8]; const int32_t b = x.numbers[6]; \
        const int32_t r = x.numbers[9]; each_form<T>(                                                    \
            x,                                                                                           \
            [&](auto mask, auto repeats) {                                                               \
              Name(x.out<T>(), x.in<T>(0), mask, repeats, d, b, r __VA_OPT__(, ) __VA_ARGS__);           \
            },                                                                                           \
            [&](auto mask, auto repeats) {                                                               \
              Name<T, false>(x.out<T>(), x.in<T>(0), mask, repeats, d, b, r __VA_OPT__(, ) __VA_ARGS__); \
            },                                                                                           \
            [](int32_t) {});)
#define GROUP(Name, T)                                                                                        \
  NAMED(case_##Name##_##T, #Name "." #T, const int32_t d = x.numbers[8]; const int32_t b = x.numbers[6];      \
        const int32_t r = x.numbers[9]; each_form<T>(                                                         \
            x, [&](auto mask, auto repeats) { Name(x.out<T>(), x.in<T>(0), repeats, mask, d, b, r); },        \
            [&](auto mask, auto repeats) { Name<T, false>(x.out<T>(), x.in<T>(0), repeats, mask, d, b, r); }, \
            [](int32_t) {});)
#define REDUCE_EXTREME(Name, T) REDUCE(Name, T, x.more(0) != 0)
#define WHOLE_EXTREME(Name, T) WHOLE(Name, T, ReduceOrder(x.more(0)))
FLOATS(REDUCE, ReduceSum);
FLOATS(REDUCE_EXTREME, ReduceMax);
FLOATS(REDUCE_EXTREME, ReduceMin);
FLOATS(WHOLE, WholeReduceSum);
FLOATS(WHOLE_EXTREME, WholeReduceMax);
FLOATS(WHOLE_EXTREME, WholeReduceMin);
FLOATS(GROUP, BlockReduceSum);
FLOATS(GROUP, BlockReduceMax);
FLOATS(GROUP, BlockReduceMin);
FLOATS(GROUP, PairReduceSum);
CASE(repeat_reduce_sum, RepeatReduceSum(x.out<float>(), x.in<float>(0), x.repeats(), x.count(), 1, x.numbers[6],
                                        x.numbers[8], x.numbers[9]););
#if __NPU_ARCH__ == 2201
CASE(accumulated, ReduceSum(x.work<float>(), x.in<float>(0), x.work<float>()[64], x.count()); PipeBarrier<PIPE_ALL>();
     x.out<float>().SetValue(0, GetAccVal<float>()); WholeReduceMax(x.work<float>(), x.in<float>(0), 64, 2, 1, 1, 8);
     PipeBarrier<PIPE_ALL>(); float value = 0; float index = 0; GetReduceMaxMinCount(value, index);
     x.out<float>().SetValue(1, value); x.out<float>().SetValue(2, index););
#endif

}  // namespace
