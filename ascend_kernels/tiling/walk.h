// Rows of fp32 numbers in the unified buffer and how the instructions of the vector unit visit them.
#pragma once

#include "tiling/tiling.h"

namespace pangu::ascend {

constexpr int32_t FLOATS = int32_t(BLOCK_BYTES / 4);  // of a block

// How instructions visit rows of `width` fp32 numbers: a row in a repeat, 64 numbers of it in a step; or, where a row
// is short or would leave half of two steps empty, eight rows in a repeat, a block of each in a step. So repeats fill
// the vector unit, and a step is one instruction. Strides are in blocks. Beside the rows come what a row has one number
// of, copied to a whole block (`own`), and what all rows share (`shared`).
struct Walk {
  int32_t rows, width;  // whole blocks wide
  bool by_row;
  int32_t steps, step;  // how many, and the numbers from one to the next
  int32_t repeats, block, repeat;
  int32_t own_block, own_repeat, shared_block;
};

__aicore__ inline Walk walk_of(int32_t rows, int32_t width) {
  int32_t blocks = width / FLOATS;
  if (width == LANES || width >= 2 * LANES)
    return {rows, width, true, int32_t(ceil_div(width, LANES)), LANES, rows, 1, blocks, 0, 1, 1};
  return {rows, width, false, blocks, FLOATS, int32_t(ceil_div(rows, 8)), blocks, 8 * blocks, 1, 8, 0};
}

// The numbers that a walk touches: eight rows at a time there may be some past the last.
__aicore__ inline int32_t touched(const Walk& walk) {
  return (walk.by_row ? walk.rows : walk.repeats * 8) * walk.width;
}

inline bool can_walk(const Walk& walk) {
  return walk.repeats <= MOST_REPEATS && (walk.repeats == 1 || walk.repeat <= MOST_STRIDE);
}

}  // namespace pangu::ascend
