// rms_norm and add_rms_norm: tiles of whole rows, since a row's squares are added up first. Where there are fewer rows
// than cores, several cores add up the same row, and each normalises a part of it.
#pragma once

#include "tiling/tiling.h"

namespace pangu::ascend {

struct NormTiling {
  Tiles tiles;
  int32_t chunk;  // columns in the unified buffer at a time: a whole row's, or a row is read in chunks, twice
  int64_t in_stride, out_stride;  // elements from row to row
  float share, eps;               // 1 / hidden
};

// Bytes of the unified buffer beside the elements: for each of `rows` its sums, and its total and factor by eights.
inline int64_t norm_bytes(int64_t rows) { return rows * LANES * 4 + round_up(rows, 8) * (4 + 32); }

// `bytes`: of the unified buffer for an element of a tile; there are a row of weights in fp32 beside.
inline NormTiling norm_tiling(int64_t num_rows, int64_t hidden, int64_t in_stride, int64_t out_stride, float eps,
                              int64_t bytes, Dtype dtype, const Chip& chip) {
  constexpr int64_t MOST = 248;  // rows, which one vector instruction can take in steps of eight
  int64_t block = BLOCK_BYTES / bytes_of(dtype), width = round_up(hidden, block);
  int64_t chunk = std::min(width, round_down((chip.ub_bytes - norm_bytes(1)) / (bytes + 4), LANES));
  int64_t most = 1;
  while (most < MOST && norm_bytes(most + 1) + width * ((most + 1) * bytes + 4) <= chip.ub_bytes) most++;
  Tiles tiles = cheapest(ceil_div(num_rows, most * chip.cores), GRAIN, chip, [=](int64_t count) {
    int64_t rows = std::max(ceil_div(num_rows, count), ceil_div(GRAIN, width));
    rows = std::min({rows, num_rows, most});
    int64_t per_row = std::clamp<int64_t>(rows == 1 ? chip.cores / num_rows : 1, 1, ceil_div(width, GRAIN));
    int64_t columns = std::min(round_up(ceil_div(hidden, per_row), block), hidden);
    return Tiles{{}, num_rows, hidden, ceil_div(hidden, columns), int32_t(rows), int32_t(columns), int32_t(width)};
  });
  return {tiles, int32_t(chunk), in_stride, out_stride, 1.0f / float(hidden), eps};
}

}  // namespace pangu::ascend
