#include "tiling/moge_combine.h"

#include "ascend/tiling.h"

namespace pangu::ascend {

extern "C" const char* check_moge_combine(uint64_t seed, int count) {
  return check_shapes(seed, count, [](Draw& draw, std::ostream& shape) {
    const Chip& chip = draw.chip();
    Dtype dtype = draw.dtype(chip);
    int64_t num_tokens = draw.size(4000, {1, 32, 4096}), hidden = draw.size(50000, {2048, 5120, 7168});
    int64_t num_slots = draw.size(64, {8}), stride = stride_of(hidden, dtype, chip), bytes = bytes_of(dtype);
    shape << chip << " " << dtype << " T=" << num_tokens << " K=" << num_slots << " H=" << hidden;
    MogeCombineTiling tiling = moge_combine_tiling(num_tokens * num_slots, num_tokens, num_slots, hidden, stride,
                                                   draw.yes(), dtype, chip);
    expect_balanced(tiling.split, num_tokens * ceil_div(hidden, COMBINE_UNIT), chip);
    int64_t token = 0, column = 0;
    for (int64_t core = 0; core < tiling.split.cores; core++) {
      int64_t end = first_of(tiling.split, core + 1);
      for (int64_t unit = first_of(tiling.split, core); unit < end;) {
        CombinePiece piece = combine_piece(tiling, unit, end);
        expect(piece.token == token && piece.column == column, "a piece must begin at ", token, ", ", column, ", came ",
               piece.token, ", ", piece.column);
        expect(piece.units >= 1 && piece.units <= tiling.most, "a piece must fit, came ", piece.units, " units");
        expect(piece.columns >= 1 && piece.columns <= piece.units * COMBINE_UNIT, "columns must be those of the units");
        expect(piece.column * bytes % BLOCK_BYTES == 0, "a piece must begin with a block, came ", piece.column);
        unit += piece.units;
        column += piece.columns;
        if (column == hidden) token++, column = 0;
      }
    }
    expect(token == num_tokens && column == 0, "pieces must end after the last token, came ", token, ", ", column);
    int64_t size = tiling.most * COMBINE_UNIT, slots = COMBINE_SLOTS * 4, wide = dtype == Dtype::FLOAT ? 0 : size * 4;
    int64_t in = size * bytes;
    expect_fits(chip, {in, in, in, in, in, in, wide, wide, slots, slots});
  });
}

}  // namespace pangu::ascend
