// rms_norm: the kernel of norm.h on rows of x.
#include "tiling/rms_norm.h"

#include "kernel/norm.h"

namespace pangu::ascend {

#define ENTRY(suffix, T)                                                                                               \
  extern "C" __global__ __aicore__ void rms_norm_##suffix(GM_ADDR x, GM_ADDR weight, GM_ADDR out, NormTiling tiling) { \
    TPipe pipe;                                                                                                        \
    NormKernel<T, false> kernel;                                                                                       \
    kernel.Init(&pipe, x, nullptr, weight, out, nullptr, tiling);                                                      \
    kernel.Process();                                                                                                  \
  }
PANGU_ENTRIES(ENTRY)
#undef ENTRY

void rms_norm_launch(Dtype dtype, void* stream, uint8_t* x, uint8_t* weight, uint8_t* out, const NormTiling& tiling) {
  PANGU_LAUNCH_DTYPE(rms_norm, dtype, tiling.tiles.split.cores, stream, x, weight, out, tiling);
}

}  // namespace pangu::ascend
