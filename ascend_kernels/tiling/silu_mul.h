// silu_mul: tiles of rows or of parts of a row, the same for the gate, the up projection and the result.
#pragma once

#include "tiling/tiling.h"

namespace pangu::ascend {

struct SiluMulTiling {
  Tiles tiles;
  int64_t in_stride, out_stride;  // elements from row to row; in gate_up a row is a gate's or an up projection's half
};

// Bytes of the unified buffer for an element of a tile: gate, up and result twice, and what is computed in fp32.
inline int64_t silu_mul_bytes(Dtype dtype) { return dtype == Dtype::FLOAT ? 6 * 4 : 6 * 2 + 2 * 4; }

inline SiluMulTiling silu_mul_tiling(int64_t num_rows, int64_t intermediate, int64_t in_stride, int64_t out_stride,
                                     Dtype dtype, const Chip& chip) {
  int64_t capacity = chip.ub_bytes / silu_mul_bytes(dtype), block = BLOCK_BYTES / bytes_of(dtype);
  return {tiles_of(num_rows, intermediate, capacity, block, chip), in_stride, out_stride};
}

}  // namespace pangu::ascend
