#include "tiling/rotary.h"

#include "ascend/tiling.h"

namespace pangu::ascend {

extern "C" const char* check_rotary(uint64_t seed, int count) {
  return check_shapes(seed, count, [](Draw& draw, std::ostream& shape) {
    const Chip& chip = draw.chip();
    Dtype dtype = draw.dtype(chip);
    int64_t num_tokens = draw.size(20000, {1, 4096}), half = draw.size(40000, {32, 64, 128});
    int64_t q_heads = draw.size(200, {40, 32, 12}), k_heads = draw.size(200, {8, 6, 1});
    shape << chip << " " << dtype << " T=" << num_tokens << " Hq=" << q_heads << " Hk=" << k_heads << " D=" << 2 * half;
    half = stride_of(half, dtype, chip);
    int64_t bytes = bytes_of(dtype), block = BLOCK_BYTES / bytes, heads = q_heads + k_heads;
    Heads q{int32_t(q_heads), q_heads * 2 * half, 2 * half}, k{int32_t(k_heads), k_heads * 2 * half, 2 * half};
    RotaryTiling tiling = rotary_tiling(num_tokens, half, q, k, dtype, chip);
    const Tiles& tiles = tiling.tiles;
    if (tiling.in_parts) {
      expect_covering(tiles, num_tokens * heads, half, block, chip);
    } else {
      expect_covering(tiles, num_tokens, heads, 1, chip);
    }
    expect(tiling.width == (tiling.in_parts ? tiles.width : round_up(half, block)), "width must be blocks of a half");
    // the last tile lies inside, and with it every other
    RotaryTile last = rotary_tile_at(tiling, first_of(tiles.split, tiles.split.cores) - 1);
    expect(last.token + last.tokens == num_tokens, "the last token must be reached, came ", last.token + last.tokens);
    expect(last.head + last.heads == heads && last.column + last.columns == half, "the last head must be reached");
    int64_t tokens = tiling.in_parts ? 1 : tiles.rows, width = tiling.width;
    int64_t size = (tiling.in_parts ? 1 : tiles.columns) * 2 * width, table = tokens * width * 4;
    int64_t work = dtype == Dtype::FLOAT ? 0 : 2 * size * 4, in = tokens * size * bytes;
    expect_fits(chip, {in, in, in, in, 2 * table, 2 * table, table, work});
  });
}

}  // namespace pangu::ascend
