// The cores that own a sequence together. They walk its tree with the same numbers and so the same steps; what each has
// found out of its span of the vocabulary it tells the others through GM. Only all cores of a launch can wait for each
// other: who has finished goes on to wait until nobody has asked for anything.
#pragma once

#include "kernel/kernel.h"
#include "tiling/spec_verify.h"

namespace pangu::ascend {

class Team {
 public:
  __aicore__ inline void Init(TPipe* pipe, GM_ADDR workspace, const SpecVerifyTiling& tiling) {
    size_ = tiling.team, cores_ = tiling.cores, words_ = 2 * tiling.record;
    rank_ = int32_t(GetBlockIdx() % size_);
    pipe->InitBuffer(record_buffer_, words_ * int32_t(sizeof(int32_t)));
    record_ = record_buffer_.Get<int64_t>();
    all_ = record_;
    if (size_ == 1) return;
    for (int32_t i = 0; i < tiling.record; i++) record_.SetValue(i, 0);
    pipe->InitBuffer(all_buffer_, size_ * words_ * int32_t(sizeof(int32_t)));
    pipe->InitBuffer(states_buffer_, cores_ * int32_t(BLOCK_BYTES));
    all_ = all_buffer_.Get<int64_t>();
    states_ = states_buffer_.Get<int64_t>();
    __gm__ int32_t* words = reinterpret_cast<__gm__ int32_t*>(workspace);
    counts_.SetGlobalBuffer(words, cores_ * BLOCK<int32_t>);
    records_.SetGlobalBuffer(words + cores_ * BLOCK<int32_t>, 2 * cores_ * words_);
#ifdef PANGU_310P
    pipe->InitBuffer(counts_buffer_, cores_ * int32_t(BLOCK_BYTES));
#endif
  }

  __aicore__ inline int32_t size() const { return size_; }
  __aicore__ inline int32_t rank() const { return rank_; }

  // What this core tells, and what a member has told.
  __aicore__ inline void put(int32_t i, int64_t value) { record_.SetValue(1 + i, value); }
  __aicore__ inline int64_t get(int32_t member, int32_t i) const { return all_.GetValue(member * words_ / 2 + 1 + i); }

  // Tell and be told. Whether all members have found what they read valid.
  __aicore__ inline bool exchange(bool is_valid, bool is_last = false) {
    return size_ == 1 ? is_valid : wait_for_all(!is_last, is_valid);
  }

  // Calls verify(b) for each sequence that is the core's own, or its team's.
  template <class Verify>
  __aicore__ inline void ForSequences(const Split& sequences, const Verify& verify) {
    if (size_ > 1) {
      verify(GetBlockIdx() / size_);
    } else {
      int64_t end = first_of(sequences, GetBlockIdx() + 1);
      for (int64_t b = first_of(sequences, GetBlockIdx()); b < end; b++) verify(b);
    }
    Leave();
  }

 private:
  static constexpr int64_t ASKS = 1, INVALID = 2;

  __aicore__ inline void Leave() {
    if (size_ == 1 || cores_ == size_) return;  // whose members leave together
    while (is_anyone_asking_) wait_for_all(false, true);
  }

  __aicore__ inline bool wait_for_all(bool asks, bool is_valid) {
    record_.SetValue(0, (asks ? ASKS : 0) | (is_valid ? 0 : INVALID));
    GlobalTensor<int32_t> records = records_[turn_ * cores_ * words_];  // those of the last turn may still be read
    turn_ ^= 1;
    wait<HardEvent::S_MTE3>();  // the copies wait for the scalar unit
    wait<HardEvent::S_MTE2>();
    DataCopy(records[int32_t(GetBlockIdx()) * words_], record_.ReinterpretCast<int32_t>(), words_);
    PipeBarrier<PIPE_ALL>();
#ifdef PANGU_310P
    SyncAll(counts_, counts_buffer_.Get<int32_t>(), cores_);
#else
    SyncAll();
#endif
    int32_t first = (int32_t(GetBlockIdx()) - rank_) * words_;
    DataCopy(all_.ReinterpretCast<int32_t>(), records[first], size_ * words_);
    DataCopy(states_.ReinterpretCast<int32_t>(), records,
             DataCopyParams(uint16_t(cores_), 1, uint16_t(words_ / BLOCK<int32_t> - 1), 0));
    wait<HardEvent::MTE2_S>();  // the scalar unit waits for the copies
    is_anyone_asking_ = false;
    int32_t begin = int32_t(GetBlockIdx()) - rank_;
    for (int32_t core = 0; core < cores_; core++) {
      int64_t state = states_.GetValue(core * BLOCK<int64_t>);
      is_anyone_asking_ = is_anyone_asking_ || (state & ASKS) != 0;
      if (begin <= core && core < begin + size_) is_valid = is_valid && (state & INVALID) == 0;
    }
    return is_valid;
  }

  int32_t size_ = 1, rank_ = 0, cores_ = 1, words_ = 0, turn_ = 0;
  bool is_anyone_asking_ = true;
  GlobalTensor<int32_t> counts_, records_;
  TBuf<TPosition::VECCALC> record_buffer_, all_buffer_, states_buffer_, counts_buffer_;
  LocalTensor<int64_t> record_, all_, states_;
};

}  // namespace pangu::ascend
