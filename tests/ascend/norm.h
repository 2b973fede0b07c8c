// What the tests of the tilings of rms_norm and add_rms_norm share.
#pragma once

#include "ascend/tiling.h"
#include "tiling/norm.h"

namespace pangu::ascend {

// `tensors`: that a tile's rows are read from, and that they are written to
template <class Tiling>
const char* check_norm(uint64_t seed, int count, int64_t tensors, const Tiling& tiling_of) {
  return check_shapes(seed, count, [=](Draw& draw, std::ostream& shape) {
    const Chip& chip = draw.chip();
    Dtype dtype = draw.dtype(chip);
    int64_t num_rows = draw.size(20000, {1, 4096}), hidden = draw.size(100000, {128, 1536, 4096, 5120, 7680});
    shape << chip << " " << dtype << " T=" << num_rows << " H=" << hidden;
    int64_t stride = stride_of(hidden, dtype, chip), bytes = bytes_of(dtype), block = BLOCK_BYTES / bytes;
    NormTiling tiling = tiling_of(num_rows, hidden, stride, stride, 1e-5f, dtype, chip);
    const Tiles& tiles = tiling.tiles;
    expect_covering(tiles, num_rows, hidden, block, chip);
    expect(tiles.width == round_up(hidden, block), "a tile's rows must be whole, came ", tiles.width);
    expect(tiles.rows == 1 || tiles.per_row == 1, "only a row by itself may be in parts");
    if (tiling.chunk != tiles.width) {
      expect(tiling.chunk % LANES == 0, "chunks must leave the order of sums alone, came ", tiling.chunk);
      expect(tiles.rows == 1, "a row in chunks must be by itself, came ", tiles.rows);
    }
    int64_t size = int64_t(tiles.rows) * tiling.chunk * tensors * bytes, eights = round_up(tiles.rows, 8);
    int64_t wide = dtype == Dtype::FLOAT ? 0 : int64_t(tiles.rows) * tiling.chunk * 4;
    int64_t sums = tiles.rows * LANES * 4, weights = tiling.chunk * 4;
    expect_fits(chip, {size, size, size, size, wide, sums, eights * 4, eights * 32, weights});
    expect(eights <= 248, "one instruction must take all rows, came ", tiles.rows);
  });
}

}  // namespace pangu::ascend
