// Non-negative float64 numbers on a scalar unit that knows none: what the other backends compute in double comes out
// here bit for bit, by integers. There are no infinities: nothing that is computed so comes near them.
#pragma once

#include <cstdint>

#ifndef __aicore__
#define __aicore__
#endif

namespace pangu::ascend {

constexpr int32_t LOWEST_EXPONENT = -1074;

// digits * 2^exponent, of 53 digits, fewer only at the lowest exponent.
struct Real {
  uint64_t digits;
  int32_t exponent;
};

// Functions, since a global constant has no address that every chip could read from.
__aicore__ inline Real zero() { return {0, LOWEST_EXPONENT}; }
__aicore__ inline Real one() { return {uint64_t(1) << 52, -52}; }

__aicore__ inline bool is_one(const Real& a) { return a.digits == one().digits && a.exponent == one().exponent; }

__aicore__ inline int32_t leading_zeros(uint64_t digits) {
  int32_t zeros = 0;
  for (int32_t step = 32; step > 0; step /= 2)
    if (digits >> (64 - step) == 0) digits <<= step, zeros += step;
  return zeros;
}

// The last digit also stands for all that is shifted out below it.
__aicore__ inline uint64_t shift_right(uint64_t digits, int32_t by) {
  if (by <= 0) return digits;
  if (by > 63) return digits != 0;
  return digits >> by | (digits << (64 - by) != 0);
}

__aicore__ inline uint64_t round_off(uint64_t digits, int32_t by) {  // ties to even; by at least 1
  digits = shift_right(digits, by - 2);
  if (by == 1) digits <<= 1;
  uint64_t kept = digits >> 2, rest = digits & 3;
  return kept + (rest > 2 || (rest == 2 && kept % 2 == 1));
}

// The nearest number, ties to even. A last digit may stand for others if there are at least 55.
__aicore__ inline Real rounded(uint64_t digits, int32_t exponent) {
  if (digits == 0) return zero();
  int32_t zeros = leading_zeros(digits), lowest = LOWEST_EXPONENT - (exponent - zeros), by = lowest > 11 ? lowest : 11;
  Real result{round_off(digits << zeros, by), exponent - zeros + by};
  if (result.digits >> 53 != 0) result.digits >>= 1, result.exponent++;
  return result.digits ? result : zero();
}

__aicore__ inline Real real(uint32_t float_bits) {
  uint32_t exponent = float_bits >> 23 & 0xff, digits = float_bits & 0x7fffff;
  return exponent ? rounded(digits | 0x800000, int32_t(exponent) - 150) : rounded(digits, -149);
}

__aicore__ inline bool less(const Real& a, const Real& b) {
  return a.exponent != b.exponent ? a.exponent < b.exponent : a.digits < b.digits;
}

__aicore__ inline Real add(const Real& a, const Real& b) {
  bool turned = a.exponent < b.exponent;
  Real x = turned ? b : a, y = turned ? a : b;
  return rounded((x.digits << 10) + shift_right(y.digits << 10, x.exponent - y.exponent), x.exponent - 10);
}

// a - b, never below 0
__aicore__ inline Real take(const Real& a, const Real& b) {
  if (!less(b, a)) return zero();
  return rounded((a.digits << 10) - shift_right(b.digits << 10, a.exponent - b.exponent), a.exponent - 10);
}

__aicore__ inline Real with_all_digits(const Real& a) {
  int32_t missing = leading_zeros(a.digits) - 11;
  return {a.digits << missing, a.exponent - missing};
}

__aicore__ inline Real multiply(const Real& a, const Real& b) {
  if (a.digits == 0 || b.digits == 0) return zero();
  Real x = with_all_digits(a), y = with_all_digits(b);
  uint64_t x_low = uint32_t(x.digits), x_high = x.digits >> 32, y_low = uint32_t(y.digits), y_high = y.digits >> 32;
  uint64_t middle = x_high * y_low + x_low * y_high, low = x_low * y_low, sum = low + (middle << 32);
  uint64_t high = x_high * y_high + (middle >> 32) + (sum < low);
  return rounded(high << 22 | sum >> 42 | (sum << 22 != 0), x.exponent + y.exponent + 42);
}

// b is not 0
__aicore__ inline Real divide(const Real& a, const Real& b) {
  if (a.digits == 0) return zero();
  Real x = with_all_digits(a), y = with_all_digits(b);
  uint64_t quotient = 0, rest = x.digits;
  for (int32_t digit = 0; digit < 57; digit++) {
    bool fits = rest >= y.digits;
    quotient = quotient << 1 | fits;
    rest = (fits ? rest - y.digits : rest) << 1;
  }
  return rounded(quotient << 1 | (rest != 0), x.exponent - y.exponent - 57);
}

// The nearest integer, ties to even, of a number below 2^63.
__aicore__ inline int64_t nearest(const Real& a) {
  return int64_t(a.exponent >= 0 ? a.digits << a.exponent : round_off(a.digits, -a.exponent));
}

__aicore__ inline int64_t whole_part(const Real& a) {
  if (a.exponent >= 0) return int64_t(a.digits << a.exponent);
  return a.exponent < -63 ? 0 : int64_t(a.digits >> -a.exponent);
}

}  // namespace pangu::ascend
