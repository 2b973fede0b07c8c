// moge_combine: the result as one long line of units of columns, a stretch of it to each core, so that every core has
// the same to do however few or long the tokens are; a stretch is cut at the ends of rows and where buffers end.
#pragma once

#include "tiling/tiling.h"

namespace pangu::ascend {

struct MogeCombineTiling {
  Split split;       // of the units
  int64_t num_rows, num_tokens, num_slots, hidden;
  int64_t stride;    // elements from row to row, of the rows, the addend and the result
  int64_t units;     // of a row
  int32_t most;      // units of a piece
  bool has_addend;
};

struct CombinePiece {
  int64_t token, column;
  int32_t columns, units;
};

constexpr int32_t COMBINE_UNIT = 256;    // columns; of a narrow type 512 bytes, what memory is fastest in
constexpr int32_t COMBINE_ROWS = 4;      // on their way at once, so that a core's share of the bandwidth is in use
constexpr int32_t COMBINE_SLOTS = 1024;  // rows and weights of so many slots lie in the unified buffer

// Bytes of the unified buffer for a column: rows on their way, the sum, a converted row, and twice the result.
inline int64_t moge_combine_bytes(Dtype dtype) {
  return dtype == Dtype::FLOAT ? COMBINE_ROWS * 4 + 2 * 4 : COMBINE_ROWS * 2 + 4 + 4 + 2 * 2;
}

inline MogeCombineTiling moge_combine_tiling(int64_t num_rows, int64_t num_tokens, int64_t num_slots, int64_t hidden,
                                             int64_t stride, bool has_addend, Dtype dtype, const Chip& chip) {
  int64_t units = ceil_div(hidden, COMBINE_UNIT), slot_bytes = 2 * COMBINE_SLOTS * 4;
  int64_t capacity = (chip.ub_bytes - slot_bytes) / moge_combine_bytes(dtype) / COMBINE_UNIT;
  int64_t most = std::min({units, capacity, ceil_div(num_tokens * units, chip.cores)});
  most = ceil_div(units, ceil_div(units, most));  // a row's pieces alike
  return {split(num_tokens * units, chip), num_rows, num_tokens,       num_slots, hidden,
          stride,                          units,    int32_t(most), has_addend};
}

// The piece that begins at a unit, of a stretch that ends before another.
__aicore__ inline CombinePiece combine_piece(const MogeCombineTiling& tiling, int64_t unit, int64_t end) {
  CombinePiece piece{};
  int64_t first = unit % tiling.units, units = tiling.units - first;
  if (units > end - unit) units = end - unit;
  if (units > tiling.most) units = tiling.most;
  piece.token = unit / tiling.units;
  piece.column = first * COMBINE_UNIT;
  piece.units = int32_t(units);
  int64_t columns = tiling.hidden - piece.column;
  piece.columns = int32_t(columns < units * COMBINE_UNIT ? columns : units * COMBINE_UNIT);
  return piece;
}

}  // namespace pangu::ascend
