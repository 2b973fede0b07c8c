// moge_dispatch's counting: how often each expert of a window occurs, and how often in the tokens before a core's own.
// Every core counts all ids for itself where that is cheap, otherwise its own tokens', and all exchange their counts.
#pragma once

#include "kernel/kernel.h"
#include "tiling/moge_dispatch.h"

namespace pangu::ascend {

// Whether an expert is one of `count` from `first` on: one comparison, since all of these are less than 2^31.
__aicore__ inline bool is_among(int32_t expert, int32_t first, int32_t count) {
  return uint32_t(expert) - uint32_t(first) < uint32_t(count);
}

// The column of a slot in [T, K] and its group, from one slot to the next without division.
class SlotColumn {
 public:
  int32_t column, group, first_expert;  // of the group

  __aicore__ inline SlotColumn(const MogeDispatchTiling& tiling, int64_t slot)
      : columns_(int32_t(tiling.columns)), num_slots_(int32_t(tiling.num_slots)),
        of_group_(int32_t(slots_of_group(tiling))), size_(int32_t(size_of_group(tiling))) {
    column = int32_t(slot % columns_);
    group = column / of_group_;
    within_ = column % of_group_;
    first_expert = group * size_;
  }

  __aicore__ inline void next() {
    if (++column == columns_) {
      column = group = within_ = first_expert = 0;
    } else if (++within_ == of_group_) {
      within_ = 0;
      group++;
      first_expert += size_;
    }
  }

  __aicore__ inline bool is_slot() const { return column < num_slots_; }  // and not what fills memory's last block

  // Whether its id is an expert of its group; otherwise the slot is masked.
  __aicore__ inline bool chooses(int32_t expert) const { return is_among(expert, first_expert, size_); }
  __aicore__ inline int32_t last_expert() const { return first_expert + size_ - 1; }

 private:
  int32_t columns_, num_slots_, of_group_, size_, within_;
};

class ExpertCounts {
 public:
  __aicore__ inline void Init(TPipe* pipe, GM_ADDR expert_ids, GM_ADDR workspace, GM_ADDR meetings,
                              const MogeDispatchTiling& tiling) {
    tiling_ = tiling;
    expert_ids_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(expert_ids), tiling.num_tokens * tiling.columns);
    workspace_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(workspace), 2 * cores_of(tiling) * tiling.counters);
    meetings_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(meetings), tiling.meetings);
    pipe->InitBuffer(ids_, 2, DISPATCH_IDS * sizeof(int32_t));
    pipe->InitBuffer(before_, (DISPATCH_WINDOW + 8) * sizeof(int32_t));
    pipe->InitBuffer(total_, (DISPATCH_WINDOW + 8) * sizeof(int32_t));
    pipe->InitBuffer(meeting_, cores_of(tiling) * BLOCK_BYTES);
    Duplicate(Total(), 0, DISPATCH_WINDOW + 8);  // who copies counts out copies whole blocks
    InitLanes(pipe);
  }

  // Of the experts first_expert ... end_expert - 1, and of a core that has tokens first_token ... end_token - 1. The
  // scalar unit reads the result.
  __aicore__ inline void Count(int64_t first_expert, int64_t end_expert, int64_t first_token, int64_t end_token) {
    first_expert_ = first_expert;
    end_expert_ = end_expert;
    if (tiling_.exchange) {
      CountTokens(Total(), first_token, end_token);
      Exchange();
    } else {
      CountTokens(Before(), 0, first_token);
      CountTokens(Total(), first_token, tiling_.num_tokens);
      PipeBarrier<PIPE_V>();
      Add(Total(), Total(), Before(), tiling_.counters);
    }
    wait<HardEvent::V_S>();  // the scalar unit waits for the vector unit
  }

  __aicore__ inline LocalTensor<int32_t> Before() { return before_.Get<int32_t>(); }
  __aicore__ inline LocalTensor<int32_t> Total() { return total_.Get<int32_t>(); }

  // Where an expert's counter lies, `local` of its group: never before its place in the window.
  __aicore__ inline uint32_t At(int64_t group, int64_t local) const {
    return uint32_t(tiling_.batch > 0 ? group * tiling_.lanes + local
                                      : group * size_of_group(tiling_) + local - first_expert_);
  }

 private:
  __aicore__ inline void CountTokens(const LocalTensor<int32_t>& counts, int64_t first, int64_t end) {
#ifndef PANGU_310P
    if (tiling_.batch > 0) return CountByLanes(counts, first, end);
#endif
    CountOneByOne(counts, first, end);
  }

  __aicore__ inline void CountOneByOne(const LocalTensor<int32_t>& counts, int64_t first, int64_t end) {
    PipeBarrier<PIPE_V>();
    Duplicate(counts, 0, tiling_.counters);
    wait<HardEvent::V_S>();  // the scalar unit waits for the vector unit
    SlotColumn column(tiling_, 0);
    int32_t first_expert = int32_t(first_expert_), experts = int32_t(end_expert_ - first_expert_);
    end *= tiling_.columns;
    for (int64_t slot = first * tiling_.columns; slot < end; slot += DISPATCH_IDS) {
      int32_t count = int32_t(end - slot < DISPATCH_IDS ? end - slot : DISPATCH_IDS);
      LocalTensor<int32_t> ids = ids_.AllocTensor<int32_t>();
      wait<HardEvent::S_MTE2>();  // the copy waits until the scalar unit is done with the last ids
      copy_in(ids, expert_ids_[slot], 1, count, count, int32_t(round_up(count, BLOCK<int32_t>)));
      ids_.EnQue(ids);
      ids = ids_.DeQue<int32_t>();
      wait<HardEvent::MTE2_S>();  // the scalar unit waits for the copy
      for (int32_t i = 0; i < count; i++) {
        int32_t expert = ids.GetValue(i);
        if (column.is_slot() && column.chooses(expert) && is_among(expert, first_expert, experts)) {
          uint32_t at = uint32_t(expert - first_expert);
          counts.SetValue(at, counts.GetValue(at) + 1);
        }
        column.next();
      }
      ids_.FreeTensor(ids);
    }
    wait<HardEvent::S_V>();     // the vector unit waits for the scalar unit,
    wait<HardEvent::S_MTE3>();  // and so do copies out
  }

#ifndef PANGU_310P
  __aicore__ inline void InitLanes(TPipe* pipe) {
    if (tiling_.batch == 0) return;
    pipe->InitBuffer(spread_, DISPATCH_LANES * sizeof(int32_t));
    pipe->InitBuffer(experts_, DISPATCH_LANES * sizeof(int32_t));
    pipe->InitBuffer(sums_, DISPATCH_LANES * sizeof(float));
    pipe->InitBuffer(equal_, DISPATCH_LANES / 8);
    LocalTensor<int32_t> experts = experts_.Get<int32_t>();
    Duplicate(experts, 0, DISPATCH_LANES);  // behind a batch's ids, which end a block, -1 is compared
    PipeBarrier<PIPE_V>();
    for (int32_t column = 0; column < tiling_.num_slots; column++) {
      int64_t group = column / slots_of_group(tiling_);
      CreateVecIndex(experts[column * tiling_.lanes], int32_t(group * size_of_group(tiling_)), tiling_.lanes);
    }
    int32_t of_token = int32_t(tiling_.num_slots) * tiling_.lanes;
    for (int32_t lanes = of_token; lanes < tiling_.batch * of_token; lanes *= 2) {
      PipeBarrier<PIPE_V>();
      Adds(experts[lanes], experts, 0, lanes);
    }
  }

  // Each id is spread over as many lanes as its group has experts, and compared with all of them at once: four vector
  // instructions count a batch of tokens.
  __aicore__ inline void CountByLanes(const LocalTensor<int32_t>& counts, int64_t first, int64_t end) {
    int32_t num_slots = int32_t(tiling_.num_slots), batch = tiling_.batch;
    LocalTensor<float> sums = sums_.Get<float>();
    PipeBarrier<PIPE_V>();
    Duplicate(sums, 0.0f, DISPATCH_LANES);
    int32_t most = DISPATCH_IDS / num_slots / batch * batch;
    for (int64_t token = first; token < end; token += most) {
      int32_t tokens = int32_t(end - token < most ? end - token : most);
      LocalTensor<int32_t> ids = ids_.AllocTensor<int32_t>();
      int32_t count = tokens * num_slots, missing = int32_t(round_up(count, BLOCK<int32_t>)) - count;
      DataCopyPad(ids, expert_ids_[token * num_slots],
                  DataCopyExtParams{1, uint32_t(count * sizeof(int32_t)), 0, 0, 0},
                  DataCopyPadExtParams<int32_t>{missing > 0, 0, uint8_t(missing), -1});
      ids_.EnQue(ids);  // the vector unit waits for the copy in DeQue
      ids = ids_.DeQue<int32_t>();
      for (int32_t i = 0; i < count; i += batch * num_slots)
        CountBatch(ids[i], count - i < batch * num_slots ? count - i : batch * num_slots);
      ids_.FreeTensor(ids);  // the next copy into it waits for the vector unit
    }
    AddBatch(counts, sums);
    wait<HardEvent::V_MTE3>();  // copies out wait for the vector unit
  }

  __aicore__ inline void CountBatch(const LocalTensor<int32_t>& ids, int32_t count) {
    int32_t repeats = int32_t(ceil_div(count, 8)), blocks = tiling_.lanes / BLOCK<int32_t>;
    int32_t lanes = repeats * 8 * tiling_.lanes;
    LocalTensor<int32_t> spread = spread_.Get<int32_t>();
    LocalTensor<float> more = spread_.Get<float>(), sums = sums_.Get<float>();
    LocalTensor<uint8_t> equal = equal_.Get<uint8_t>();
    PipeBarrier<PIPE_V>();
    for (int32_t block = 0; block < blocks; block++)
      Brcb(spread[block * BLOCK<int32_t>], ids, uint8_t(repeats),
           BrcbRepeatParams{uint16_t(blocks), uint16_t(8 * blocks)});
    PipeBarrier<PIPE_V>();
    Compare(equal, spread, experts_.Get<int32_t>(), CMPMODE::EQ, lanes);
    PipeBarrier<PIPE_V>();
    Adds(more, sums, 1.0f, lanes);
    PipeBarrier<PIPE_V>();
    Select(sums, equal, more, sums, SELMODE::VSEL_TENSOR_TENSOR_MODE, lanes);
  }

  // From the sums of each slot of a batch's tokens to those of the groups.
  __aicore__ inline void AddBatch(const LocalTensor<int32_t>& counts, const LocalTensor<float>& sums) {
    int32_t of_token = int32_t(tiling_.num_slots) * tiling_.lanes, groups = int32_t(tiling_.num_groups);
    int32_t of_group = of_token / groups;
    for (int32_t half = tiling_.batch / 2; half > 0; half /= 2) {
      PipeBarrier<PIPE_V>();
      Add(sums, sums, sums[half * of_token], half * of_token);
    }
    for (int32_t slot = tiling_.lanes; slot < of_group; slot += tiling_.lanes) {
      PipeBarrier<PIPE_V>();
      for (int32_t sum = 0; sum < of_token; sum += of_group) Add(sums[sum], sums[sum], sums[sum + slot], tiling_.lanes);
    }
    PipeBarrier<PIPE_V>();
    if (of_group == tiling_.lanes) {
      Cast(counts, sums, RoundMode::CAST_RINT, of_token);
    } else {
      for (int32_t group = 0; group < groups; group++)
        Cast(counts[group * tiling_.lanes], sums[group * of_group], RoundMode::CAST_RINT, tiling_.lanes);
    }
  }
#else
  __aicore__ inline void InitLanes(TPipe*) {}
#endif

  // Total(): from the core's own counts to all cores'; Before(): to those of the cores before it.
  __aicore__ inline void Exchange() {
    int32_t cores = cores_of(tiling_), counters = tiling_.counters;
    // Two halves by turns: another core may still read the last window's counts.
    int64_t base = first_expert_ / tiling_.window % 2 * cores * counters;
    DataCopy(workspace_[base + GetBlockIdx() * counters], Total(), counters);
    PipeBarrier<PIPE_ALL>();  // all cores wait here until the counts of each are in memory
#ifdef PANGU_310P
    SyncAll(meetings_, meeting_.Get<int32_t>(), cores);
#else
    SyncAll();
#endif
    Duplicate(Before(), 0, counters);
    Duplicate(Total(), 0, counters);
    int32_t most = DISPATCH_IDS / counters;
    for (int32_t core = 0; core < cores; core += most) {
      int32_t count = cores - core < most ? cores - core : most;
      LocalTensor<int32_t> counts = ids_.AllocTensor<int32_t>();
      DataCopy(counts, workspace_[base + core * counters], count * counters);
      ids_.EnQue(counts);  // the vector unit waits for the copy in DeQue
      counts = ids_.DeQue<int32_t>();
      for (int32_t i = 0; i < count; i++) {
        PipeBarrier<PIPE_V>();
        if (core + i < GetBlockIdx()) Add(Before(), Before(), counts[i * counters], counters);
        Add(Total(), Total(), counts[i * counters], counters);
      }
      ids_.FreeTensor(counts);  // the next copy into it waits for the vector unit
    }
  }

  MogeDispatchTiling tiling_;
  int64_t first_expert_, end_expert_;
  GlobalTensor<int32_t> expert_ids_, workspace_, meetings_;
  TQue<TPosition::VECIN, 2> ids_;
  TBuf<TPosition::VECCALC> before_, total_, meeting_, spread_, experts_, sums_, equal_;
};

}  // namespace pangu::ascend
