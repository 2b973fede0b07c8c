// Products of tiles of bfloat16: 16 weight rows x 32 elements of k, read where they lie, with 32 elements of k x 16
// tokens, which must be packed: pair k/2, then token, then the pair's two elements. AMX has instructions for that; with
// those of AVX512-BF16 a vector holds a pair of each token. PANGU_TILES says that there is one of them.
#pragma once

#include <cstdint>

#include "cpu/isa/vec.h"

#if defined(PANGU_ISA_AMX) || defined(PANGU_ISA_AVX512BF16)
#define PANGU_TILES

namespace pangu {

constexpr int64_t TILE_SIDE = 16;                  // weight rows, and tokens, of a tile
constexpr int64_t TILE_K = 32;                     // elements of k in one step
constexpr int64_t TILE_SIZE = TILE_SIDE * TILE_K;  // bf16 elements of an operand tile: 1 KiB

// Transpose 16 x 16 elements of 32 bits in registers: blocks of 8, 4, 2 and 1 change places across the diagonal.
template <int SIDE>
inline void swap_blocks(vi* rows) {
  for (int i = 0; i < LANES; i++) {
    if (i & SIDE) continue;
    vi a = rows[i], b = rows[i + SIDE];
    rows[i] = lower_blocks<SIDE>(a, b);
    rows[i + SIDE] = upper_blocks<SIDE>(a, b);
  }
}

inline void transpose(vi* rows) {
  swap_blocks<8>(rows);
  swap_blocks<4>(rows);
  swap_blocks<2>(rows);
  swap_blocks<1>(rows);
}

// tile_product<BLOCKS>(w0, w1, stride, tokens, steps, next0, next1, out):
//
// Products of 2 x 16 weight rows with BLOCKS x 16 packed tokens, over `steps` of k: out[a][b] is the tile
// [16 weight rows][16 tokens] of weight tile a and token block b. Weight rows are `stride` bytes apart, blocks of
// tokens `steps` tiles. While it runs, it asks for the 2 x 16 rows at next, 2 KiB in each step.

}  // namespace pangu

#ifdef PANGU_ISA_AMX
#include "cpu/isa/amx.h"
#else
#include "cpu/isa/bf16dot.h"
#endif

#endif
