// Gathers and sorts.
#include "scene.h"

namespace {

// ---- gathers ----
#define GATHER(T)                                                                                                     \
  NAMED(                                                                                                              \
      case_Gather_##T, "Gather." #T, auto where = x.in<uint32_t>(1); const uint32_t base = x.more(0); each_form<T>(   \
          x,                                                                                                          \
          [&](auto mask, auto repeats) { Gather(x.out<T>(), x.in<T>(0), where, base, mask, repeats, x.numbers[8]); }, \
          [](auto, auto) {}, [&](int32_t count) { Gather(x.out<T>(), x.in<T>(0), where, base, count); });)
#define GATHER_MASK(T, U)                                                                                     \
  NAMED(case_GatherMask_##T, "GatherMask." #T, uint64_t kept = 0;                                             \
        const GatherMaskParams by(x.numbers[6], x.repeats(), x.numbers[9], x.numbers[10]); if (x.more(0))     \
            GatherMask(x.out<T>(), x.in<T>(0), uint8_t(x.more(0)), x.form() == COUNTER, x.count(), by, kept); \
        else GatherMask(x.out<T>(), x.in<T>(0), x.in<U>(1), x.form() == COUNTER, x.count(), by, kept);        \
        PipeBarrier<PIPE_ALL>(); x.out<uint64_t>().SetValue(x.more(1), kept);)
#define BRCB(T)                    \
  NAMED(case_Brcb_##T, "Brcb." #T, \
        Brcb(x.out<T>(), x.in<T>(0), x.repeats(), BrcbRepeatParams(x.numbers[5], x.numbers[8]));)
GATHER(half);
GATHER(float);
GATHER(int16_t);
GATHER(uint32_t);
GATHER_MASK(half, uint16_t);
GATHER_MASK(int32_t, uint32_t);
BRCB(half);
BRCB(float);
CASE(transpose, Transpose(x.out<half>(), x.in<half>(0)););
#if __NPU_ARCH__ == 2201
CASE(gatherb, Gatherb(x.out<uint16_t>(), x.in<uint16_t>(0), x.in<uint32_t>(1), x.repeats(),
                      GatherRepeatParams(x.numbers[5], x.numbers[8])););
#else
CASE(scatter, Scatter(x.out<float>(), x.in<float>(0), x.in<uint32_t>(1), uint32_t(x.more(0)), uint32_t(x.count())););
#endif

// ---- sorts ----
#if __NPU_ARCH__ == 2201
#define SORTS(T)                                                                                                       \
  NAMED(case_Sort32_##T, "Sort32." #T, Sort32(x.out<T>(), x.in<T>(0), x.in<uint32_t>(1), x.repeats()););               \
  NAMED(case_Sort_##T, "Sort." #T, auto tmp = x.work<T>(); LocalTensor<T> concat;                                      \
        Concat(concat, x.in<T>(0), tmp, x.repeats() * 2);                                                              \
        if (x.more(0)) Sort<T, true>(x.out<T>(), concat, x.in<uint32_t>(1), tmp, x.repeats());                         \
        else Sort<T, false>(x.out<T>(), concat, x.in<uint32_t>(1), tmp, x.repeats()););                                \
  NAMED(case_Extract_##T, "Extract." #T, Extract(x.out<T>(), x.out<uint32_t>()[x.more(0)], x.in<T>(0), x.repeats());); \
  NAMED(                                                                                                               \
      case_MrgSort_##T, "MrgSort." #T, auto src = x.in<T>(0); uint16_t lengths[4]; LocalTensor<T> queues[4];           \
      uint32_t begin = 0; for (int k = 0; k < 4; ++k) {                                                                \
        lengths[k] = x.more(1 + k), queues[k] = src[GetSortOffset<T>(begin)];                                          \
        begin += lengths[k];                                                                                           \
      } const MrgSortSrcList<T>                                                                                        \
          list(queues[0], queues[1], queues[2], queues[3]);                                                            \
      const MrgSort4Info info(lengths, x.more(5), x.more(0), x.repeats()); MrgSort(x.out<T>(), list, info);            \
      if (x.more(5)) {                                                                                                 \
        uint16_t taken[4];                                                                                             \
        GetMrgSortResult(taken[0], taken[1], taken[2], taken[3]);                                                      \
        PipeBarrier<PIPE_ALL>();                                                                                       \
        for (int k = 0; k < 4; ++k) x.out<uint32_t>().SetValue(x.more(6) + k, taken[k]);                               \
      })
SORTS(half);
SORTS(float);
#endif

}  // namespace
