// rms_norm: the kernel of norm.h on rows of x.
#include "tiling/rms_norm.h"

#include "kernel/norm.h"

namespace pangu::ascend {

}  // namespace pangu::ascend

using pangu::ascend::NormTiling;  // see PANGU_ENTRIES

#define ENTRY(suffix, T)                                                                                               \
  extern "C" __global__ __aicore__ void rms_norm_##suffix(GM_ADDR x, GM_ADDR weight, GM_ADDR out, NormTiling tiling) { \
    PANGU_KERNEL_TYPE(KERNEL_TYPE_AIV_ONLY);                                                                           \
    AscendC::TPipe pipe;                                                                                               \
    pangu::ascend::NormKernel<T, false> kernel;                                                                        \
    kernel.Init(&pipe, x, nullptr, weight, out, nullptr, tiling);                                                      \
    kernel.Process();                                                                                                  \
  }
PANGU_ENTRIES(ENTRY)
#undef ENTRY
