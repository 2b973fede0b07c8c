// What rejected drafts leave of the target's distribution, and its sums, which come out the same however they are cut:
// products are float64, and each is rounded to a multiple of 1 / PROBABILITY_SCALE before it is added.
#pragma once

#include <algorithm>
#include <vector>

#include "common/spec_verify.h"
#include "cpu/isa/vec.h"

namespace pangu {

constexpr int64_t ROW_CHUNK = 2048;  // elements of a row that are summed at once

// Half as many doubles, and the floats that they are made of as bits.
constexpr int DOUBLES = LANES / 2;
typedef double vd __attribute__((vector_size(sizeof(vf))));
typedef int32_t half_bits __attribute__((vector_size(sizeof(vf) / 2)));

// The first n <= DOUBLES elements; the other lanes are zero.
inline half_bits load_half(const float* p, int64_t n) {
  half_bits v = {};
  if (n == DOUBLES)
    std::memcpy(&v, p, sizeof v);
  else
    std::memcpy(&v, p, n * sizeof(float));
  return v;
}

inline vd doubles(half_bits bits) {
  typedef float half __attribute__((vector_size(sizeof(half_bits))));
  return __builtin_convertvector((half)bits, vd);
}

// Rows are longer than a page, where the CPU's own prefetching begins anew.
inline void prefetch(const float* p) {
  for (int64_t line = 0; line < 4 * DOUBLES; line += 16) __builtin_prefetch(p + 1024 + line);
}

// A product as it is: the compiler must not fuse it with the subtraction that follows, which would round once less.
template <class V>
inline V rounded(V product) {
#if defined(__x86_64__)
  asm("" : "+v"(product));
#elif defined(__aarch64__)
  asm("" : "+w"(product));
#endif
  return product;
}

// A probability as a multiple of 1 / PROBABILITY_SCALE: adding and taking off 2^52 rounds to an integer, ties to even.
template <class V>
inline V integer(V probability) {
  return (probability * PROBABILITY_SCALE + 0x1p52) - 0x1p52;
}

inline bool is_probability(double p) { return p >= 0 && p < 2; }

// What is left of a row of the target: weight times the row, less what each rejected node took, never below 0.
struct Residual {
  struct Rejected {
    const float* probs;  // null for a draft that was chosen, not drawn
    int64_t id;
    double mass;  // of the target before
  };
  const float* row;
  double weight;
  std::vector<Rejected> rejected;

  double at(int64_t id) const {
    double left = rounded(weight * row[id]);
    for (const auto& [probs, drafted, mass] : rejected)
      left = std::max(left - rounded(mass * (probs ? probs[id] : id == drafted)), 0.0);
    return left;
  }

  // The sum of the n <= ROW_CHUNK elements from `first` on, as integers, which also go to out unless it is null. Clears
  // `valid` where a number is no probability.
  int64_t integers(int64_t first, int64_t n, double* out, bool& valid) const {
    auto take = [&](const Rejected& node, int64_t i, int64_t count, vd& left, half_bits& seen) {
      if (node.probs) {
        half_bits q = load_half(node.probs + i, count);
        seen |= q;
        left -= rounded(doubles(q) * node.mass);
        left = left > 0.0 ? left : vd{};
      } else if (uint64_t(node.id - i) < uint64_t(DOUBLES)) {
        left[node.id - i] = std::max(left[node.id - i] - node.mass, 0.0);
      }
    };
    if (rejected.size() == 1) {  // a chain's, in registers
      const Rejected node = rejected[0];
      return add_up(first, n, out, valid, [=](auto&... args) { take(node, args...); });
    }
    return add_up(first, n, out, valid, [&](auto&... args) {
      for (const Rejected& node : rejected) take(node, args...);
    });
  }

 private:
  template <class Take>
  int64_t add_up(int64_t first, int64_t n, double* out, bool& valid, const Take& take_rejected) const {
    vd sums[4] = {};      // each lane adds up at most 2^8 numbers below 2^45, which is exact
    half_bits seen = {};  // every bit of every number: from 2 on, and in NaN, bit 30 is set
    auto add = [&](int64_t i, int64_t count, vd& sum) __attribute__((always_inline)) {
      half_bits p = load_half(row + i, count);
      seen |= p;
      vd left = rounded(doubles(p) * weight);
      take_rejected(i, count, left, seen);
      left = integer(left);
      if (out) std::memcpy(out + (i - first), &left, sizeof left);
      sum += left;
    };
    int64_t i = first, end = first + n;
    for (; i + 4 * DOUBLES <= end; i += 4 * DOUBLES) {
      prefetch(row + i);
      for (const Rejected& node : rejected)
        if (node.probs) prefetch(node.probs + i);
#pragma GCC unroll 4
      for (int part = 0; part < 4; part++) add(i + part * DOUBLES, DOUBLES, sums[part]);
    }
    for (; i < end; i += DOUBLES) add(i, std::min<int64_t>(DOUBLES, end - i), sums[(i - first) / DOUBLES % 4]);
    int32_t bits = 0;
    int64_t total = 0;
    for (int lane = 0; lane < DOUBLES; lane++) {
      bits |= seen[lane];
      for (const vd& sum : sums) total += int64_t(sum[lane]);
    }
    if (bits & 0xc0000000) valid = valid && all_valid(first, n);
    return total;
  }

  bool all_valid(int64_t first, int64_t n) const {
    bool valid = true;
    for (int64_t id = first; id < first + n; id++) {
      valid &= is_probability(row[id]);
      for (const Rejected& node : rejected) valid &= !node.probs || is_probability(node.probs[id]);
    }
    return valid;
  }
};

}  // namespace pangu
