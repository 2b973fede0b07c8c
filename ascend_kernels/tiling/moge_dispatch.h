// moge_dispatch: the slots, token after token, evenly to the cores, so that each writes as many rows as any whatever
// the routing; of few slots each row in parts. And how experts are counted: every core counts all ids for itself where
// that is cheap, otherwise its own, and all exchange their counts.
#pragma once

#include "tiling/tiling.h"

namespace pangu::ascend {

struct MogeDispatchTiling {
  Split split;          // of the slots, in units, over the cores that have the same part of the rows
  int32_t unit;         // slots; on a chip that moves whole blocks those of a token
  int32_t parts;        // of a row, each with as many cores as the split has
  int64_t num_tokens, num_slots, num_experts, num_groups;
  int64_t columns;      // of slots in memory: num_slots, and on a chip that moves whole blocks what fills the last one
  int64_t row_bytes;    // in memory
  int64_t part_bytes;
  int32_t piece_bytes;  // of a part, as it lies in the unified buffer: whole blocks
  int32_t rows;         // of a copy: 1 where a part takes several pieces
  int32_t window;       // experts that are counted at a time
  int32_t batch;        // tokens that vector instructions count at a time; 0: ids are counted one by one
  int32_t lanes;        // of such an id: a counter each, in whole blocks
  int32_t counters;     // of a core
  bool exchange;        // of the cores' counts
  int32_t meetings;     // counters that the cores wait for one another with, where the chip has nothing of its own
};

__aicore__ inline int32_t cores_of(const MogeDispatchTiling& tiling) { return tiling.split.cores * tiling.parts; }
__aicore__ inline int64_t slots_of_group(const MogeDispatchTiling& tiling) {
  return tiling.num_slots / tiling.num_groups;
}
__aicore__ inline int64_t size_of_group(const MogeDispatchTiling& tiling) {
  return tiling.num_experts / tiling.num_groups;
}

// The slots that a core has, in memory's columns, and its bytes of their rows.
struct DispatchShare {
  int64_t first, end, first_byte, end_byte;
};

__aicore__ inline DispatchShare dispatch_share(const MogeDispatchTiling& tiling, int64_t core) {
  int64_t member = core % tiling.split.cores, part = core / tiling.split.cores;
  int64_t all = tiling.num_tokens * tiling.columns, end = first_of(tiling.split, member + 1) * tiling.unit;
  int64_t end_byte = (part + 1) * tiling.part_bytes;
  return {first_of(tiling.split, member) * tiling.unit, end < all ? end : all, part * tiling.part_bytes,
          end_byte < tiling.row_bytes ? end_byte : tiling.row_bytes};
}

constexpr int32_t DISPATCH_WINDOW = 2048;   // experts
constexpr int32_t DISPATCH_LANES = 2048;    // of a vector instruction, at most
constexpr int32_t DISPATCH_GROUP = 64;      // experts of a group, at most, that vectors count sooner than scalars
constexpr int32_t DISPATCH_IDS = 2048;      // that are counted of a copy
constexpr int32_t DISPATCH_SLOTS = 1024;    // that are placed and moved at a time
constexpr int64_t DISPATCH_PART = 2048;     // bytes that are worth a copy
// What all cores may as well count for themselves: this takes about as long as the cores take to wait for one another.
constexpr int64_t DISPATCH_CHEAP_LANES = 64 << 10, DISPATCH_CHEAP_IDS = 256;

// Bytes of the unified buffer beside the rows: ids to count, twice; ids to place, their rows, twice, and those of other
// windows; two counters, and the next rows of experts and masked slots; what vectors count with; what cores meet with.
inline int64_t dispatch_fixed_bytes(const Chip& chip) {
  return 2 * DISPATCH_IDS * 4 + 4 * DISPATCH_SLOTS * 4 + 2 * (DISPATCH_WINDOW + 8) * 4 + 2 * DISPATCH_WINDOW * 4 +
         3 * DISPATCH_LANES * 4 + DISPATCH_LANES / 8 + chip.cores * BLOCK_BYTES;
}

// The split into parts that leaves the busiest core least to write.
inline void split_rows(MogeDispatchTiling& tiling, const Chip& chip) {
  int64_t units = tiling.num_tokens * tiling.columns / tiling.unit, least = 0;
  for (int32_t parts = 1; parts <= chip.cores; parts++) {
    int64_t bytes = round_up(ceil_div(tiling.row_bytes, parts), DISPATCH_PART / 4);
    bool small = bytes < DISPATCH_PART || units >= 4 * chip.cores;
    if (parts > 1 && (small || ceil_div(tiling.row_bytes, bytes) < parts)) break;
    Chip sharing = chip;
    sharing.cores = chip.cores / parts;
    Split shares = split(units, sharing);
    int64_t most = ceil_div(units, shares.cores) * std::min(bytes, tiling.row_bytes);
    if (parts > 1 && most >= least) continue;
    least = most;
    tiling.split = shares;
    tiling.parts = parts;
    tiling.part_bytes = bytes;
  }
}

inline MogeDispatchTiling moge_dispatch_tiling(int64_t num_tokens, int64_t num_slots, int64_t num_experts,
                                               int64_t num_groups, int64_t columns, int64_t row_bytes,
                                               const Chip& chip) {
  MogeDispatchTiling tiling{};
  tiling.unit = chip.moves_bytes ? 1 : int32_t(columns);
  tiling.num_tokens = num_tokens;
  tiling.num_slots = num_slots;
  tiling.num_experts = num_experts;
  tiling.num_groups = num_groups;
  tiling.columns = columns;
  tiling.row_bytes = row_bytes;
  split_rows(tiling, chip);

  int64_t width = round_up(std::max<int64_t>(std::min(tiling.part_bytes, row_bytes), 1), BLOCK_BYTES);
  int64_t capacity = round_down((chip.ub_bytes - dispatch_fixed_bytes(chip)) / 3, BLOCK_BYTES);  // two, and zeros
  tiling.piece_bytes = int32_t(round_up(ceil_div(width, ceil_div(width, capacity)), BLOCK_BYTES));
  tiling.rows = int32_t(std::clamp<int64_t>(width <= capacity ? capacity / width : 1, 1,
                                            std::max<int64_t>(num_tokens, 1)));

  int64_t lanes = round_up(size_of_group(tiling), 8);
  tiling.window = int32_t(std::min<int64_t>(round_up(num_experts, 8), DISPATCH_WINDOW));
  auto fits = [&](int64_t batch) { return round_up(batch * num_slots, 8) * lanes <= DISPATCH_LANES; };
  bool is_exact = num_tokens * slots_of_group(tiling) <= 1 << 24;  // in fp32
  if (chip.moves_bytes && lanes <= DISPATCH_GROUP && fits(1) && is_exact) {
    int32_t batch = 1;
    while (fits(2 * batch) && batch < num_tokens) batch *= 2;
    if (batch >= num_tokens || batch * num_slots % 8 == 0) tiling.batch = batch;
  }
  tiling.lanes = tiling.batch ? int32_t(lanes) : 0;
  tiling.counters = tiling.batch ? int32_t(lanes * num_groups) : tiling.window;
  int64_t all = num_tokens * num_slots;
  tiling.exchange = tiling.parts == 1 && tiling.split.cores > 1 &&
                    (tiling.batch ? all * lanes > DISPATCH_CHEAP_LANES : all > DISPATCH_CHEAP_IDS);
  if (tiling.exchange && !chip.moves_bytes) tiling.meetings = cores_of(tiling) * int32_t(BLOCK_BYTES / 4);
  return tiling;
}

}  // namespace pangu::ascend
