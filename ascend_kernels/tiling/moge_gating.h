// moge_gating: tiles of whole tokens. In the unified buffer a token is `lanes` fp32 numbers, a group of experts `width`
// of them: whole blocks, so that the vector unit meets no two groups in one block.
#pragma once

#include "tiling/walk.h"

namespace pangu::ascend {

struct MogeGatingTiling {
  Split split;     // of the tiles
  int64_t num_tokens;
  int32_t tokens;  // of a tile; 0 where not even one fits
  int32_t num_experts, num_groups, group_size, topk_per_group;
  int32_t width, lanes;  // of a group and of a token in the unified buffer
  int32_t slots;         // of a token in the unified buffer: its K, up to a whole block
  int32_t rows, columns, row_width;  // of a token's logits, as they are copied: its groups, or all experts in one
  int64_t in_stride, expert_stride, out_stride;  // in memory, from row to row of logits, of what experts have, of slots
  bool softmax, renormalize, has_bias, has_scale;
  bool spread_by_table;  // 310P
  float scaling_factor;
};

// How many numbers the buffers of a kernel hold, all of 4 bytes but for those of logits.
struct MogeGatingSpace {
  int32_t lanes, slots;              // of a tile, with what is touched past its end
  int32_t group_rows, token_rows;    // numbers of which a group or a token has one
  int32_t best;                      // as for the groups, in whole repeats
  int32_t spread;                    // a block for each group
  int32_t places;                    // what all groups share, in whole steps
  int32_t bits;                      // as words
  int32_t spread_table, bias, scale;  // 0 where there are none
  int32_t work;                      // of all that is neither copied in nor out
};

__aicore__ inline MogeGatingSpace moge_gating_space(const MogeGatingTiling& tiling) {
  Walk groups = walk_of(tiling.tokens * tiling.num_groups, tiling.width), tokens = walk_of(tiling.tokens, tiling.lanes);
  Walk slots = walk_of(tiling.tokens, tiling.slots);
  MogeGatingSpace space{};
  int32_t lanes = touched(groups) > touched(tokens) ? touched(groups) : touched(tokens);
  space.slots = touched(slots);
  lanes = lanes > space.slots ? lanes : space.slots;
  space.places = groups.steps * groups.step;
  if (space.places > tiling.width) lanes += LANES;  // comparisons take whole repeats
  space.lanes = int32_t(round_up(lanes, LANES));
  space.group_rows = int32_t(round_up(groups.rows, 8));
  space.token_rows = int32_t(round_up(tokens.rows, LANES));
  space.best = int32_t(round_up(groups.rows, LANES));
  space.spread = space.group_rows * FLOATS;
  int32_t bits = int32_t(groups.steps * round_up(groups.repeats * 8, BLOCK_BYTES));
  space.bits = int32_t(round_up(bits > space.lanes / 8 ? bits : space.lanes / 8, BLOCK_BYTES) / 4);
  space.spread_table = tiling.spread_by_table ? space.spread : 0;
  space.bias = tiling.has_bias ? int32_t(round_up(tiling.lanes, LANES)) : 0;
  space.scale = tiling.has_scale ? int32_t(round_up(tiling.num_experts, FLOATS)) : 0;
  int32_t several = tiling.topk_per_group > 1;  // then it is noted which experts are left
  space.work = (3 + several) * space.lanes + space.places + space.bits + space.spread +
               space.spread_table + space.best + tiling.topk_per_group * space.group_rows + 2 * space.token_rows +
               5 * space.slots + space.bias + space.scale;
  return space;
}

inline int64_t moge_gating_bytes(const MogeGatingTiling& tiling, Dtype dtype) {
  MogeGatingSpace space = moge_gating_space(tiling);
  return 2 * space.lanes * bytes_of(dtype) + 2 * 2 * 4 * int64_t(space.slots) + 4 * int64_t(space.work);
}

inline bool moge_gating_fits(const MogeGatingTiling& tiling, Dtype dtype, const Chip& chip) {
  return can_walk(walk_of(tiling.tokens * tiling.num_groups, tiling.width)) &&
         can_walk(walk_of(tiling.tokens, tiling.lanes)) && can_walk(walk_of(tiling.tokens, tiling.slots)) &&
         tiling.tokens * tiling.rows <= MOST_ROWS && moge_gating_bytes(tiling, dtype) <= chip.ub_bytes;
}

inline MogeGatingTiling moge_gating_tiling(int64_t num_tokens, int64_t num_experts, int64_t num_groups,
                                           int64_t topk_per_group, Dtype dtype, const Chip& chip, bool has_bias,
                                           bool has_scale) {
  MogeGatingTiling tiling{};
  int64_t block = BLOCK_BYTES / bytes_of(dtype), size = num_experts / num_groups;
  int64_t top_k = num_groups * topk_per_group;
  tiling.num_tokens = num_tokens;
  tiling.num_experts = int32_t(num_experts);
  tiling.num_groups = int32_t(num_groups);
  tiling.group_size = int32_t(size);
  tiling.topk_per_group = int32_t(topk_per_group);
  tiling.has_bias = has_bias;
  tiling.has_scale = has_scale;
  tiling.spread_by_table = !chip.moves_bytes;
  tiling.slots = int32_t(round_up(top_k, FLOATS));
  tiling.out_stride = chip.moves_bytes ? top_k : tiling.slots;
  // Where groups are whole blocks, or experts on their own, a token lies in the unified buffer as in memory.
  bool whole = size == 1 || (size % FLOATS == 0 && (chip.moves_bytes || num_experts % block == 0));
  int64_t columns = whole ? num_experts : size;
  int64_t row_width = whole && size > 1 ? num_experts : round_up(columns, block);
  tiling.width = int32_t(whole ? size : row_width);
  tiling.rows = int32_t(whole ? 1 : num_groups);
  tiling.columns = int32_t(columns);
  tiling.row_width = int32_t(row_width);
  tiling.lanes = tiling.rows * tiling.row_width;
  tiling.in_stride = chip.moves_bytes ? columns : row_width;
  tiling.expert_stride = chip.moves_bytes ? columns : round_up(columns, FLOATS);

  auto fits = [&](int64_t tokens) {
    tiling.tokens = int32_t(tokens);
    return moge_gating_fits(tiling, dtype, chip);
  };
  int64_t share = std::max(ceil_div(num_tokens, chip.cores), ceil_div(GRAIN, num_experts));
  share = std::min(share, num_tokens);
  int64_t most = std::min<int64_t>(share, MOST_REPEATS * 8), none = most + 1;  // tokens that may fit, and too many
  while (most > 0 && !fits(most)) {
    none = most;
    most /= 2;
  }
  while (none - most > 1) {
    int64_t between = (most + none) / 2;
    (fits(between) ? most : none) = between;
  }
  tiling.tokens = int32_t(most == 0 ? 0 : ceil_div(share, ceil_div(share, most)));
  tiling.split = split(most == 0 ? 0 : ceil_div(num_tokens, tiling.tokens), chip);
  return tiling;
}

}  // namespace pangu::ascend
