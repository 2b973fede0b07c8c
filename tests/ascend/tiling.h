// What the tests of the tilings share: each draws shapes, and says the first thing that is wrong with a tiling.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>

#include "tiling/tiling.h"

namespace pangu::ascend {

// Thrown as a sentence; the shape is put before it.
template <class... Parts>
void expect(bool holds, const Parts&... parts) {
  if (holds) return;
  std::ostringstream text;
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

class Draw {
 public:
  explicit Draw(uint64_t seed) : random_(seed) {}

  int64_t upto(int64_t most) { return std::uniform_int_distribution<int64_t>(0, most)(random_); }

  // 1 ... most, small ones as often as large ones: as many of each length in bits
  int64_t size(int64_t most) {
    double bits = std::uniform_real_distribution<double>(0, std::log2(double(most)))(random_);
    return std::clamp<int64_t>(int64_t(std::exp2(bits)), 1, most);
  }

  // One of the given sizes as often as any.
  int64_t size(int64_t most, std::initializer_list<int64_t> often) {
    return upto(1) ? size(most) : often.begin()[upto(int64_t(often.size()) - 1)];
  }

  const Chip& chip() { return upto(1) ? ASCEND_910B : ASCEND_310P; }

  Dtype dtype(const Chip& chip) { return Dtype(upto(chip.has_bfloat16 ? 2 : 1)); }

  bool yes() { return upto(1); }

 private:
  std::mt19937_64 random_;
};

// Elements from row to row in memory: whole blocks on a chip that moves nothing less.
inline int64_t stride_of(int64_t columns, Dtype dtype, const Chip& chip) {
  return chip.moves_bytes ? columns : round_up(columns, BLOCK_BYTES / bytes_of(dtype));
}

// The items of all cores, one after another, are 0 ... count - 1, and no core has more than one more than another.
inline void expect_balanced(const Split& split, int64_t count, const Chip& chip) {
  expect(split.cores >= 1 && split.cores <= chip.cores, "cores must be 1 to ", chip.cores, ", came ", split.cores);
  int64_t fewest = count, most = 0;
  for (int64_t core = 0; core < split.cores; core++) {
    int64_t items = first_of(split, core + 1) - first_of(split, core);
    fewest = std::min(fewest, items), most = std::max(most, items);
  }
  expect(most - fewest <= 1, "cores must have as many items as others, or one more, came ", fewest, " and ", most);
  expect(fewest >= 1, "every core must have an item, came ", fewest);
  int64_t first = first_of(split, 0), end = first_of(split, split.cores);
  expect(first == 0 && end == count, "items must be 0 to ", count, ", came ", first, " to ", end);
}

// Tiles come row by row and within rows column by column, and leave nothing out.
inline void expect_covering(const Tiles& tiles, int64_t num_rows, int64_t num_columns, int64_t block,
                            const Chip& chip) {
  int64_t row = 0, column = 0, rows = 0;
  for (int64_t i = 0; i < first_of(tiles.split, tiles.split.cores); i++) {
    Tile tile = tile_at(tiles, i);
    expect(tile.row == row && tile.column == column, "tile ", i, " must begin at ", row, ", ", column, ", came ",
           tile.row, ", ", tile.column);
    expect(tile.rows >= 1 && tile.columns >= 1, "tile ", i, " must not be empty");
    expect(tile.rows <= tiles.rows && tile.columns <= tiles.columns, "tile ", i, " must fit, came ", tile.rows, " x ",
           tile.columns);
    expect(column == 0 || tile.rows == rows, "tiles beside each other must have the same rows, came ", tile.rows);
    expect(column % block == 0, "tile ", i, " must begin with a block, came column ", column);
    rows = tile.rows;
    column += tile.columns;
    if (column == num_columns) row += rows, column = 0;
  }
  expect(row == num_rows && column == 0, "tiles must end after ", num_rows, " rows, came ", row, ", ", column);
  expect(tiles.rows <= MOST_ROWS, "a tile must have rows for one copy, came ", tiles.rows);
  expect_balanced(tiles.split, ceil_div(num_rows, tiles.rows) * tiles.per_row, chip);
}

// The buffers of a kernel, as its Init makes them: each is rounded up to whole blocks.
inline void expect_fits(const Chip& chip, std::initializer_list<int64_t> buffers) {
  int64_t bytes = 0;
  for (int64_t buffer : buffers) bytes += round_up(buffer, BLOCK_BYTES);
  expect(bytes <= chip.ub_bytes, "buffers must fit ", chip.ub_bytes, " bytes, came ", bytes);
}

// check(draw, shape), which puts the shape's words into `shape`, for `count` shapes; an empty string, or what is wrong.
template <class Check>
const char* check_shapes(uint64_t seed, int count, const Check& check) {
  static std::string wrong;
  Draw draw(seed);
  for (int i = 0; i < count; i++) {
    std::ostringstream shape;
    try {
      check(draw, shape);
    } catch (const std::exception& error) {
      wrong = shape.str() + ": " + error.what();
      return wrong.c_str();
    }
  }
  return "";
}

inline std::ostream& operator<<(std::ostream& out, const Chip& chip) {
  return out << (chip.has_bfloat16 ? "910B" : "310P");
}

inline std::ostream& operator<<(std::ostream& out, Dtype dtype) {
  return out << (dtype == Dtype::FLOAT ? "float" : dtype == Dtype::HALF ? "half" : "bfloat16");
}

}  // namespace pangu::ascend
