// The arithmetic of kernel/real.h against the host's float64, bit for bit.
#include "kernel/real.h"

#include <cmath>
#include <cstring>
#include <random>
#include <string>

namespace pangu::ascend {
namespace {

Real real_of(double value) {
  uint64_t bits;
  memcpy(&bits, &value, 8);
  uint64_t exponent = bits >> 52 & 0x7ff, digits = bits & ((uint64_t(1) << 52) - 1);
  return exponent ? Real{digits | uint64_t(1) << 52, int(exponent) - 1075} : Real{digits, LOWEST_EXPONENT};
}

bool is(const Real& a, double b) {
  Real wanted = real_of(b);
  return a.digits == wanted.digits && a.exponent == wanted.exponent;
}

}  // namespace

// What goes wrong first, or an empty text.
extern "C" const char* check_real(uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  auto below = [&](int n) { return int(random() % n); };
  auto number = [&] {  // of few digits and of many, of sizes beside each other and down to the smallest
    switch (below(5)) {
      case 0: return 0.0;
      case 1: return std::ldexp(double(random() >> 11), -53 - below(40));
      case 2: return std::ldexp(double(random() >> 11), -below(1080));
      case 3: return std::ldexp(double(1 + below(1024)), -below(60));
    }
    uint64_t digits = (random() >> 11 | uint64_t(1) << 52) & -(uint64_t(1) << below(50));
    return std::ldexp(double(digits), -52 - below(30));
  };
  for (int i = 0; i < count; i++) {
    double a = number(), b = number();
    Real x = real_of(a), y = real_of(b);
    if (!is(add(x, y), a + b)) return "add";
    if (!is(take(x, y), std::fmax(a - b, 0.0))) return "take";
    if (!is(multiply(x, y), a * b)) return "multiply";
    if (b > 0 && a / b < 1e300 && !is(divide(x, y), a / b)) return "divide";
    if (less(x, y) != (a < b)) return "less";
    x.exponent += 10;
    if (a < 0x1p50 && nearest(x) != std::llrint(a * 0x1p10)) return "nearest";
    if (a < 0x1p50 && whole_part(x) != int64_t(a * 0x1p10)) return "whole_part";
    uint32_t bits = uint32_t(random()) % 0x7f800000 >> (below(4) ? 0 : 9);
    float value;
    memcpy(&value, &bits, 4);
    if (!is(real(bits), value)) return "real";
    uint64_t integer = random() >> (1 + below(63));
    if (!is(rounded(integer, 0), double(int64_t(integer)))) return "rounded";
  }
  return "";
}

}  // namespace pangu::ascend
