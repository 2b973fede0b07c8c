// Tiles of probabilities in units of 2^-44 of one, and their sums. A number is kept as hi * 2^22 + lo units in two
// int32: adding 2 to a float below 2 rounds it to a multiple of 2^-22, which the bits of the sum count, and adding
// 1.5 * 2^-21 to the rest rounds that to one of 2^-44. So nothing is converted, which a 310P could not, and sums are
// exact.
#pragma once

#include "kernel/kernel.h"

namespace pangu::ascend {

class Units {
 public:
  struct Sum {
    int64_t units;
    bool is_valid, is_doubtful;
  };

  // Bytes for an element of a tile.
  static constexpr int32_t BYTES = 8 * 4;

  __aicore__ inline void Init(TPipe* pipe, int32_t tile) {
    pipe->InitBuffer(buffer_, tile * BYTES);
    pipe->InitBuffer(mask_buffer_, int32_t(round_up(tile / 8, BLOCK_BYTES)));
    for (int32_t i = 0; i < 8; i++) work_[i] = buffer_.GetWithOffset<float>(tile, i * tile * int32_t(sizeof(float)));
    mask_ = mask_buffer_.Get<uint8_t>();
  }

  // Of `count` elements, a multiple of 128, p itself.
  __aicore__ inline void Whole(const LocalTensor<float>& p, int32_t count) {
    count_ = count, hi_shift_ = 22;
    look_at(p);
    Adds(hi(), p, COARSE, count);
    PipeBarrier<PIPE_V>();
    Adds(x(), hi(), -COARSE, count);
    PipeBarrier<PIPE_V>();
    Sub(x(), p, x(), count);
    PipeBarrier<PIPE_V>();
    Adds(lo(), x(), FINE, count);
    PipeBarrier<PIPE_V>();
    to_integers(COARSE_BITS);
  }

  // -p ln p, which may be below 0
  __aicore__ inline void Entropy(const LocalTensor<float>& p, int32_t count) {
    constexpr float OFFSET = 6.0f;
    constexpr int32_t OFFSET_BITS = 0x40c00000;
    count_ = count, hi_shift_ = 23;
    look_at(p);
    Maxs(x(), p, 1e-37f, count);  // of which there is a logarithm
    PipeBarrier<PIPE_V>();
    Ln(x(), x(), count);
    PipeBarrier<PIPE_V>();
    Mul(x(), x(), p, count);
    PipeBarrier<PIPE_V>();
    Muls(x(), x(), -1.0f, count);
    PipeBarrier<PIPE_V>();
    Adds(hi(), x(), OFFSET, count);
    PipeBarrier<PIPE_V>();
    Adds(y(), hi(), -OFFSET, count);
    PipeBarrier<PIPE_V>();
    Sub(x(), x(), y(), count);
    PipeBarrier<PIPE_V>();
    Adds(lo(), x(), FINE, count);
    PipeBarrier<PIPE_V>();
    to_integers(OFFSET_BITS);
  }

  // What the last tile sums up to. A doubtful element is one with a number below 0 too, or with -0.
  __aicore__ inline Sum sum() {
    int32_t lanes = count_ / 2;
    LocalTensor<int16_t> seen16 = seen().ReinterpretCast<int16_t>();
    LocalTensor<int16_t> folded16 = folded_seen().template ReinterpretCast<int16_t>();
    Or(folded16, seen16, seen16[2 * lanes], 2 * lanes);
    fold(0, count_);
    while (lanes > 8) {
      int32_t half = int32_t(round_up(ceil_div(lanes, 2), 8));
      PipeBarrier<PIPE_V>();
      Or(folded16, folded16, folded16[2 * half], 2 * (lanes - half));
      lanes = half;
    }
    wait<HardEvent::V_S>();  // the scalar unit waits for the vector unit
    LocalTensor<uint64_t> folded = folded_seen().template ReinterpretCast<uint64_t>();
    uint64_t bits = 0;
    for (int32_t i = 0; i < 4; i++) bits |= folded.GetValue(i);
    bits |= bits >> 32;
    return {total(), (bits & 0x40000000) == 0, (bits & 0x80000000) != 0};
  }

  // Marks the doubtful elements: bit i % 64 of word i / 64.
  __aicore__ inline void FindDoubtful() {
    Cast(x(), integers(SEEN), RoundMode::CAST_NONE, count_);
    PipeBarrier<PIPE_V>();
    CompareScalar(mask_, x(), 0.0f, CMPMODE::LT, count_);
    wait<HardEvent::V_S>();  // the scalar unit waits for the vector unit
  }
  __aicore__ inline uint64_t doubtful(int32_t word) const { return mask_.ReinterpretCast<uint64_t>().GetValue(word); }

  __aicore__ inline int64_t at(int32_t i) const {
    return integers(HI).GetValue(i) * (int64_t(1) << hi_shift_) + integers(LO).GetValue(i);
  }

  // Corrects an element; gives by how much. Before the vector unit reads it again it must wait: for Settle.
  __aicore__ inline int64_t Set(int32_t i, int64_t units) {
    int64_t before = at(i);
    integers(HI).SetValue(i, int32_t(units >> 22));
    integers(LO).SetValue(i, int32_t(units & 0x3fffff));
    return units - before;
  }
  __aicore__ inline void Settle() { wait<HardEvent::S_V>(); }  // the vector unit waits for the scalar unit

  // The element that a unit of the sum belongs to: by halves, of which the last is read element by element.
  __aicore__ inline int32_t find(int64_t unit) {
    int32_t first = 0, size = 64;
    while (2 * size < count_) size *= 2;
    for (; size >= 64; size /= 2) {
      if (first + size > count_) continue;
      wait<HardEvent::S_V>();  // the vector unit's next sums in the same place wait for the scalar unit
      fold(first, size);
      wait<HardEvent::V_S>();
      int64_t units = total();
      if (unit >= units) unit -= units, first += size;
    }
    for (int64_t units; first < count_ && unit >= (units = at(first)); first++) unit -= units;
    return first;
  }

 protected:
  static constexpr float COARSE = 2.0f, FINE = 0x1.8p-21f;
  static constexpr int32_t COARSE_BITS = 0x40000000, FINE_BITS = 0x35400000;
  static constexpr int32_t LARGE = 0, SMALL = 1, THIRD = 2, HI = 3, LO = 4, SEEN = 5, X = 6, Y = 7;
  static constexpr int32_t HI_LANES = 32, LO_LANES = 16;  // of so many sums none overflows

  __aicore__ inline const LocalTensor<float>& hi() const { return work_[HI]; }
  __aicore__ inline const LocalTensor<float>& lo() const { return work_[LO]; }
  __aicore__ inline const LocalTensor<float>& seen() const { return work_[SEEN]; }
  __aicore__ inline const LocalTensor<float>& x() const { return work_[X]; }
  __aicore__ inline const LocalTensor<float>& y() const { return work_[Y]; }
  __aicore__ inline const LocalTensor<float>& folded_seen() const { return work_[THIRD]; }
  __aicore__ inline LocalTensor<int32_t> integers(int32_t slot) const { return work_[slot].ReinterpretCast<int32_t>(); }

  // All bits that are in any of the numbers: bit 30 is in those from 2 on and in NaN, bit 31 in those below 0.
  __aicore__ inline void look_at(const LocalTensor<float>& numbers) { look_at(numbers, numbers); }
  __aicore__ inline void look_at(const LocalTensor<float>& numbers, const LocalTensor<float>& others) {
    Or(seen().ReinterpretCast<int16_t>(), numbers.ReinterpretCast<int16_t>(), others.ReinterpretCast<int16_t>(),
       2 * count_);
  }
  __aicore__ inline void look_at_too(const LocalTensor<float>& numbers) {
    LocalTensor<int16_t> bits = seen().ReinterpretCast<int16_t>();
    PipeBarrier<PIPE_V>();
    Or(bits, bits, numbers.ReinterpretCast<int16_t>(), 2 * count_);
    PipeBarrier<PIPE_V>();
  }

  __aicore__ inline void to_integers(int32_t coarse_bits) {
    LocalTensor<int32_t> hi = integers(HI), lo = integers(LO);
    Adds(hi, hi, -coarse_bits, count_);
    Adds(lo, lo, -FINE_BITS, count_);
    PipeBarrier<PIPE_V>();
  }

  // The sums of `count` elements' hi in HI_LANES lanes and of their lo in LO_LANES.
  __aicore__ inline void fold(int32_t first, int32_t count) {
    LocalTensor<int32_t> hi = integers(HI)[first], lo = integers(LO)[first];
    LocalTensor<int32_t> folded_hi = integers(LARGE), folded_lo = integers(SMALL);
    int32_t lanes = count / 2;
    Add(folded_hi, hi, hi[lanes], lanes);
    Add(folded_lo, lo, lo[lanes], lanes);
    while (lanes > LO_LANES) {
      int32_t half = int32_t(round_up(ceil_div(lanes, 2), 8));
      PipeBarrier<PIPE_V>();
      if (lanes > HI_LANES) {
        if (half < HI_LANES) half = HI_LANES;
        Add(folded_hi, folded_hi, folded_hi[half], lanes - half);
      }
      Add(folded_lo, folded_lo, folded_lo[half], lanes - half);
      lanes = half;
    }
  }

  __aicore__ inline int64_t total() const {
    LocalTensor<uint64_t> his = work_[LARGE].ReinterpretCast<uint64_t>();
    LocalTensor<uint64_t> los = work_[SMALL].ReinterpretCast<uint64_t>();
    int64_t hi = 0, lo = 0;
    for (int32_t i = 0; i < HI_LANES / 2; i++) {
      uint64_t two = his.GetValue(i);
      hi += int64_t(int32_t(two)) + int32_t(two >> 32);
    }
    for (int32_t i = 0; i < LO_LANES / 2; i++) {
      uint64_t two = los.GetValue(i);
      lo += int64_t(int32_t(two)) + int32_t(two >> 32);
    }
    return hi * (int64_t(1) << hi_shift_) + lo;
  }

  TBuf<TPosition::VECCALC> buffer_, mask_buffer_;
  LocalTensor<float> work_[8];
  LocalTensor<uint8_t> mask_;
  int32_t count_ = 0, hi_shift_ = 22;  // hi counts 2^hi_shift_ units
};

}  // namespace pangu::ascend
