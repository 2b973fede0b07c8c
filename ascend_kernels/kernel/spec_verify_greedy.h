// spec_verify by the likeliest token, of logits or by its id.
#pragma once

#include "kernel/drafts.h"
#include "kernel/team.h"

namespace pangu::ascend {

// The likeliest tokens of rows of T, or ids where the host says so.
template <class T>
class GreedyVerifyKernel {
 public:
  __aicore__ inline void Init(TPipe* pipe, const SpecVerifyMemory& memory, GM_ADDR workspace,
                              const SpecVerifyTiling& tiling) {
    tiling_ = tiling;
    logits_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(memory.target));
    target_ids_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(memory.target));
    drafts_.Init(pipe, memory, false, tiling);
    team_.Init(pipe, workspace, tiling);
    if (tiling.layout.target_words > 0) return;
    pipe->InitBuffer(parts_, 2, tiling.tile * int32_t(sizeof(T)));
    if (!IsFloat<T>::value) pipe->InitBuffer(wide_, tiling.tile * int32_t(sizeof(float)));
    pipe->InitBuffer(fold_, tiling.tile / 2 * int32_t(sizeof(float)));
    int32_t bytes = int32_t(round_up(tiling.tile / 8, BLOCK_BYTES));
    pipe->InitBuffer(mask_, bytes);
    pipe->InitBuffer(numbers_, bytes);
  }

  __aicore__ inline void Process() {
    team_.ForSequences(tiling_.sequences, [&](int64_t sequence) __aicore__ { Verify(sequence); });
  }

 private:
  static constexpr float NOTHING = -__builtin_huge_valf();

  __aicore__ inline void Verify(int64_t sequence) {
    sequence_ = sequence;
    drafts_.Open(sequence);
    if (tiling_.reads_ahead) {
      ReadAhead();
      if (team_.rank() > 0) return;
    }
    is_valid_ = drafts_.is_tree(false);
    int32_t count = 0;
    row_ = 0;
    int64_t last = is_valid_ ? likeliest() : -1;
    for (int32_t i = 0; is_valid_ && i < tiling_.num_nodes; i++) {
      DraftNode node = drafts_.at(i);
      if (node.parent != row_ - 1 || node.draft != last) continue;
      drafts_.accept(count++, i);
      row_ = i + 1;
      last = likeliest();
    }
    if (team_.rank() == 0) drafts_.Write(is_valid_ ? count : -1, last);
  }

  // The keys of all rows that the walk may come to.
  __aicore__ inline void ReadAhead() {
    for (row_ = 0; row_ <= tiling_.num_nodes; row_++)
      team_.put(row_, row_ == 0 || drafts_.is_token(drafts_.draft(row_ - 1)) ? int64_t(key_of_span()) : 0);
    team_.exchange(true, true);
  }

  __aicore__ inline int64_t likeliest() {
    int64_t row = sequence_ * (tiling_.num_nodes + 1) + row_;
    if (int32_t words = tiling_.layout.target_words) {
      int64_t id = target_ids_.GetValue(row * words);
      if (words == 2) id = int64_t(target_ids_.GetValue(row * words + 1)) << 32 | uint32_t(id);
      is_valid_ = is_valid_ && id >= 0;
      return id;
    }
    if (!tiling_.reads_ahead) {
      team_.put(0, int64_t(key_of_span()));
      team_.exchange(true);
    }
    uint64_t best = 0;
    for (int32_t member = 0; member < team_.size(); member++) {
      uint64_t key = uint64_t(team_.get(member, tiling_.reads_ahead ? row_ : 0));
      if (key > best) best = key;
    }
    constexpr uint64_t LOWEST = 0x00800000, HIGHEST = 0xff7fffff;  // finite numbers, so turned
    is_valid_ = is_valid_ && LOWEST <= best >> 32 && best >> 32 <= HIGHEST;
    return uint32_t(~best);
  }

  // The likeliest id in this core's span of the row: bits that rise with its logit, of which 0 has one kind, and below
  // them the id's complement. All bits where there is NaN.
  __aicore__ inline uint64_t key_of_span() {
    int32_t first = team_.rank() * tiling_.span, end = first + tiling_.span;
    if (end > tiling_.num_tiles) end = tiling_.num_tiles;
    if (first >= end) return 0;
    LocalTensor<int16_t> numbers = numbers_.template Get<int16_t>();
    Duplicate(numbers, int16_t(-1), int32_t(numbers.GetSize()));
    PipeBarrier<PIPE_V>();
    best_ = {NOTHING, 0};
    CopyIn(first);
    for (int32_t tile = first; tile < end; tile++) {
      if (tile + 1 < end) CopyIn(tile + 1);
      Compute(tile);
    }
    for (int32_t lanes = tiling_.tile / 16; lanes > 16;) {
      int32_t half = int32_t(round_up(ceil_div(lanes, 2), 16));
      And(numbers, numbers, numbers[half], lanes - half);
      PipeBarrier<PIPE_V>();
      lanes = half;
    }
    wait<HardEvent::V_S>();  // the scalar unit waits for the vector unit
    LocalTensor<uint64_t> words = numbers_.template Get<uint64_t>();
    bool has_nan = false;
    for (int32_t i = 0; i < 4; i++) has_nan = has_nan || ~words.GetValue(i) != 0;
    wait<HardEvent::S_V>();  // the vector unit's next masks wait for the scalar unit
    FloatBits word;
    word.value = best_.logit + 0.0f;
    uint32_t rising = word.bits >> 31 ? ~word.bits : word.bits | 0x80000000;
    return has_nan ? ~uint64_t(0) : uint64_t(rising) << 32 | uint32_t(~best_.id);
  }

  __aicore__ inline int32_t columns_of(int32_t tile) const {
    int64_t left = tiling_.vocabulary - int64_t(tile) * tiling_.tile;
    return left < tiling_.tile ? int32_t(left) : tiling_.tile;
  }

  __aicore__ inline void CopyIn(int32_t tile) {
    LocalTensor<T> part = parts_.template AllocTensor<T>();
    int32_t columns = columns_of(tile);
    int64_t first = (sequence_ * (tiling_.num_nodes + 1) + row_) * tiling_.layout.target + int64_t(tile) * tiling_.tile;
    copy_in(part, logits_[first], 1, columns, columns, int32_t(round_up(columns, BLOCK<T>)));
    parts_.EnQue(part);  // the vector unit waits for the copy in DeQue
  }

  __aicore__ inline void Compute(int32_t tile) {
    int32_t columns = columns_of(tile), count = int32_t(round_up(columns, 128)), lanes = count / 2;
    LocalTensor<T> part = parts_.template DeQue<T>();
    LocalTensor<float> logits;
    if constexpr (IsFloat<T>::value) {
      logits = part;
    } else {
      logits = wide_.template Get<float>();
      to_float(logits, part, int32_t(round_up(columns, BLOCK<T>)));
      PipeBarrier<PIPE_V>();
    }
    if (columns < count) {  // nothing behind the vocabulary is likely
      int32_t whole = int32_t(round_down(columns, 64)), behind = columns - whole;
      uint64_t mask[2] = {~uint64_t(0) << behind, 0};
      Duplicate(logits[whole], NOTHING, mask, 1, 1, 8);
      if (whole + 64 < count) Duplicate(logits[whole + 64], NOTHING, count - whole - 64);
      PipeBarrier<PIPE_V>();
    }
    LocalTensor<float> fold = fold_.template Get<float>();
    LocalTensor<uint8_t> mask = mask_.template Get<uint8_t>();
    LocalTensor<int16_t> bits = mask_.template Get<int16_t>(), numbers = numbers_.template Get<int16_t>();
    Compare(mask, logits, logits, CMPMODE::EQ, count);  // but NaN
    Max(fold, logits, logits[lanes], lanes);
    PipeBarrier<PIPE_V>();
    And(numbers, numbers, bits, count / 16);
    while (lanes > 8) {
      int32_t half = int32_t(round_up(ceil_div(lanes, 2), 8));
      Max(fold, fold, fold[half], lanes - half);
      PipeBarrier<PIPE_V>();
      lanes = half;
    }
    wait<HardEvent::V_S>();  // the scalar unit waits for the vector unit
    float highest = NOTHING;
    for (int32_t i = 0; i < 8; i++) {
      float logit = fold.GetValue(i);
      if (logit > highest) highest = logit;
    }
    if (highest > best_.logit) {
      CompareScalar(mask, logits, highest, CMPMODE::EQ, count);
      wait<HardEvent::V_S>();
      LocalTensor<uint64_t> words = mask_.template Get<uint64_t>();
      int32_t word = 0, bit = 0;
      while (words.GetValue(word) == 0) word++;
      for (uint64_t found = words.GetValue(word); (found >> bit & 1) == 0;) bit++;
      best_ = {highest, int32_t(tile) * tiling_.tile + word * 64 + bit};
    }
    wait<HardEvent::S_V>();  // the vector unit's next results wait for the scalar unit
    parts_.FreeTensor(part);      // the next copy into it waits for the vector unit
  }

  struct Best {
    float logit;
    int32_t id;
  };

  SpecVerifyTiling tiling_;
  Drafts drafts_;
  Team team_;
  GlobalTensor<T> logits_;
  GlobalTensor<int32_t> target_ids_;
  TQue<TPosition::VECIN, 2> parts_;
  TBuf<TPosition::VECCALC> wide_, fold_, mask_, numbers_;
  int64_t sequence_ = 0;
  int32_t row_ = 0;
  bool is_valid_ = true;
  Best best_{};
};

}  // namespace pangu::ascend
