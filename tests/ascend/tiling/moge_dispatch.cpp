#include "tiling/moge_dispatch.h"

#include "ascend/tiling.h"

namespace pangu::ascend {

extern "C" const char* check_moge_dispatch(uint64_t seed, int count) {
  return check_shapes(seed, count, [](Draw& draw, std::ostream& shape) {
    const Chip& chip = draw.chip();
    Dtype dtype = draw.dtype(chip);
    int64_t num_tokens = draw.size(1 << 22, {1, 2, 32, 4096}) - draw.upto(1), hidden = draw.size(60000, {2048, 5120});
    int64_t num_groups = draw.size(64, {1, 8}), num_experts = num_groups * draw.size(1 << 20, {1, 8, 16, 32, 256});
    int64_t num_slots = num_groups * draw.size(8, {1});
    shape << chip << " " << dtype << " T=" << num_tokens << " H=" << hidden << " E=" << num_experts
          << " G=" << num_groups << " K=" << num_slots;
    int64_t columns = stride_of(num_slots, Dtype::FLOAT, chip), all = num_tokens * columns;
    int64_t row_bytes = stride_of(hidden, dtype, chip) * bytes_of(dtype);
    MogeDispatchTiling tiling =
        moge_dispatch_tiling(num_tokens, num_slots, num_experts, num_groups, columns, row_bytes, chip);

    // Shares leave nothing out, and the busiest core has about as much as any must have.
    Chip sharing = chip;
    sharing.cores = chip.cores / tiling.parts;
    if (num_tokens > 0) expect_balanced(tiling.split, all / tiling.unit, sharing);
    int64_t slot = 0, byte = 0, most = 0;
    for (int64_t core = 0; core < cores_of(tiling); core++) {
      DispatchShare share = dispatch_share(tiling, core);
      expect(share.first == slot && share.first_byte == byte, "core ", core, " must begin at ", slot, ", ", byte,
             ", came ", share.first, ", ", share.first_byte);
      expect(chip.moves_bytes || share.first * 4 % BLOCK_BYTES == 0, "a share must begin with a block");
      expect(share.end_byte > byte, "a part must not be empty");
      most = std::max(most, (share.end - share.first) * (share.end_byte - share.first_byte));
      slot = share.end;
      if (slot == all) slot = 0, byte = share.end_byte;
    }
    expect(slot == 0 && byte == row_bytes, "shares must end with the last byte, came ", slot, ", ", byte);
    expect(most <= all * row_bytes / chip.cores + tiling.unit * row_bytes, "the busiest core must not write ", most);

    // A copy's rows and the window's counters have their places.
    expect(tiling.piece_bytes % BLOCK_BYTES == 0 && tiling.rows >= 1 && tiling.rows <= MOST_ROWS, "rows must be ",
           "for one copy, came ", tiling.rows);
    expect(tiling.rows == 1 || tiling.piece_bytes >= std::min(tiling.part_bytes, row_bytes), "rows must be whole");
    expect(tiling.window % 8 == 0 && tiling.window <= DISPATCH_WINDOW, "a window must be blocks, came ", tiling.window);
    expect(tiling.counters % 8 == 0 && tiling.counters <= DISPATCH_IDS && tiling.counters <= DISPATCH_WINDOW,
           "counters must fit, came ", tiling.counters);
    if (tiling.batch > 0) {
      expect(tiling.window >= num_experts, "what vectors count must be in one window");
      expect(round_up(tiling.batch * num_slots, 8) * tiling.lanes <= DISPATCH_LANES, "lanes must fit");
      expect(tiling.batch >= num_tokens || tiling.batch * num_slots % 8 == 0, "a batch must begin with a block");
      expect(DISPATCH_IDS / num_slots / tiling.batch >= 1, "a copy must have ids for a batch");
      expect((tiling.batch & (tiling.batch - 1)) == 0, "a batch must be a power of two, came ", tiling.batch);
    }
    expect(!tiling.exchange || tiling.parts == 1, "cores with the same slots must not exchange counts");
    int64_t ids = DISPATCH_IDS * 4, slots = DISPATCH_SLOTS * 4, counters = (DISPATCH_WINDOW + 8) * 4;
    int64_t lanes = tiling.batch ? DISPATCH_LANES * 4 : 0, move = int64_t(tiling.rows) * tiling.piece_bytes;
    expect_fits(chip, {ids, ids, slots, slots, slots, slots, counters, counters, 2 * DISPATCH_WINDOW * 4,
                       cores_of(tiling) * BLOCK_BYTES, lanes, lanes, lanes, lanes / 32, tiling.piece_bytes, move,
                       move});
  });
}

}  // namespace pangu::ascend
