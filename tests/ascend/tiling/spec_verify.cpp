#include "tiling/spec_verify.h"

#include "ascend/tiling.h"

namespace pangu::ascend {

extern "C" const char* check_spec_verify(uint64_t seed, int count) {
  return check_shapes(seed, count, [](Draw& draw, std::ostream& shape) {
    const Chip& chip = draw.chip();
    bool greedy = draw.yes(), by_id = greedy && draw.yes();
    Dtype dtype = greedy && !by_id ? draw.dtype(chip) : Dtype::FLOAT;
    int64_t batch = draw.size(10000, {1, 8, 32}), most_nodes = spec_verify_most_nodes(chip);
    int64_t num_nodes = draw.size(most_nodes + 1, {9, 6, 65, most_nodes + 1}) - 1;
    int64_t vocabulary = by_id ? 0 : draw.size(int64_t(1) << 18, {153376, 32000});
    shape << chip << " " << dtype << (greedy ? " greedy" : "") << " B=" << batch << " N=" << num_nodes
          << " V=" << vocabulary;
    SpecVerifyTiling tiling = spec_verify_tiling(batch, num_nodes, vocabulary, greedy, dtype, chip);

    expect(tiling.cores >= 1 && tiling.cores <= chip.cores, "cores must be 1 to ", chip.cores, ", came ", tiling.cores);
    if (tiling.team > 1) {
      expect(tiling.cores == batch * tiling.team, "each sequence must have a team, came ", tiling.cores, " cores");
    } else {
      expect_balanced(tiling.sequences, batch, chip);
    }
    int64_t columns = int64_t(tiling.tile) * tiling.num_tiles;
    expect(tiling.tile >= 128 && tiling.tile % 128 == 0, "a tile must be of 128s, came ", tiling.tile);
    expect(columns >= vocabulary && columns - vocabulary < tiling.tile, "tiles must cover the vocabulary, came ",
           columns);
    expect(int64_t(tiling.span) * tiling.team >= tiling.num_tiles, "members must cover the tiles, came ", tiling.span);
    int64_t more = int64_t(tiling.span) * tiling.tile - ceil_div(vocabulary, tiling.team);
    expect(vocabulary == 0 || more < 128 * tiling.span, "a member must own little more than its share, came ",
           more);
    expect(tiling.record % 4 == 0 && tiling.record > tiling.values, "a record must hold the values in whole blocks");
    // no sum of a tile's elements overflows: 128 of them in a lane for hi, 256 for lo, each twice if folds are uneven
    expect(greedy || tiling.tile <= 4096, "a tile must have at most 4096 elements, came ", tiling.tile);

    int64_t words = 2, window = KNOWN_NODES * (words + 2 + 2 * 8), tokens = round_up((num_nodes + 1) * words, 8);
    int64_t drafts = 4 * (window + tokens + round_up(num_nodes, 8) + 8), mask = round_up(tiling.tile / 8, 32);
    int64_t record = 8 * int64_t(tiling.record), states = 32 * tiling.cores, counts = chip.moves_bytes ? 0 : states;
    int64_t team = tiling.team > 1 ? tiling.team * record + states + counts : 0;
    if (greedy) {
      int64_t logits = by_id ? 0 : 2 * tiling.tile * bytes_of(dtype) + (dtype == Dtype::FLOAT ? 0 : tiling.tile * 4);
      expect_fits(chip, {drafts, record, team, logits, tiling.tile * 2, mask, mask});
    } else {
      expect_fits(chip, {drafts, record, team, tiling.tile * 32, mask, tiling.tile * 16, (num_nodes + 1) * 16, 32});
    }
  });
}

}  // namespace pangu::ascend
