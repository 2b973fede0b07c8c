#include "tiling/silu_mul.h"

#include "ascend/tiling.h"

namespace pangu::ascend {

extern "C" const char* check_silu_mul(uint64_t seed, int count) {
  return check_shapes(seed, count, [](Draw& draw, std::ostream& shape) {
    const Chip& chip = draw.chip();
    Dtype dtype = draw.dtype(chip);
    int64_t rows = draw.size(20000, {1, 4096}), columns = draw.size(100000, {1344, 4800, 6144, 12800, 18432});
    shape << chip << " " << dtype << " T=" << rows << " I=" << columns;
    int64_t stride = stride_of(columns, dtype, chip), bytes = bytes_of(dtype);
    Tiles tiles = silu_mul_tiling(rows, columns, stride, stride, dtype, chip).tiles;
    expect_covering(tiles, rows, columns, BLOCK_BYTES / bytes, chip);
    int64_t size = int64_t(tiles.rows) * tiles.width, work = dtype == Dtype::FLOAT ? 0 : 2 * size * 4;
    expect_fits(chip, {size * bytes, size * bytes, size * bytes, size * bytes, size * bytes, size * bytes, work});
  });
}

}  // namespace pangu::ascend
