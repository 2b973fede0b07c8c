// What the elementwise instructions do to one element of type T. It comes as the type W in which T is computed: half as
// float; the caller rounds the result.
#pragma once

#include <cmath>

#include "float16.h"

namespace AscendC::emulator {

// Integers wrap around.
template <class T, class F>
T wrapped(F f, T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(f(static_cast<uint32_t>(a), static_cast<uint32_t>(b)));
  else
    return f(a, b);
}

template <class T>
bool is_nan(T a) {
  return a != a;
}

// A relative error like that of a table with a few bits: the same for the same operand, up to 1e-4 for float and 2e-3
// for half, so that a kernel which needs better fails here too.
template <class T>
float rough(float exact, float operand) {
  const uint32_t hash = bits_of<uint32_t>(operand) * 0x9e3779b1u >> 16;  // 16 bits
  const float error =
      (static_cast<float>(hash & 0x7fff) + 0x8000) * (std::is_same_v<T, half> ? 2e-3f : 1e-4f) / 0x10000;
  return exact * (hash & 0x8000 ? 1 + error : 1 - error);
}

struct OpAdd {
  template <class T, class W>
  static W of(W a, W b) {
    return wrapped<W>([](auto x, auto y) { return x + y; }, a, b);
  }
};
struct OpSub {
  template <class T, class W>
  static W of(W a, W b) {
    return wrapped<W>([](auto x, auto y) { return x - y; }, a, b);
  }
};
struct OpMul {
  template <class T, class W>
  static W of(W a, W b) {
    return wrapped<W>([](auto x, auto y) { return x * y; }, a, b);
  }
};
struct OpDiv {
  template <class T, class W>
  static W of(W a, W b) {
    return a / b;
  }
};
struct OpMax {  // NaN wins
  template <class T, class W>
  static W of(W a, W b) {
    return a > b || is_nan(a) ? a : b;
  }
};
struct OpMin {
  template <class T, class W>
  static W of(W a, W b) {
    return a < b || is_nan(a) ? a : b;
  }
};
struct OpAnd {
  template <class T, class W>
  static W of(W a, W b) {
    return a & b;
  }
};
struct OpOr {
  template <class T, class W>
  static W of(W a, W b) {
    return a | b;
  }
};
struct OpRelu {
  template <class T, class W>
  static W of(W a) {
    return a > 0 || is_nan(a) ? a : W(0);
  }
};
struct OpAddRelu {
  template <class T, class W>
  static W of(W a, W b) {
    return OpRelu::of<T>(widen(narrow<T>(OpAdd::of<T>(a, b))));
  }
};
struct OpSubRelu {
  template <class T, class W>
  static W of(W a, W b) {
    return OpRelu::of<T>(widen(narrow<T>(OpSub::of<T>(a, b))));
  }
};
struct OpExp {
  template <class T>
  static float of(float a) {
    return std::exp(a);
  }
};
struct OpLn {
  template <class T>
  static float of(float a) {
    return std::log(a);
  }
};
struct OpAbs {
  template <class T>
  static float of(float a) {
    return std::fabs(a);
  }
};
struct OpSqrt {
  template <class T>
  static float of(float a) {
    return std::sqrt(a);
  }
};
struct OpRsqrt {
  template <class T>
  static float of(float a) {
    return rough<T>(1 / std::sqrt(a), a);
  }
};
struct OpReciprocal {
  template <class T>
  static float of(float a) {
    return rough<T>(1 / a, a);
  }
};
struct OpNot {
  template <class T, class W>
  static W of(W a) {
    return static_cast<W>(~a);
  }
};
using OpAdds = OpAdd;
using OpMuls = OpMul;
using OpMaxs = OpMax;
using OpMins = OpMin;
struct OpLeakyRelu {
  template <class T, class W>
  static W of(W a, W slope) {
    return a < 0 ? a * slope : a;
  }
};
struct OpShiftLeft {
  template <class T, class W>
  static W of(W a, W by) {
    return static_cast<W>(static_cast<uint64_t>(a) << by);
  }
};
struct OpShiftRight {  // arithmetic where T is signed
  template <class T, class W>
  static W of(W a, W by) {
    return static_cast<W>(static_cast<int64_t>(a) >> by);
  }
};
struct OpShiftRightRound {
  template <class T, class W>
  static W of(W a, W by) {
    return static_cast<W>(by == 0 ? a : (static_cast<int64_t>(a) >> by) + (static_cast<int64_t>(a) >> (by - 1) & 1));
  }
};
struct OpMulAddDst {
  template <class T, class W>
  static W of(W a, W b, W dst) {
    return a * b + dst;
  }
};
struct OpFusedMulAdd {
  template <class T, class W>
  static W of(W a, W b, W dst) {
    return a * dst + b;
  }
};
struct OpMulAddRelu {
  template <class T, class W>
  static W of(W a, W b, W dst) {
    return OpRelu::of<T>(widen(narrow<T>(a * dst + b)));
  }
};
using OpFusedMulAddRelu = OpMulAddRelu;

}  // namespace AscendC::emulator
