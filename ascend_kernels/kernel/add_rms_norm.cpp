// add_rms_norm: the kernel of norm.h on the sums of x and residual, each rounded before it is normalised.
#include "tiling/add_rms_norm.h"

#include "kernel/norm.h"

namespace pangu::ascend {

#define ENTRY(suffix, T)                                                                                      \
  extern "C" __global__ __aicore__ void add_rms_norm_##suffix(GM_ADDR x, GM_ADDR residual, GM_ADDR weight,    \
                                                              GM_ADDR normed, GM_ADDR sum, NormTiling tiling) { \
    TPipe pipe;                                                                                               \
    NormKernel<T, true> kernel;                                                                               \
    kernel.Init(&pipe, x, residual, weight, normed, sum, tiling);                                             \
    kernel.Process();                                                                                         \
  }
PANGU_ENTRIES(ENTRY)
#undef ENTRY

void add_rms_norm_launch(Dtype dtype, void* stream, uint8_t* x, uint8_t* residual, uint8_t* weight, uint8_t* normed,
                         uint8_t* sum, const NormTiling& tiling) {
  PANGU_LAUNCH_DTYPE(add_rms_norm, dtype, tiling.tiles.split.cores, stream, x, residual, weight, normed, sum, tiling);
}

}  // namespace pangu::ascend
