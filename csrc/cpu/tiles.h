// The experts' two products on tiles, for bf16 experts with a handful of rows or more. Weights are read where they
// lie; tokens are packed once, in blocks of 16, and the first product leaves its result packed for the second.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/batch_invariant.h"
#include "cpu/experts.h"
#include "cpu/isa/tile.h"

#ifdef PANGU_TILES

namespace pangu {

constexpr int64_t TILE_UNITS = 8;  // per thread: tiles are so fast that reading the tokens again for each unit counts
constexpr int64_t GROUP = 8;  // blocks of tokens whose packed rows stay in L2 while the weights pass by

// Where each expert's blocks of 16 rows lie in a packed buffer.
struct PackedRows {
  std::vector<ExpertRows> experts;
  std::vector<int64_t> first_block;  // of each entry of experts
  int64_t num_blocks = 0;

  explicit PackedRows(const std::vector<ExpertRows>& rows) : experts(rows) {
    for (const auto& [expert, begin, end] : experts) {
      first_block.push_back(num_blocks);
      num_blocks += blocks(begin, end);
    }
  }

  static int64_t blocks(int64_t begin, int64_t end) { return (end - begin + TILE_SIDE - 1) / TILE_SIDE; }
};

// Tiles pay from about TILE_ROWS rows of an expert on. They sum in another order than dot products do, so in batch-invariant
// mode there are none: for one token they take 1.4 to 1.7 times as long.
inline bool use_tiles(const std::vector<ExpertRows>& experts, int64_t hidden, int64_t intermediate) {
  if (batch_invariant || hidden % TILE_K || intermediate % TILE_K) return false;
  return count_rows(experts) >= TILE_ROWS * int64_t(experts.size());
}

// packed[block][step]: the rows x(row) of every expert, transposed in pairs; the last block is filled up with zeros.
template <class RowOf>
void pack(const PackedRows& rows, const RowOf& x, int64_t hidden, bf16* packed) {
  int64_t steps = hidden / TILE_K;
  for_units(rows.num_blocks, [&](int64_t block) {
    const auto& firsts = rows.first_block;
    int64_t entry = std::upper_bound(firsts.begin(), firsts.end(), block) - firsts.begin() - 1;
    const auto& [expert, begin, end] = rows.experts[entry];
    int64_t row = begin + (block - firsts[entry]) * TILE_SIDE;
    bf16* to = packed + block * steps * TILE_SIZE;
    for (int64_t step = 0; step < steps; step++, to += TILE_SIZE) {
      vi tokens[TILE_SIDE] = {};
      for (int64_t i = 0; i < std::min(TILE_SIDE, end - row); i++)
        std::memcpy(&tokens[i], x(row + i) + step * TILE_K, sizeof(vi));
      transpose(tokens);
      std::memcpy(to, tokens, sizeof tokens);
    }
  });
}

// For panels of 2 x 16 weight rows, w(panel, half) the first of each 16, and all blocks of tokens at `packed`:
// store(panel, block, products of the first 16, products of the second).
template <class WeightOf, class Store>
void tile_panels(const WeightOf& w, int64_t first, int64_t last, int64_t size, const bf16* packed, int64_t blocks,
                 const Store& store) {
  alignas(64) float out[2][2][TILE_SIDE * TILE_SIDE];
  int64_t steps = size / TILE_K, stride = size * int64_t(sizeof(bf16));
  for (int64_t group = 0; group < blocks; group += GROUP)
    for (int64_t panel = first; panel < last; panel++)
      for (int64_t block = group; block < std::min(blocks, group + GROUP); block += 2) {
        bool ahead = block == group && panel + 1 < last;
        const bf16* tokens = packed + block * steps * TILE_SIZE;
        auto product = blocks - block > 1 ? tile_product<2> : tile_product<1>;
        product(w(panel, 0), w(panel, 1), stride, tokens, steps, ahead ? w(panel + 1, 0) : nullptr,
                ahead ? w(panel + 1, 1) : nullptr, out);
        store(panel, block, out[0][0], out[1][0]);
        if (blocks - block > 1) store(panel, block + 1, out[0][1], out[1][1]);
      }
}

// silu(gate . x) * (up . x) for every expert's rows x(row), packed for the second product: [block][step of I].
template <class RowOf>
Tensor tile_activations(const PackedRows& rows, const RowOf& x, const bf16* gate_up, int64_t hidden,
                        int64_t intermediate, const Tensor& like) {
  Tensor packed_x = empty_of(like, {rows.num_blocks * TILE_SIDE, hidden});
  Tensor result = empty_of(like, {rows.num_blocks * TILE_SIDE, intermediate});
  pack(rows, x, hidden, mutable_data<bf16>(packed_x));
  const bf16* packed = data<bf16>(packed_x);
  bf16* activations = mutable_data<bf16>(result);
  int64_t panels = intermediate / TILE_SIDE, parts = parts_of(rows.experts.size(), panels, TILE_UNITS);
  for_units(rows.experts.size() * parts, [&](int64_t unit) {
    [[maybe_unused]] Tiles tiles;
    const auto& [expert, begin, end] = rows.experts[unit / parts];
    int64_t part = unit % parts, first_block = rows.first_block[unit / parts];
    const bf16* gate = gate_up + expert * 2 * intermediate * hidden;
    tile_panels([&](int64_t panel, int half) { return gate + (half * intermediate + panel * TILE_SIDE) * hidden; },
                panels * part / parts, panels * (part + 1) / parts, hidden,
                packed + first_block * hidden * TILE_SIDE, rows.blocks(begin, end),
                [&](int64_t panel, int64_t block, const float* g, const float* u) {
                  bf16* to = activations + (first_block + block) * intermediate * TILE_SIDE +
                             panel * TILE_SIDE * TILE_SIDE;  // the pairs of one i and the next, for 16 tokens
                  for (int64_t i = 0; i < TILE_SIDE; i += 2, to += 2 * TILE_SIDE) {
                    bf16 even[TILE_SIDE], odd[TILE_SIDE];
                    store(even, silu(load(g + i * TILE_SIDE)) * load(u + i * TILE_SIDE));
                    store(odd, silu(load(g + (i + 1) * TILE_SIDE)) * load(u + (i + 1) * TILE_SIDE));
                    vi pairs = load_widened(even) | (load_widened(odd) << 16);
                    std::memcpy(to, &pairs, sizeof pairs);
                  }
                });
  });
  return result;
}

// The second product, for the experts [first_expert, last_expert) of rows and the panels [first, last) of 32
// columns of the result: store_columns(row, column, products of 16 columns).
template <class Store>
void tile_down(const PackedRows& rows, int64_t first_expert, int64_t last_expert, const bf16* activations,
               const bf16* down, int64_t hidden, int64_t intermediate, int64_t first, int64_t last,
               const Store& store_columns) {
  [[maybe_unused]] Tiles tiles;
  for (int64_t i = first_expert; i < last_expert; i++) {
    const auto& [expert, begin, end] = rows.experts[i];
    int64_t row = begin, stop = end;
    tile_panels([&, w = down + expert * hidden * intermediate](
                    int64_t panel, int half) { return w + (2 * panel + half) * TILE_SIDE * intermediate; },
                first, last, intermediate, activations + rows.first_block[i] * intermediate * TILE_SIDE,
                rows.blocks(begin, end), [&](int64_t panel, int64_t block, const float* low, const float* high) {
                  for (int half = 0; half < 2; half++) {
                    vi columns[TILE_SIDE];
                    std::memcpy(columns, half ? high : low, sizeof columns);
                    transpose(columns);
                    int64_t at = row + block * TILE_SIDE;
                    for (int64_t j = 0; j < std::min(TILE_SIDE, stop - at); j++)
                      store_columns(at + j, panel * TILE_K + half * TILE_SIDE, (vf)columns[j]);
                  }
                });
  }
}

}  // namespace pangu

#endif
