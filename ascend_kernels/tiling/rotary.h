// rotary: the heads of q and k count as one list. A tile is all heads of several tokens, or some heads of one; or of a
// head that the unified buffer does not hold a part of both halves.
#pragma once

#include "tiling/tiling.h"

namespace pangu::ascend {

struct Heads {  // of q or of k; strides in elements
  int32_t count;
  int64_t token_stride, head_stride;
};

struct RotaryTiling {
  Tiles tiles;    // of tokens and their heads; `in_parts` of heads and the columns of a half
  bool in_parts;
  int32_t half;   // a head's
  int32_t width;  // of a half in the unified buffer
  Heads q, k;
};

struct RotaryTile {
  int64_t token;
  int32_t tokens, head, heads, column, columns;
};

__aicore__ inline RotaryTile rotary_tile_at(const RotaryTiling& tiling, int64_t index) {
  Tile tile = tile_at(tiling.tiles, index);
  if (!tiling.in_parts) return {tile.row, tile.rows, int32_t(tile.column), tile.columns, 0, tiling.half};
  int32_t heads = tiling.q.count + tiling.k.count;
  return {tile.row / heads, 1, int32_t(tile.row % heads), 1, int32_t(tile.column), tile.columns};
}

// Bytes of the unified buffer. For each column of a head: both halves twice and so their results, and what is computed
// in fp32, for one token at a time. For each column of a token: cosines and sines twice, and the sines' negatives.
inline int64_t rotary_io_bytes(Dtype dtype) { return 8 * bytes_of(dtype); }
inline int64_t rotary_work_bytes(Dtype dtype) { return dtype == Dtype::FLOAT ? 0 : 4 * 4; }
constexpr int64_t ROTARY_TABLE_BYTES = 5 * 4;

inline RotaryTiling rotary_tiling(int64_t num_tokens, int64_t half, const Heads& q, const Heads& k, Dtype dtype,
                                  const Chip& chip) {
  int64_t block = BLOCK_BYTES / bytes_of(dtype), width = round_up(half, block), heads = q.count + k.count;
  int64_t io = rotary_io_bytes(dtype), work = rotary_work_bytes(dtype), head_bytes = width * (io + work);
  int64_t most_heads = (chip.ub_bytes - width * ROTARY_TABLE_BYTES) / head_bytes;
  if (most_heads < 1) {
    int64_t capacity = chip.ub_bytes / (io + work + ROTARY_TABLE_BYTES);
    Tiles tiles = tiles_of(num_tokens * heads, half, capacity, block, chip, GRAIN / 2);
    return {tiles, true, int32_t(half), tiles.width, q, k};
  }
  int64_t token_bytes = width * (heads * io + ROTARY_TABLE_BYTES), grain = ceil_div(GRAIN, 2 * width);
  int64_t most_tokens = std::min((chip.ub_bytes - heads * width * work) / token_bytes, MOST_ROWS);
  most_tokens = std::max<int64_t>(most_tokens, 1);
  int64_t rounds = ceil_div(ceil_div(num_tokens, most_tokens) * ceil_div(heads, most_heads), chip.cores);
  Tiles tiles = cheapest(rounds, grain, chip, [=](int64_t count) {
    int64_t tokens = std::max(ceil_div(num_tokens, count), ceil_div(grain, heads));
    tokens = std::min({tokens, num_tokens, most_tokens});
    int64_t per_token = std::clamp<int64_t>(tokens == 1 ? count / num_tokens : 1, 1, ceil_div(heads, grain));
    int64_t columns = std::min(ceil_div(heads, per_token), most_heads);
    return Tiles{{}, num_tokens, heads, ceil_div(heads, columns), int32_t(tokens), int32_t(columns), int32_t(columns)};
  });
  return {tiles, false, int32_t(half), int32_t(width), q, k};
}

}  // namespace pangu::ascend
