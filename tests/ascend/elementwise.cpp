// Arithmetic, what fills a tensor, and Cast.
#include "scene.h"

namespace {

NUMBERS(BINARY, Add);
NUMBERS(BINARY, Sub);
NUMBERS(BINARY, Mul);
NUMBERS(BINARY, Max);
NUMBERS(BINARY, Min);
FLOATS(BINARY, Div);
WORDS(BINARY, And);
WORDS(BINARY, Or);
FLOATS(BINARY, AddRelu);
FLOATS(BINARY, SubRelu);
FLOATS(BINARY, FusedMulAdd);
FLOATS(BINARY, FusedMulAddRelu);
CASE(sum_into_itself,
     Add(x.out<float>(), x.in<float>(0), x.out<float>(), uint64_t(x.count()), x.repeats(), x.binary()););
FLOATS(UNARY, Exp);
FLOATS(UNARY, Ln);
FLOATS(UNARY, Abs);
FLOATS(UNARY, Sqrt);
FLOATS(UNARY, Rsqrt);
FLOATS(UNARY, Reciprocal);
FLOATS(UNARY, Relu);
UNARY(Relu, int32_t);
WORDS(UNARY, Not);
NUMBERS(SCALAR, Adds);
NUMBERS(SCALAR, Muls);
NUMBERS(SCALAR, Maxs);
NUMBERS(SCALAR, Mins);
FLOATS(SCALAR, LeakyRelu);
#if __NPU_ARCH__ == 2201
WORDS(SCALAR, ShiftLeft);
SCALAR(ShiftLeft, int32_t);
SCALAR(ShiftLeft, uint32_t);
WORDS(SCALAR, ShiftRight);
SCALAR(ShiftRight, int32_t);
SCALAR(ShiftRight, uint32_t);
NAMED(case_ShiftRightRound, "ShiftRightRound.int32_t",
      ShiftRight(x.out<int32_t>(), x.in<int32_t>(0), x.scalar<int32_t>(), uint64_t(x.count()), x.repeats(), x.unary(),
                 true););
#endif

#define MULADD(T, U)                                                                                                  \
  NAMED(                                                                                                              \
      case_MulAddDst_##T##_##U, "MulAddDst." #T "." #U,                                                               \
      each_form<T>(                                                                                                   \
          x,                                                                                                          \
          [&](auto mask, auto repeats) { MulAddDst(x.out<T>(), x.in<U>(0), x.in<U>(1), mask, repeats, x.binary()); }, \
          [](auto, auto) {}, [&](int32_t count) { MulAddDst(x.out<T>(), x.in<U>(0), x.in<U>(1), count); });)
#define AXPY(T, U)                                                                                                    \
  NAMED(                                                                                                              \
      case_Axpy_##T##_##U, "Axpy." #T "." #U,                                                                         \
      each_form<T>(                                                                                                   \
          x, [&](auto mask, auto repeats) { Axpy(x.out<T>(), x.in<U>(0), x.scalar<U>(), mask, repeats, x.unary()); }, \
          [](auto, auto) {}, [&](int32_t count) { Axpy(x.out<T>(), x.in<U>(0), x.scalar<U>(), count); });)
MULADD(half, half);
MULADD(float, float);
MULADD(float, half);
AXPY(half, half);
AXPY(float, float);
AXPY(float, half);

#define FILL(T)                                                                                          \
  NAMED(case_Duplicate_##T, "Duplicate." #T,                                                             \
        each_form<T>(                                                                                    \
            x,                                                                                           \
            [&](auto mask, auto repeats) {                                                               \
              Duplicate(x.out<T>(), x.scalar<T>(), mask, repeats, x.numbers[5], x.numbers[8]);           \
            },                                                                                           \
            [&](auto mask, auto repeats) {                                                               \
              Duplicate<T, false>(x.out<T>(), x.scalar<T>(), mask, repeats, x.numbers[5], x.numbers[8]); \
            },                                                                                           \
            [&](int32_t count) { Duplicate(x.out<T>(), x.scalar<T>(), count); });)
#define INDEX(T)                                                                             \
  NAMED(case_CreateVecIndex_##T, "CreateVecIndex." #T, auto out = x.out<T>(); each_form<T>(  \
            x,                                                                               \
            [&](auto mask, auto repeats) {                                                   \
              CreateVecIndex(out, x.scalar<T>(), mask, repeats, x.numbers[5], x.numbers[8]); \
            },                                                                               \
            [](auto, auto) {}, [&](int32_t count) { CreateVecIndex(out, x.scalar<T>(), count); });)
FILL(int16_t);
FILL(uint16_t);
FILL(half);
FILL(bfloat16_t);
FILL(int32_t);
FILL(uint32_t);
FILL(float);
INDEX(int16_t);
INDEX(half);
INDEX(int32_t);
INDEX(float);
NAMED(case_ArithProgression, "ArithProgression.float",
      ArithProgression(x.out<float>(), x.scalar<float>(), x.scalar<float>(1), x.count()););

// ---- Cast ----
#define CAST(To, From)                                                                                             \
  NAMED(case_Cast_##To##_##From, "Cast." #To "." #From, if (x.scalars[0] != 0) SetDeqScale(x.scalar<half>());      \
        const RoundMode mode = RoundMode(x.more(0));                                                               \
        each_form<std::conditional_t<(sizeof(To) > sizeof(From)), To, From>>(                                      \
            x, [&](auto mask, auto repeats) { Cast(x.out<To>(), x.in<From>(0), mode, mask, repeats, x.unary()); }, \
            [&](auto mask, auto repeats) {                                                                         \
              Cast<To, From, false>(x.out<To>(), x.in<From>(0), mode, mask, repeats, x.unary());                   \
            },                                                                                                     \
            [&](int32_t count) { Cast(x.out<To>(), x.in<From>(0), mode, count); });)
CAST(half, int8_t);
CAST(half, uint8_t);
CAST(half, int16_t);
CAST(half, int32_t);
CAST(half, float);
CAST(int8_t, half);
CAST(uint8_t, half);
CAST(int16_t, half);
CAST(int32_t, half);
CAST(float, half);
CAST(int16_t, int32_t);
CAST(float, int32_t);
CAST(int64_t, float);
#if __NPU_ARCH__ == 2201
CAST(float, int16_t);
CAST(bfloat16_t, float);
CAST(float, bfloat16_t);
CAST(int32_t, bfloat16_t);
CAST(int64_t, int32_t);
CAST(int32_t, int64_t);
CAST(float, int64_t);
CAST(int16_t, float);
CAST(int32_t, float);
CAST(float, float);
#endif

}  // namespace
