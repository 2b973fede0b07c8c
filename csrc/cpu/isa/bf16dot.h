// tile_product on AVX512-BF16: every lane is a token, and a pair of a weight row is broadcast to all of them.
#pragma once

#include "cpu/isa/tile.h"

namespace pangu {

constexpr int64_t TILE_ROWS = 8;  // from which tiles are faster than dot products

struct Tiles {};  // no state to set up, unlike AMX

// ROWS weight rows from w on, times BLOCKS x 16 tokens, every sum in CHAINS parts; asks for the memory at `next`.
template <int ROWS, int BLOCKS, int CHAINS>
inline void dot_rows(const bf16* w, int64_t stride, const bf16* tokens, int64_t steps, const char* next,
                     float (*out)[TILE_SIDE * TILE_SIDE], int64_t first_row) {
  constexpr int PAIRS = TILE_K / 2;
  vf total[ROWS][BLOCKS][CHAINS] = {};
  for (int64_t step = 0; step < steps; step++) {
    const char* weights = reinterpret_cast<const char*>(w + step * TILE_K);
    const bf16* blocks[2] = {tokens + step * TILE_SIZE, tokens + (steps + step) * TILE_SIZE};
    if (next)
      for (int line = 0; line < ROWS; line++, next += 64) _mm_prefetch(next, _MM_HINT_T1);
    for (int first = 0; first < PAIRS; first += CHAINS)
#pragma GCC unroll 4
      for (int chain = 0; chain < CHAINS; chain++) {
        int pair = first + chain;
        pairs token[BLOCKS];
#pragma GCC unroll 2
        for (int block = 0; block < BLOCKS; block++)
          token[block] = load_pairs(blocks[block] + pair * 2 * TILE_SIDE);
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; row++) {
          int32_t bits;
          std::memcpy(&bits, weights + row * stride + pair * 4, 4);
          auto weight = (pairs)_mm512_set1_epi32(bits);
#pragma GCC unroll 2
          for (int block = 0; block < BLOCKS; block++) {
            vf& sum = total[row][block][chain];
            sum = add_pairs(sum, token[block], weight);
          }
        }
      }
  }
  for (int row = 0; row < ROWS; row++)
    for (int block = 0; block < BLOCKS; block++) {
      vf sum = total[row][block][0];
      for (int chain = 1; chain < CHAINS; chain++) sum += total[row][block][chain];
      store(out[block] + (first_row + row) * TILE_SIDE, sum);
    }
}

template <int BLOCKS>
void tile_product(const bf16* w0, const bf16* w1, int64_t stride, const bf16* tokens, int64_t steps, const bf16* next0,
                  const bf16* next1, float (*out)[2][TILE_SIDE * TILE_SIDE]) {
  // 16 sums hide an instruction's latency and fit the registers. More than 8 rows would not stay in the first cache:
  // at the usual powers of two between rows all of them fall into one of its sets.
  constexpr int ROWS = 8, CHAINS = 2 / BLOCKS;
  for (int half = 0; half < 2; half++) {
    const bf16* w = half ? w1 : w0;
    const char* next = reinterpret_cast<const char*>(half ? next1 : next0);
    for (int64_t row = 0; row < TILE_SIDE; row += ROWS)
      dot_rows<ROWS, BLOCKS, CHAINS>(w + row * (stride / int64_t(sizeof(bf16))), stride, tokens, steps,
                                     next ? next + row * stride : nullptr, out[half], row);
  }
}

}  // namespace pangu
