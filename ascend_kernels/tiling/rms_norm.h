// rms_norm: tiles of rows, as norm.h cuts them.
#pragma once

#include "tiling/norm.h"

namespace pangu::ascend {

// Bytes of the unified buffer for an element of a tile: x and the result twice, and what is computed in fp32.
inline int64_t rms_norm_bytes(Dtype dtype) { return dtype == Dtype::FLOAT ? 4 * 4 : 4 * 2 + 4; }

inline NormTiling rms_norm_tiling(int64_t num_rows, int64_t hidden, int64_t in_stride, int64_t out_stride, float eps,
                                  Dtype dtype, const Chip& chip) {
  return norm_tiling(num_rows, hidden, in_stride, out_stride, eps, rms_norm_bytes(dtype), dtype, chip);
}

}  // namespace pangu::ascend
