// add_rms_norm: the kernel of norm.h on the sums of x and residual, each rounded before it is normalised.
#include "tiling/add_rms_norm.h"

#include "kernel/norm.h"

namespace pangu::ascend {

}  // namespace pangu::ascend

using pangu::ascend::NormTiling;  // see PANGU_ENTRIES

#define ENTRY(suffix, T)                                                                                        \
  extern "C" __global__ __aicore__ void add_rms_norm_##suffix(GM_ADDR x, GM_ADDR residual, GM_ADDR weight,      \
                                                              GM_ADDR normed, GM_ADDR sum, NormTiling tiling) { \
    PANGU_KERNEL_TYPE(KERNEL_TYPE_AIV_ONLY);                                                                    \
    AscendC::TPipe pipe;                                                                                        \
    pangu::ascend::NormKernel<T, true> kernel;                                                                  \
    kernel.Init(&pipe, x, residual, weight, normed, sum, tiling);                                               \
    kernel.Process();                                                                                           \
  }
PANGU_ENTRIES(ENTRY)
#undef ENTRY
