// moge_dispatch: a counting sort of each group's slots, stable in token order. Every core finds out how often each
// expert occurs in all and before its own tokens; then it gives its slots their rows, reads its tokens once and writes
// a row for each slot: the token's, or zeros at the end of the group where the slot is masked.
#include "tiling/moge_dispatch.h"

#include "kernel/expert_counts.h"
#include "kernel/kernel.h"

namespace pangu::ascend {

constexpr int32_t NO_ROW = -2147483647 - 1;  // of a slot that another window places

class MogeDispatchKernel {
 public:
  __aicore__ inline void Init(TPipe* pipe, GM_ADDR x, GM_ADDR expert_ids, GM_ADDR rows, GM_ADDR slot_rows,
                              GM_ADDR expert_offsets, GM_ADDR workspace, GM_ADDR meetings,
                              const MogeDispatchTiling& tiling) {
    tiling_ = tiling;
    share_ = dispatch_share(tiling, GetBlockIdx());
    size_ = size_of_group(tiling);
    of_group_ = int32_t(slots_of_group(tiling));
    columns_ = int32_t(tiling.columns);
    int64_t all_slots = tiling.num_tokens * tiling.columns, all_rows = tiling.num_tokens * tiling.num_slots;
    x_.SetGlobalBuffer(reinterpret_cast<__gm__ uint8_t*>(x), tiling.num_tokens * tiling.row_bytes);
    expert_ids_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(expert_ids), all_slots);
    rows_.SetGlobalBuffer(reinterpret_cast<__gm__ uint8_t*>(rows), all_rows * tiling.row_bytes);
    slot_rows_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(slot_rows), all_slots);
    expert_offsets_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(expert_offsets),
                                    round_up(tiling.num_experts + 1, BLOCK<int32_t>));
    counts_.Init(pipe, expert_ids, workspace, meetings, tiling);
    pipe->InitBuffer(next_, 2 * DISPATCH_WINDOW * sizeof(int32_t));
    pipe->InitBuffer(slots_, DISPATCH_SLOTS * sizeof(int32_t));
    pipe->InitBuffer(others_, DISPATCH_SLOTS * sizeof(int32_t));
    pipe->InitBuffer(results_, 2, DISPATCH_SLOTS * sizeof(int32_t));
    pipe->InitBuffer(zeros_, tiling.piece_bytes);
    pipe->InitBuffer(moves_, 2, tiling.rows * tiling.piece_bytes);
    Duplicate(zeros_.Get<int32_t>(), 0, tiling.piece_bytes / int32_t(sizeof(int32_t)));
    wait<HardEvent::V_MTE3>();  // copies out wait for the vector unit
  }

  __aicore__ inline void Process() {
    for (window_first_ = 0; window_first_ < tiling_.num_experts; window_first_ += tiling_.window) {
      window_end_ = window_first_ + tiling_.window;
      if (window_end_ > tiling_.num_experts) window_end_ = tiling_.num_experts;
      counts_.Count(window_first_, window_end_, share_.first / columns_, share_.end / columns_);
      AddUp();
      WriteOffsets();
      Move();
      PipeBarrier<PIPE_ALL>();  // the next window fills the same buffers
    }
  }

 private:
  // next_: the row of the core's next slot of each expert, and behind a group's last expert of its next masked slot.
  // Total(): from now on the first row of each expert of the window, and of what comes after it.
  __aicore__ inline void AddUp() {
    LocalTensor<int32_t> before = counts_.Before(), total = counts_.Total(), next = next_.Get<int32_t>();
    int64_t tokens_before = share_.first / columns_, group = window_first_ / size_, local = window_first_ % size_;
    uint32_t to = 0;
    for (int64_t expert = window_first_; expert < window_end_; expert++) {
      uint32_t at = counts_.At(group, local);
      int32_t earlier = before.GetValue(at), all = total.GetValue(at);
      next.SetValue(to++, next_row_ + earlier);
      total.SetValue(uint32_t(expert - window_first_), next_row_);  // never behind `at`
      next_row_ += all;
      group_before_ += earlier;
      if (++local < size_) continue;
      next.SetValue(to++, int32_t(next_row_ + tokens_before * of_group_ - group_before_));
      local = 0;
      group_before_ = 0;
      next_row_ = int32_t(++group * tiling_.num_tokens * of_group_);
    }
    total.SetValue(uint32_t(window_end_ - window_first_), next_row_);
  }

  __aicore__ inline void WriteOffsets() {
    if (GetBlockIdx() != 0) return;
    int32_t count = int32_t(window_end_ - window_first_) + (window_end_ == tiling_.num_experts ? 1 : 0);
    wait<HardEvent::S_MTE3>();  // the copy waits for the scalar unit
    copy_out(expert_offsets_[window_first_], counts_.Total(), 1, count, count, int32_t(round_up(count, 8)));
  }

  __aicore__ inline void Move() {
    // The first token's slots before the core's own take rows too, but another core moves them.
    for (int64_t slot = share_.first / columns_ * columns_; slot < share_.first; slot += DISPATCH_SLOTS) {
      SlotColumn column(tiling_, slot);
      Place(0, LoadSlots(slot, share_.first), column);
    }
    for (int64_t slot = share_.first; slot < share_.end; slot += DISPATCH_SLOTS) {
      int32_t count = LoadSlots(slot, share_.end);
      MoveTokens(slot, count);
      if (share_.first_byte == 0) WriteSlotRows(slot, count);
    }
  }

  // slots_: the ids from a slot on; returns how many.
  __aicore__ inline int32_t LoadSlots(int64_t slot, int64_t end) {
    int32_t count = int32_t(end - slot < DISPATCH_SLOTS ? end - slot : DISPATCH_SLOTS);
    wait<HardEvent::S_MTE2>();  // the copy waits until the scalar unit and
    wait<HardEvent::V_MTE2>();  // the vector unit are done with the last ones
    copy_in(slots_.Get<int32_t>(), expert_ids_[slot], 1, count, count, int32_t(round_up(count, BLOCK<int32_t>)));
    wait<HardEvent::MTE2_S>();  // the scalar unit waits for the copy
    return count;
  }

  // Some tokens at a time: the scalar unit places their slots while those before them are still on their way.
  __aicore__ inline void MoveTokens(int64_t slot, int32_t count) {
    SlotColumn column(tiling_, slot);
    int64_t token = slot / columns_;
    for (int32_t first = 0; first < count;) {
      int64_t last = (token + tiling_.rows) * columns_ - slot;
      int32_t end = last < count ? int32_t(last) : count;
      int32_t tokens = int32_t(ceil_div(slot + end, columns_) - token), start = column.column;
      Place(first, end, column);
      for (int64_t byte = share_.first_byte; byte < share_.end_byte; byte += tiling_.piece_bytes) {
        int64_t rest = share_.end_byte - byte;
        int32_t bytes = int32_t(rest < tiling_.piece_bytes ? rest : tiling_.piece_bytes);
        CopyIn(token * tiling_.row_bytes + byte, tokens, bytes);
        CopyOut(first, end, start, byte, bytes);
      }
      token += tokens;
      first = end;
    }
  }

  // slots_: from ids to the rows of the slots first ... end - 1, as their complements where these are masked.
  __aicore__ inline void Place(int32_t first, int32_t end, SlotColumn& column) {
    LocalTensor<int32_t> slots = slots_.Get<int32_t>(), next = next_.Get<int32_t>();
    int32_t first_expert = int32_t(window_first_), experts = int32_t(window_end_ - window_first_);
    int32_t first_group = int32_t(window_first_ / size_);
    for (int32_t i = first; i < end; i++) {
      int32_t expert = slots.GetValue(i), row = NO_ROW;
      bool chosen = column.chooses(expert);
      if (!chosen) expert = column.last_expert();
      if (column.is_slot() && is_among(expert, first_expert, experts)) {
        uint32_t at = uint32_t(expert - first_expert + column.group - first_group + (chosen ? 0 : 1));
        row = next.GetValue(at);
        next.SetValue(at, row + 1);
        if (!chosen) row = ~row;
      }
      slots.SetValue(i, row);
      column.next();
    }
  }

  __aicore__ inline void CopyIn(int64_t from, int32_t tokens, int32_t bytes) {
    LocalTensor<uint8_t> rows = moves_.AllocTensor<uint8_t>();
    copy_in(rows, x_[from], tokens, bytes, tiling_.row_bytes, tiling_.piece_bytes);
    moves_.EnQue(rows);  // the copies out wait for the copy in DeQue
  }

  // A part of the copied tokens to the rows of their slots first ... end - 1, of which the first is in column `column`.
  __aicore__ inline void CopyOut(int32_t first, int32_t end, int32_t column, int64_t byte, int32_t bytes) {
    LocalTensor<int32_t> slots = slots_.Get<int32_t>();
    LocalTensor<uint8_t> rows = moves_.DeQue<uint8_t>(), zeros = zeros_.Get<uint8_t>();
    int32_t width = int32_t(round_up(bytes, BLOCK_BYTES)), token = 0;
    for (int32_t i = first; i < end; i++) {
      int64_t row = slots.GetValue(i);
      if (row >= 0) {
        copy_out(rows_[row * tiling_.row_bytes + byte], rows[token * tiling_.piece_bytes], 1, bytes, bytes, width);
      } else if (row != NO_ROW) {
        copy_out(rows_[~row * tiling_.row_bytes + byte], zeros, 1, bytes, bytes, width);
      }
      if (++column < columns_) continue;
      column = 0;
      token++;
    }
    moves_.FreeTensor(rows);  // the next copy in waits for these
  }

  __aicore__ inline void WriteSlotRows(int64_t slot, int32_t count) {
    LocalTensor<int32_t> results = results_.AllocTensor<int32_t>(), others = others_.Get<int32_t>();
    int32_t width = int32_t(round_up(count, BLOCK<int32_t>));
    wait<HardEvent::S_V>();  // the vector unit waits for the scalar unit
    Maxs(results, slots_.Get<int32_t>(), -1, count);
    if (window_first_ > 0) {  // beside what other windows placed
      wait<HardEvent::V_MTE2>();  // the copy waits until the vector unit is done with the last ones
      copy_in(others, slot_rows_[slot], 1, count, count, width);
      wait<HardEvent::MTE2_V>();  // the vector unit waits for the copy
      PipeBarrier<PIPE_V>();
      Max(results, results, others, count);
    }
    results_.EnQue(results);
    results = results_.DeQue<int32_t>();  // the copy out waits for the vector unit
    copy_out(slot_rows_[slot], results, 1, count, count, width);
    results_.FreeTensor(results);  // the vector unit's next result in it waits for the copy
  }

  MogeDispatchTiling tiling_;
  DispatchShare share_;
  int64_t size_;                 // experts of a group
  int32_t of_group_, columns_;   // slots of a token in a group, and in memory
  int64_t window_first_, window_end_;  // the experts at hand
  int32_t next_row_ = 0;         // of the next expert
  int64_t group_before_ = 0;     // slots before the core's tokens that chose experts of its group before it
  ExpertCounts counts_;
  GlobalTensor<uint8_t> x_, rows_;
  GlobalTensor<int32_t> expert_ids_, slot_rows_, expert_offsets_;
  TQueBind<TPosition::VECIN, TPosition::VECOUT, 2> moves_;
  TQue<TPosition::VECOUT, 2> results_;
  TBuf<TPosition::VECCALC> next_, slots_, others_, zeros_;
};

}  // namespace pangu::ascend

using pangu::ascend::MogeDispatchTiling;  // see PANGU_ENTRIES

extern "C" __global__ __aicore__ void moge_dispatch_bytes(GM_ADDR x, GM_ADDR expert_ids, GM_ADDR rows,
                                                          GM_ADDR slot_rows, GM_ADDR expert_offsets, GM_ADDR workspace,
                                                          GM_ADDR meetings, MogeDispatchTiling tiling) {
  PANGU_KERNEL_TYPE(KERNEL_TYPE_MIX_AIV_1_0);
  AscendC::TPipe pipe;
  pangu::ascend::MogeDispatchKernel kernel;
  kernel.Init(&pipe, x, expert_ids, rows, slot_rows, expert_offsets, workspace, meetings, tiling);
  kernel.Process();
}
