// What the tilings share: plain C++ that the host, the kernels and the tests compile alike.
#pragma once

#include <algorithm>
#include <cstdint>

#ifndef __aicore__
#define __aicore__
#endif

namespace pangu::ascend {

constexpr int64_t BLOCK_BYTES = 32;  // what the unified buffer is addressed in
constexpr int32_t LANES = 64;        // floats that a vector instruction takes in one repeat
constexpr int32_t MOST_REPEATS = 255, MOST_STRIDE = 255;  // of a vector instruction

enum class Dtype : int32_t { FLOAT, HALF, BFLOAT16 };

inline int64_t bytes_of(Dtype dtype) { return dtype == Dtype::FLOAT ? 4 : 2; }

struct Chip {
  int32_t cores;      // vector cores
  int64_t ub_bytes;   // of a core's unified buffer that a kernel may fill
  bool moves_bytes;   // has DataCopyPad, which moves any number of bytes; otherwise rows must be whole blocks
  bool has_bfloat16;
};

constexpr Chip ASCEND_910B{40, 184 << 10, true, true};
constexpr Chip ASCEND_310P{8, 248 << 10, false, false};

__aicore__ inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
__aicore__ inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
__aicore__ inline int64_t round_down(int64_t a, int64_t b) { return a / b * b; }

// Items 0 ... n - 1 over the cores, neighbouring ones to the same: the first `larger` cores take one more than `each`.
struct Split {
  int32_t cores;
  int32_t larger;
  int64_t each;
};

inline Split split(int64_t items, const Chip& chip) {
  int32_t cores = int32_t(std::clamp<int64_t>(items, 1, chip.cores));
  return {cores, int32_t(items % cores), items / cores};
}

// The first item of a core; the first of core + 1 is its end.
__aicore__ inline int64_t first_of(const Split& split, int64_t core) {
  return core * split.each + (core < split.larger ? core : split.larger);
}

// How rows are cut into tiles: whole rows together while they fit, otherwise one row's columns in parts.
struct Tiles {
  Split split;       // of the tiles: those of a row follow one another
  int64_t num_rows, num_columns;
  int64_t per_row;   // tiles beside each other
  int32_t rows;      // of a tile; 1 where a row takes more than one
  int32_t columns;   // of a tile; the last beside others may have fewer
  int32_t width;     // of a tile's row in the unified buffer: whole blocks
};

struct Tile {
  int64_t row, column;
  int32_t rows, columns;
};

__aicore__ inline Tile tile_at(const Tiles& tiles, int64_t index) {
  Tile tile{};
  tile.row = index / tiles.per_row * tiles.rows;
  tile.column = index % tiles.per_row * tiles.columns;
  int64_t rows = tiles.num_rows - tile.row, columns = tiles.num_columns - tile.column;
  tile.rows = int32_t(rows < tiles.rows ? rows : tiles.rows);
  tile.columns = int32_t(columns < tiles.columns ? columns : tiles.columns);
  return tile;
}

// Elements: fewer a core had better not take, since a copy should not be shorter, and a tile costs about as much time
// by itself as twice as many.
constexpr int64_t GRAIN = 256;
constexpr int64_t MOST_ROWS = 4095;  // of a copy

// The cheapest of cut(tiles), which gives about so many Tiles, for `rounds`, rounds + 1 ... tiles to each core. A tile
// is copied while the one before is computed, so that only the first is waited for.
template <class Cut>
inline Tiles cheapest(int64_t rounds, int64_t grain, const Chip& chip, const Cut& cut) {
  Tiles best{};
  int64_t least = 0;
  for (int64_t more = 0; more < 8; more++) {
    Tiles tiles = cut((rounds + more) * chip.cores);
    int64_t count = ceil_div(tiles.num_rows, tiles.rows) * tiles.per_row;
    int64_t cost = (2 * ceil_div(count, chip.cores) + 1) * (int64_t(tiles.rows) * tiles.width + 2 * grain);
    if (more > 0 && cost >= least) continue;
    tiles.split = split(count, chip);
    best = tiles, least = cost;
  }
  return best;
}

// Tiles of at most `capacity` columns, in parts of whole blocks of `block`; of what is no element `grain` counts GRAIN.
inline Tiles tiles_of(int64_t num_rows, int64_t num_columns, int64_t capacity, int64_t block, const Chip& chip,
                      int64_t grain = GRAIN) {
  int64_t whole = round_up(num_columns, block), rounds = ceil_div(num_rows * whole, capacity * chip.cores);
  int64_t fewest = ceil_div(whole, round_down(capacity, block)), most = std::max(fewest, ceil_div(whole, grain));
  return cheapest(std::max<int64_t>(rounds, 1), grain, chip, [=](int64_t count) {
    int64_t rows = std::max(ceil_div(num_rows, count), ceil_div(grain, whole));
    rows = std::max<int64_t>(std::min({rows, num_rows, capacity / whole, MOST_ROWS}), 1);
    int64_t per_row = std::clamp<int64_t>(rows == 1 ? count / num_rows : 1, fewest, most);
    int64_t columns = std::min(round_up(ceil_div(num_columns, per_row), block), num_columns);
    return Tiles{{}, num_rows, num_columns, ceil_div(num_columns, columns), int32_t(rows), int32_t(columns),
                 int32_t(round_up(columns, block))};
  });
}

}  // namespace pangu::ascend
