// What rejected drafts leave of a tile of the target's distribution, in units as float64 would give them, where the
// vector unit has no float64. What p - q has beyond 24 digits is exact too, in a second float. A product with a number
// that is no float comes in two floats, right to 2^-43 of it: an element that such an error, or float64's own rounding,
// could take across a half unit is marked as doubtful, and worked out in integers by the scalar unit. Of distributions
// that is about one of a whole row.
#pragma once

#include "kernel/real.h"
#include "kernel/units.h"

namespace pangu::ascend {

__aicore__ inline float power_of_2(int32_t exponent) {  // 0 below what float32 has with all its digits
  if (exponent < -126) return 0.0f;
  union {
    uint32_t bits;
    float value;
  } power{uint32_t(exponent + 127) << 23};
  return power.value;
}

// A number as floats: the first 24 digits, 12 and 12 of them, and the next 24.
struct Factor {
  float first, upper, lower, second;
  bool is_one;

  __aicore__ inline explicit Factor(const Real& number) : is_one(ascend::is_one(number)) {
    uint32_t digits = uint32_t(number.digits >> 29);
    float unit = power_of_2(number.exponent + 29);
    upper = float(int32_t(digits & 0xfff000)) * unit;
    lower = float(int32_t(digits & 0xfff)) * unit;
    first = upper + lower;
    second = float(int32_t(number.digits >> 5 & 0xffffff)) * power_of_2(number.exponent + 5);
  }
};

class ResidualUnits : public Units {
 public:
  // max(p - q, 0), without doubt but where float64 itself may have rounded to a half unit or not
  __aicore__ inline void Difference(const LocalTensor<float>& p, const LocalTensor<float>& q, int32_t count) {
    count_ = count, hi_shift_ = 22;
    look_at(p, q);
    PipeBarrier<PIPE_V>();
    Min(q, p, q, count);
    PipeBarrier<PIPE_V>();
    Sub(large(), p, q, count);
    PipeBarrier<PIPE_V>();
    Sub(x(), p, large(), count);
    PipeBarrier<PIPE_V>();
    Sub(small(), x(), q, count);  // p - q = large + small, exactly
    PipeBarrier<PIPE_V>();
    split();
    snap();
    // Float64 rounds what it is off a half unit away below 2^-54 of `large`, and keeps it above 2^-53; between, its
    // exponent tells.
    Muls(small(), small(), 0x1p53f, count);
    Muls(x(), large(), 0.49f, count);
    Muls(y(), large(), -0.49f, count);
    PipeBarrier<PIPE_V>();
    Max(y(), small(), y(), count);
    PipeBarrier<PIPE_V>();
    Min(y(), y(), x(), count);
    PipeBarrier<PIPE_V>();
    Sub(y(), small(), y(), count);  // 0 where it is rounded away
    PipeBarrier<PIPE_V>();
    Abs(small(), small(), count);
    PipeBarrier<PIPE_V>();
    Sub(x(), small(), x(), count);
    PipeBarrier<PIPE_V>();
    Axpy(small(), large(), -1.5f, count);
    PipeBarrier<PIPE_V>();
    Mul(x(), x(), small(), count);  // below 0 between
    PipeBarrier<PIPE_V>();
    Mins(x(), x(), 0.0f, count);
    Abs(small(), half_units(), count);
    PipeBarrier<PIPE_V>();
    Muls(small(), small(), -1.0f / TIE, count);
    PipeBarrier<PIPE_V>();
    Adds(small(), small(), 0.0f, count);  // no -0, whose bits are those of a doubt
    PipeBarrier<PIPE_V>();
    Max(x(), x(), small(), count);  // of no interest where no half unit is near
    PipeBarrier<PIPE_V>();
    look_at_too(x());
    settle(y());
    to_integers(COARSE_BITS);
  }

  // The general case, step by step: weight times p; less mass times q, for each rejected node; the end.
  __aicore__ inline void Begin(const LocalTensor<float>& p, const Factor& weight, int32_t count) {
    count_ = count, hi_shift_ = 22;
    look_at(p);
    if (weight.is_one) {
      Muls(large(), p, 1.0f, count);
      Duplicate(small(), 0.0f, count);
      Duplicate(error(), 0.0f, count);
      PipeBarrier<PIPE_V>();
      return;
    }
    multiply_by(weight, p);
    Add(large(), product(), rest(), count);
    PipeBarrier<PIPE_V>();
    Sub(x(), large(), product(), count);
    Muls(error(), large(), PRODUCT_ERROR, count);
    PipeBarrier<PIPE_V>();
    Sub(small(), rest(), x(), count);
    PipeBarrier<PIPE_V>();
  }

  __aicore__ inline void Take(const LocalTensor<float>& q, const Factor& mass) {
    int32_t count = count_;
    look_at_too(q);
    if (mass.is_one) {
      Muls(product(), q, 1.0f, count);
      Duplicate(rest(), 0.0f, count);
      PipeBarrier<PIPE_V>();
    } else {
      multiply_by(mass, q);
    }
    // What float64 surely rounds away is 0 here too.
    Muls(x(), product(), 0x1p56f, count);
    PipeBarrier<PIPE_V>();
    Compare(mask_, x(), large(), CMPMODE::GE, count);
    PipeBarrier<PIPE_V>();
    Select(product(), mask_, product(), 0.0f, SELMODE::VSEL_TENSOR_SCALAR_MODE, count);
    Select(rest(), mask_, rest(), 0.0f, SELMODE::VSEL_TENSOR_SCALAR_MODE, count);
    PipeBarrier<PIPE_V>();
    if (!mass.is_one) Axpy(error(), product(), PRODUCT_ERROR, count);
    // large - product = x + q, exactly; q's place is free
    Sub(x(), large(), product(), count);
    PipeBarrier<PIPE_V>();
    Sub(y(), x(), large(), count);
    PipeBarrier<PIPE_V>();
    Sub(q, x(), y(), count);
    PipeBarrier<PIPE_V>();
    Add(y(), product(), y(), count);
    PipeBarrier<PIPE_V>();
    Sub(q, large(), q, count);
    PipeBarrier<PIPE_V>();
    Sub(q, q, y(), count);
    PipeBarrier<PIPE_V>();
    Sub(y(), small(), rest(), count);
    PipeBarrier<PIPE_V>();
    Abs(rest(), y(), count);
    PipeBarrier<PIPE_V>();
    Add(y(), y(), q, count);
    PipeBarrier<PIPE_V>();
    Axpy(error(), rest(), SUM_ERROR, count);
    Add(large(), x(), y(), count);
    PipeBarrier<PIPE_V>();
    Abs(rest(), y(), count);
    Sub(q, large(), x(), count);
    PipeBarrier<PIPE_V>();
    Axpy(error(), rest(), SUM_ERROR, count);
    Sub(small(), y(), q, count);
    PipeBarrier<PIPE_V>();
    // Float64 rounds too, but not what one float holds.
    Abs(rest(), small(), count);
    Muls(x(), large(), 0x1p-50f, count);
    PipeBarrier<PIPE_V>();
    Muls(rest(), rest(), 0x1p10f, count);
    PipeBarrier<PIPE_V>();
    Min(x(), x(), rest(), count);
    PipeBarrier<PIPE_V>();
    Add(error(), error(), x(), count);
    PipeBarrier<PIPE_V>();
  }

  __aicore__ inline void End() {
    int32_t count = count_;
    Maxs(large(), large(), 0.0f, count);
    PipeBarrier<PIPE_V>();
    Muls(x(), large(), -1.0f, count);
    Min(small(), small(), large(), count);
    PipeBarrier<PIPE_V>();
    Max(small(), small(), x(), count);  // 0 where nothing is left
    PipeBarrier<PIPE_V>();
    split();
    Abs(large(), small(), count);
    Abs(x(), y(), count);
    PipeBarrier<PIPE_V>();
    Muls(x(), x(), -1.0f, count);
    PipeBarrier<PIPE_V>();
    Adds(x(), x(), TIE, count);
    PipeBarrier<PIPE_V>();
    Sub(x(), x(), large(), count);
    PipeBarrier<PIPE_V>();
    Abs(x(), x(), count);  // no more than what is missing to a tie
    PipeBarrier<PIPE_V>();
    Sub(x(), x(), error(), count);
    PipeBarrier<PIPE_V>();
    look_at_too(x());
    snap();
    settle(small());
    to_integers(COARSE_BITS);
  }

 private:
  static constexpr float NEAR = 0x1.8p-22f, TIE = 0x1p-45f;  // what added rounds to half units; half a unit
  static constexpr float PRODUCT_ERROR = 0x1p-43f, SUM_ERROR = 0x1p-22f;

  __aicore__ inline const LocalTensor<float>& large() const { return work_[LARGE]; }
  __aicore__ inline const LocalTensor<float>& small() const { return work_[SMALL]; }
  __aicore__ inline const LocalTensor<float>& half_units() const { return work_[THIRD]; }
  __aicore__ inline const LocalTensor<float>& error() const { return work_[THIRD]; }
  __aicore__ inline const LocalTensor<float>& product() const { return work_[HI]; }
  __aicore__ inline const LocalTensor<float>& rest() const { return work_[LO]; }

  // product + rest = factor * numbers
  __aicore__ inline void multiply_by(const Factor& factor, const LocalTensor<float>& numbers) {
    int32_t count = count_;
    Muls(x(), numbers, 4097.0f, count);  // 12 digits of each number in x, the others in rest
    Muls(product(), numbers, factor.first, count);
    PipeBarrier<PIPE_V>();
    Sub(rest(), x(), numbers, count);
    PipeBarrier<PIPE_V>();
    Sub(x(), x(), rest(), count);
    PipeBarrier<PIPE_V>();
    Sub(rest(), numbers, x(), count);
    Muls(y(), x(), factor.upper, count);
    PipeBarrier<PIPE_V>();
    Sub(y(), y(), product(), count);
    PipeBarrier<PIPE_V>();
    Axpy(y(), x(), factor.lower, count);
    PipeBarrier<PIPE_V>();
    Axpy(y(), rest(), factor.upper, count);
    PipeBarrier<PIPE_V>();
    Axpy(y(), rest(), factor.lower, count);
    PipeBarrier<PIPE_V>();
    Muls(rest(), numbers, factor.second, count);
    PipeBarrier<PIPE_V>();
    Add(rest(), rest(), y(), count);
    PipeBarrier<PIPE_V>();
  }

  // large + small, at least 0, to a multiple of 2^-22 in hi, one of 2^-44 in lo, and what remains in y and small.
  __aicore__ inline void split() {
    int32_t count = count_;
    Adds(hi(), large(), COARSE, count);
    PipeBarrier<PIPE_V>();
    Adds(x(), hi(), -COARSE, count);
    PipeBarrier<PIPE_V>();
    Sub(x(), large(), x(), count);
    PipeBarrier<PIPE_V>();
    Add(y(), x(), small(), count);
    PipeBarrier<PIPE_V>();
    Sub(x(), y(), x(), count);
    Adds(lo(), y(), FINE, count);
    PipeBarrier<PIPE_V>();
    Sub(small(), small(), x(), count);
    PipeBarrier<PIPE_V>();
    Adds(x(), lo(), -FINE, count);
    PipeBarrier<PIPE_V>();
    Sub(y(), y(), x(), count);
    PipeBarrier<PIPE_V>();
  }

  // What lies in y and small: to a multiple of half a unit, of 1 or 0 of either sign, and in small what it is off that.
  __aicore__ inline void snap() {
    Adds(half_units(), y(), NEAR, count_);
    PipeBarrier<PIPE_V>();
    Adds(half_units(), half_units(), -NEAR, count_);
    PipeBarrier<PIPE_V>();
    Sub(x(), y(), half_units(), count_);
    PipeBarrier<PIPE_V>();
    Add(small(), small(), x(), count_);
    PipeBarrier<PIPE_V>();
  }

  // Half a unit goes to the even side; with some more or some less, which a quarter stands for, to where it belongs.
  __aicore__ inline void settle(const LocalTensor<float>& off) {
    Muls(off, off, 0x1p60f, count_);
    PipeBarrier<PIPE_V>();
    Mins(off, off, TIE / 2, count_);
    PipeBarrier<PIPE_V>();
    Maxs(off, off, -TIE / 2, count_);
    PipeBarrier<PIPE_V>();
    Add(half_units(), half_units(), off, count_);
    PipeBarrier<PIPE_V>();
    Add(lo(), lo(), half_units(), count_);
    PipeBarrier<PIPE_V>();
  }
};

}  // namespace pangu::ascend
