#include "tiling/moge_gating.h"

#include "ascend/tiling.h"

namespace pangu::ascend {

extern "C" const char* check_moge_gating(uint64_t seed, int count) {
  return check_shapes(seed, count, [](Draw& draw, std::ostream& shape) {
    const Chip& chip = draw.chip();
    Dtype dtype = draw.dtype(chip);
    int64_t num_tokens = draw.size(40000, {1, 4096}), num_groups = draw.size(1024, {1, 8});
    int64_t most = 1024 / num_groups, size = draw.size(most, {std::min<int64_t>(8, most), most});
    int64_t num_experts = num_groups * size, top_k = draw.size(size, {1, size});
    bool bias = draw.yes(), scale = draw.yes();
    shape << chip << " " << dtype << " T=" << num_tokens << " E=" << num_experts << " G=" << num_groups;
    shape << " k=" << top_k;
    auto tiling_for = [&](Dtype copied) {
      return moge_gating_tiling(num_tokens, num_experts, num_groups, top_k, copied, chip, bias, scale);
    };
    MogeGatingTiling tiling = tiling_for(dtype);
    if (tiling.tokens == 0) {  // the host widens the logits
      expect(dtype != Dtype::FLOAT && size < 8, "a token must fit");
      tiling = tiling_for(dtype = Dtype::FLOAT);
    }
    int64_t tokens = tiling.tokens, tiles = ceil_div(num_tokens, tokens);
    expect(tokens >= 1 && tokens <= num_tokens, "a tile must have a token, came ", tokens);
    expect_balanced(tiling.split, tiles, chip);

    MogeGatingSpace space = moge_gating_space(tiling);
    int64_t bytes = bytes_of(dtype), slots = space.slots * 4, in = space.lanes * bytes;
    expect_fits(chip, {in, in, slots, slots, slots, slots, space.work * 4});
    // rows of logits in the unified buffer are groups one after another, in whole blocks where they are more than one
    int64_t block = BLOCK_BYTES / bytes, rows = tokens * tiling.rows;
    expect(tiling.rows * tiling.columns == num_experts, "rows must hold all experts");
    expect(tiling.columns <= tiling.row_width, "rows must hold their columns");
    expect(rows == 1 || tiling.row_width % block == 0 || tiling.row_width == tiling.in_stride, "rows must be blocks");
    expect(tiling.lanes % FLOATS == 0 && num_groups * tiling.width <= tiling.lanes, "a token must hold its groups");
    expect(size == 1 || (tiling.width % FLOATS == 0 && num_groups * tiling.width == tiling.lanes),
           "groups must be blocks side by side");
    expect(chip.moves_bytes || tiling.in_stride % block == 0, "rows in memory must be blocks");
    for (const Walk& walk : {walk_of(int32_t(tokens), tiling.lanes), walk_of(int32_t(tokens), tiling.slots)}) {
      expect(can_walk(walk) && touched(walk) <= space.lanes, "tokens must be rows that instructions can visit");
      expect(touched(walk) >= tokens * walk.width, "a walk must reach all rows");
    }
    Walk groups = walk_of(int32_t(tokens * num_groups), tiling.width);
    expect(can_walk(groups) && touched(groups) <= space.lanes, "groups must be rows that instructions can visit");
    expect(space.spread >= groups.rows * FLOATS, "each group must have a block");
    expect(tokens * num_groups <= space.group_rows && tokens * tiling.slots <= space.slots, "choices must fit");
  });
}

}  // namespace pangu::ascend
