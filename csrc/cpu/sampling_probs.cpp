// sampling_probs: every thread takes whole rows. A row comes from memory once, in blocks whose largest logits tell
// which of them can hold one of the top_k; whatever follows visits only those, in the L2 cache.
#include "common/sampling_probs.h"

#include <torch/csrc/stable/library.h>

#include <functional>

#include "cpu/experts.h"

namespace pangu {
namespace {

constexpr int64_t BLOCK = 128, BINS = 2048;

struct Bin {
  int64_t count;
  double mass;
};

struct Candidate {
  float logit;
  int32_t id;
  float mass;

  bool operator<(const Candidate& other) const {  // the likelier one, or of equals the one of the lower id
    return logit > other.logit || (logit == other.logit && id < other.id);
  }
};

template <class T>
class SamplingRow {
  const T* logits;
  float* probs;  // holds masses, e^((logit - top) / temperature), until their sum is known
  int64_t size;
  float temperature = 0, top = -INFINITY, bottom = INFINITY;  // the largest logit, and the smallest finite one
  float floor = -INFINITY;                                    // blocks that do not reach it hold nothing that is kept
  std::vector<float> maxima;                                  // of the blocks

 public:
  SamplingRow(const T* logits, float* probs, int64_t size)
      : logits(logits), probs(probs), size(size), maxima((size + BLOCK - 1) / BLOCK) {}

  void fill(float temperature, int64_t top_k, double top_p) {
    this->temperature = temperature;
    if (top_k >= size) top_k = 0;
    bool in_range = temperature >= 0 && temperature < INFINITY && top_k >= 0 && top_p > 0 && top_p <= 1;
    if (!in_range || !find_maxima()) {
      std::fill(probs, probs + size, NAN);
    } else if (temperature == 0) {
      take_likeliest();
    } else if (top_k == 0 && top_p == 1) {
      take_all();
    } else {
      take_cut(top_k, top_p);
    }
  }

 private:
  // Call body(begin, count, values) for every block that reaches the floor; past its end the values are -inf.
  template <class Body>
  void for_blocks(const Body& body) const {
    alignas(64) float values[BLOCK];
    for (int64_t begin = 0; begin < size; begin += BLOCK) {
      if (maxima[begin / BLOCK] < floor) continue;
      int64_t count = std::min(BLOCK, size - begin);
      for_vectors(count, [&](int64_t i, auto load, auto store) { store(values + i, load(logits + begin + i)); });
      std::fill(values + count, values + BLOCK, -INFINITY);
      body(begin, count, values);
    }
  }

  // False where the row has a NaN or its maximum is not finite.
  bool find_maxima() {
    vf low = splat(INFINITY);
    vi nan = {};
    for_blocks([&](int64_t begin, int64_t, const float* values) {
      vf high = splat(-INFINITY);
      for (int64_t i = 0; i < BLOCK; i += LANES) {
        vf v = load(values + i);
        nan |= v != v;
        high = max(high, v);
        low = min(low, v == splat(-INFINITY) ? splat(INFINITY) : v);
      }
      maxima[begin / BLOCK] = max(high);
      top = std::max(top, max(high));
    });
    bottom = -max(-low);
    for (int i = 0; i < LANES; i++)
      if (nan[i]) return false;
    return std::isfinite(top);
  }

  void take_likeliest() {
    int64_t id = BLOCK * (std::find(maxima.begin(), maxima.end(), top) - maxima.begin());
    while (load_first(logits + id, 1)[0] != top) id++;
    std::fill(probs, probs + size, 0.0f);
    probs[id] = 1.0f;
  }

  // Write a block's masses, and return their sum.
  float exponentials(int64_t begin, int64_t count, const float* values) const {
    vf total = {};
    for_vectors(count, [&](int64_t i, auto, auto store) {
      vf mass = exp((load(values + i) - top) / temperature);  // 0 past the end
      store(probs + begin + i, mass);
      total += mass;
    });
    return sum(total);
  }

  void take_all() const {
    double total = 0;
    for_blocks([&](int64_t begin, int64_t count, const float* values) { total += exponentials(begin, count, values); });
    float scale = float(1 / total);
    for_vectors(size, [&](int64_t i, auto load, auto store) { store(probs + i, load(probs + i) * scale); });
  }

  // Bins rank as the logits do, since each step of the arithmetic rises or falls with them. Where all are equal there
  // is no bin to tell them apart: 0 * inf is a NaN, which min() sends to the last one.
  void bins_of(const float* values, int32_t* bins) const {
    float per_unit = BINS / std::min(88.0f, (top - bottom) / temperature);  // past 88 the mass is 0
    for (int64_t i = 0; i < BLOCK; i += LANES) {
      vf bin = min((top - load(values + i)) / temperature * per_unit, splat(BINS - 1));
      vi whole = __builtin_convertvector(bin, vi);
      std::memcpy(bins + i, &whole, sizeof whole);
    }
  }

  // Masses that are 0 stay so in any case: they are not counted.
  std::vector<Bin> fill_bins() const {
    std::vector<Bin> bins(BINS);
    for_blocks([&](int64_t begin, int64_t count, const float* values) {
      alignas(64) int32_t bin[BLOCK];
      exponentials(begin, count, values);
      bins_of(values, bin);
      for (int64_t i = 0; i < count; i++) {
        float mass = probs[begin + i];
        bins[bin[i]].count += mass > 0;
        bins[bin[i]].mass += mass;
      }
    });
    return bins;
  }

  std::vector<Candidate> ordered(int32_t wanted) const {
    std::vector<Candidate> candidates;
    for_blocks([&](int64_t begin, int64_t count, const float* values) {
      alignas(64) int32_t bin[BLOCK];
      bins_of(values, bin);
      if (std::count(bin, bin + count, wanted) == 0) return;  // in vectors, unlike the loop, and mostly so
      for (int64_t i = 0; i < count; i++)
        if (bin[i] == wanted && probs[begin + i] > 0)
          candidates.push_back({values[i], int32_t(begin + i), probs[begin + i]});
    });
    std::sort(candidates.begin(), candidates.end());
    return candidates;
  }

  void take_cut(int64_t top_k, double top_p) {
    if (0 < top_k && top_k < int64_t(maxima.size())) {
      std::vector<float> best = maxima;  // top_k blocks reach the top_k-th of them, and so do that many logits
      std::nth_element(best.begin(), best.begin() + top_k - 1, best.end(), std::greater<float>());
      floor = best[top_k - 1];
      std::fill(probs, probs + size, 0.0f);
    }
    std::vector<Bin> bins = fill_bins();

    // Only the bin that a cut falls into has to be in order; `kept` is what the cut leaves of it.
    std::vector<Candidate> kept;
    int64_t last = 0, left = top_k ? top_k : size;
    while (last < BINS - 1 && left > bins[last].count) left -= bins[last++].count;
    if (top_k) {
      kept = ordered(int32_t(last));
      kept.resize(std::min<int64_t>(left, kept.size()));
      bins[last].mass = 0;
      for (const Candidate& candidate : kept) bins[last].mass += candidate.mass;
    }
    double total = 0;
    for (int64_t bin = 0; bin <= last; bin++) total += bins[bin].mass;
    if (top_p < 1) {
      double limit = top_p * total;
      int64_t bin = 0;
      for (total = 0; bin < last && total + bins[bin].mass < limit; bin++) total += bins[bin].mass;
      if (bin < last || !top_k) kept = ordered(int32_t(bin));
      size_t count = 0;
      while (count < kept.size() && total < limit) total += kept[count++].mass;
      kept.resize(count);
    }
    keep(kept.empty() ? Candidate{-INFINITY, int32_t(size - 1), 0} : kept.back(), float(1 / total));
  }

  // Scale the masses of what ranks up to `last`; the others become 0.
  void keep(const Candidate& last, float scale) const {
    vf bound = splat(last.logit);
    for_blocks([&](int64_t begin, int64_t count, const float* values) {
      float* out = probs + begin;
      int64_t ties = std::clamp<int64_t>(last.id + 1 - begin, 0, count);  // below, equal logits are kept
      for_vectors(ties, [&](int64_t i, auto load, auto store) {
        store(out + i, load(values + i) >= bound ? load(out + i) * scale : vf{});
      });
      for_vectors(count - ties, [&](int64_t i, auto load, auto store) {
        store(out + ties + i, load(values + ties + i) > bound ? load(out + ties + i) * scale : vf{});
      });
    });
  }
};

Tensor sampling_probs(const Tensor& logits, const Tensor& temperature, const Tensor& top_k, const Tensor& top_p) {
  SamplingProbs op = sampling_probs_prologue(logits, temperature, top_k, top_p);
  with_dtype(op.logits.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T* logits = data<T>(op.logits);
    const float *temperature = data<float>(op.temperature), *top_p = data<float>(op.top_p);
    const int32_t* top_k = data<int32_t>(op.top_k);
    float* probs = mutable_data<float>(op.probs);
    for_units(op.num_rows, [&](int64_t row) {
      SamplingRow<T>(logits + row * op.num_ids, probs + row * op.num_ids, op.num_ids)
          .fill(temperature[row], top_k[row], top_p[row]);
    });
  });
  return op.probs;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("sampling_probs", TORCH_BOX(&sampling_probs)); }

}  // namespace pangu
