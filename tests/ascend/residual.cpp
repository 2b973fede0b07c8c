// The units that kernel/residual.h finds on the vector unit against those of float64, element by element.
#include "kernel/residual.h"

#include <cmath>
#include <cstdio>
#include <random>
#include <string>

namespace pangu::ascend {
namespace {

constexpr int TILE = 1024;

struct Case {
  std::vector<float> p = std::vector<float>(TILE);
  std::vector<std::vector<float>> q;
  double weight = 1.0;
  std::vector<double> masses;
};

class Draw {
 public:
  explicit Draw(uint64_t seed) : random_(seed) {}

  int64_t below(int64_t n) { return int64_t(random_() % uint64_t(n)); }
  double unit() { return double(random_() >> 11) * 0x1p-53; }

  // Half units and their neighbourhood, numbers of all sizes, what softmax gives.
  float probability() {
    switch (below(8)) {
      case 0: return float(2 * below(1 << 23) + 1) * 0x1p-45f;
      case 1: return float(2 * below(1 << 11) + 1) * 0x1p-45f;
      case 2: return float(std::ldexp(1 + unit(), -int(below(140))));
      case 3: return 0.0f;
      case 4: return below(40) ? float(below(1 << 10)) * 0x1p-44f : 1.9999999f;
      case 5: return float(below(3)) / 2;
      default: return float(std::exp(12 * unit() - 20));
    }
  }

  // Of 2^17 such numbers the sum is near 1.
  float of_a_distribution() { return float(std::exp(14 * unit() - 23.3)); }

  // Equal to others, or such that the difference lies near a half unit.
  float near(float p) {
    switch (below(7)) {
      case 0: return p;
      case 1: return float(std::ldexp(double(p), -int(below(60))));
      case 2: return std::fabs(p - float(2 * below(1 << 12) + 1) * 0x1p-45f);
      case 3: return std::ldexp(1.0f, int(std::ilogb(p > 0 ? p : 1.0f)) - 54 + int(below(4)));
      case 4: {
        float half_units = float(2 * below(1 << 10) + 1) * 0x1p-45f, off = std::ldexp(1.0f, -12 - int(below(12)));
        return half_units * (below(2) ? 1 + off : 1 - off);
      }
      default: return probability();
    }
  }

  double factor() {
    switch (below(4)) {
      case 0: return 1.0;
      case 1: return std::ldexp(1.0, -int(below(50)));
      case 2: return std::ldexp(1 + unit(), -int(below(60)));
      default: return unit();
    }
  }

  // Makes the last factor such that the first element comes next to a half unit.
  void aim(Case& one) {
    double half_unit = (2.0 * double(below(int64_t(1) << (1 + below(40)))) + 1) * 0x1p-45;
    if (one.q.empty()) {
      one.p[0] = float(std::ldexp(1 + unit(), -int(below(30))));
      one.weight = std::fmin(half_unit / one.p[0], 1.0);
      return;
    }
    std::vector<float>& q = one.q.back();
    q[0] = float(std::ldexp(1 + unit(), -int(below(30))));
    one.p[0] = std::fmin(q[0] * float(0.1 + unit()), 1.9f);
    double before = one.weight * one.p[0];
    for (size_t j = 0; j + 1 < one.q.size(); j++) before = std::fmax(before - one.masses[j] * one.q[j][0], 0.0);
    if (before > half_unit) one.masses.back() = (before - half_unit) / q[0];
  }

 private:
  std::mt19937_64 random_;
};

Real real_of(double value) {
  int exponent;
  uint64_t digits = uint64_t(std::frexp(value, &exponent) * 0x1p53);
  return digits ? Real{digits, exponent - 53} : zero();
}

double left_of(const Case& one, int i) {
  volatile double left = one.weight * one.p[i];
  for (size_t j = 0; j < one.q.size(); j++) {
    volatile double taken = one.masses[j] * one.q[j][i];
    left = std::fmax(left - taken, 0.0);
  }
  return left;
}

Real exactly(const Case& one, int i) {
  auto real_at = [&](float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return real(bits);
  };
  Real left = multiply(real_of(one.weight), real_at(one.p[i]));
  for (size_t j = 0; j < one.q.size(); j++) left = take(left, multiply(real_of(one.masses[j]), real_at(one.q[j][i])));
  return left;
}

void check(const Case& one, int way, std::string& wrong, int64_t& doubtful) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  ResidualUnits units;
  pipe.InitBuffer(buffer, 2 * TILE * 4);
  units.Init(&pipe, TILE);
  LocalTensor<float> p = buffer.GetWithOffset<float>(TILE, 0), q = buffer.GetWithOffset<float>(TILE, TILE * 4);
  auto fill = [](const LocalTensor<float>& to, const std::vector<float>& from) {
    PipeBarrier<PIPE_ALL>();
    for (int i = 0; i < TILE; i++) to.SetValue(i, from[i]);
    wait<HardEvent::S_V>();
  };
  fill(p, one.p);
  if (way == 0) {
    units.Whole(p, TILE);
  } else if (way == 1) {
    fill(q, one.q[0]);
    units.Difference(p, q, TILE);
  } else {
    units.Begin(p, Factor(real_of(one.weight)), TILE);
    for (size_t j = 0; j < one.q.size(); j++) {
      fill(q, one.q[j]);
      units.Take(q, Factor(real_of(one.masses[j])));
    }
    units.End();
  }
  Units::Sum sum = units.sum();
  if (!sum.is_valid) wrong = "numbers that are probabilities are not taken for such";
  if (sum.is_doubtful) units.FindDoubtful();
  int64_t all = 0;
  for (int i = 0; i < TILE; i++) {
    int64_t wanted = std::llrint(left_of(one, i) * 0x1p44);
    all += wanted;
    if (sum.is_doubtful && (units.doubtful(i / 64) >> (i % 64) & 1)) {
      doubtful++;
      Real left = exactly(one, i);
      left.exponent += 44;
      sum.units += units.Set(i, nearest(left));
    }
    if (units.at(i) != wanted && wrong.empty()) {
      char text[200];
      double q = one.q.empty() ? 0.0 : one.q[0][i], mass = one.q.empty() ? 0.0 : one.masses.back();
      std::snprintf(text, sizeof text, "way %d, p %a, first q %a, last mass %a, weight %a: %lld units, not %lld", way,
                    one.p[i], q, mass, one.weight, (long long)units.at(i), (long long)wanted);
      wrong = text;
    }
  }
  units.Settle();
  if (sum.units != all && wrong.empty()) wrong = "a sum is wrong";
  int64_t at = all > 0 ? all / 3 : 0, before = 0;
  if (all > 0) {
    int found = units.find(at), wanted = 0;
    while (before + units.at(wanted) <= at) before += units.at(wanted++);
    if (found != wanted && wrong.empty()) wrong = "a unit is found in the wrong element";
  }
}

}  // namespace

// What goes wrong first, or an empty text; and how many elements were doubtful. `plain`: of distributions as they are.
extern "C" const char* check_residual(uint64_t seed, int count, int64_t* doubtful, bool plain) {
  static std::string wrong;
  wrong.clear();
  Draw draw(seed);
  for (int i = 0; i < count && wrong.empty(); i++) {
    Case one;
    int way = i % 3, num_rejected = way == 0 ? 0 : way == 1 ? 1 : int(draw.below(4));
    bool is_weighted = way == 2 && (num_rejected == 0 || draw.below(2));
    if (is_weighted) one.weight = plain ? draw.unit() : std::fmin(draw.factor(), 1.0);
    for (float& p : one.p) p = plain ? draw.of_a_distribution() : draw.probability();
    for (int j = 0; j < num_rejected; j++) {
      bool is_one = way == 1 || (j == 0 && (plain ? num_rejected > 1 : draw.below(2) == 1));
      one.masses.push_back(is_one ? 1.0 : plain ? draw.unit() : draw.factor());
      std::vector<float> q(TILE);
      for (int k = 0; k < TILE; k++)
        q[k] = plain ? draw.of_a_distribution() : std::fmin(draw.near(one.p[k]), 1.9999999f);
      one.q.push_back(q);
    }
    if (way == 2 && !plain) draw.aim(one);
    AscendC::emulator::launch("residual", 1, {}, [&] { check(one, way, wrong, *doubtful); });
  }
  return wrong.c_str();
}

}  // namespace pangu::ascend
