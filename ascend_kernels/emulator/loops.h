// The loops of the elementwise instructions over contiguous elements, in the form that the walk over lanes calls.
// Results are gathered in a small array first: the compiler need not ask whether the destination lies over a source.
#pragma once

#include <cstring>
#include <type_traits>

#include "float16.h"

namespace AscendC::emulator {

// Whole chunks have a fixed length: of such loops compilers make vector code at any level of optimisation.
constexpr int CHUNK = 64;

template <class F>
inline void in_chunks(int64_t count, F f) {
  int64_t done = 0;
  for (; done + CHUNK <= count; done += CHUNK) f(done, std::integral_constant<int, CHUNK>{});
  if (done < count) f(done, static_cast<int>(count - done));
}

template <class T>
inline void put(uint8_t* dst, int64_t at, const T* values, int count) {
  std::memcpy(dst + at * static_cast<int64_t>(sizeof(T)), values, count * sizeof(T));
}

template <class T>
inline const T* at(const uint8_t* src, int64_t index) {
  return reinterpret_cast<const T*>(src) + index;
}

template <class Op, class T>
void unary_loop(uint8_t* dst, const uint8_t* const* src, const void*, int64_t, int64_t count) {
  in_chunks(count, [&](int64_t done, auto n) {
    T out[CHUNK];
    const T* a = at<T>(src[0], done);
    for (int i = 0; i < n; ++i) out[i] = narrow<T>(Op::template of<T>(widen(a[i])));
    put(dst, done, out, n);
  });
}

template <class Op, class T>
void binary_loop(uint8_t* dst, const uint8_t* const* src, const void*, int64_t, int64_t count) {
  in_chunks(count, [&](int64_t done, auto n) {
    T out[CHUNK];
    const T *a = at<T>(src[0], done), *b = at<T>(src[1], done);
    for (int i = 0; i < n; ++i) out[i] = narrow<T>(Op::template of<T>(widen(a[i]), widen(b[i])));
    put(dst, done, out, n);
  });
}

template <class Op, class T>
void scalar_loop(uint8_t* dst, const uint8_t* const* src, const void* scalar, int64_t, int64_t count) {
  const Wide<T> b = widen(*static_cast<const T*>(scalar));
  in_chunks(count, [&](int64_t done, auto n) {
    T out[CHUNK];
    const T* a = at<T>(src[0], done);
    for (int i = 0; i < n; ++i) out[i] = narrow<T>(Op::template of<T>(widen(a[i]), b));
    put(dst, done, out, n);
  });
}

// Two sources of type U and the destination's own value. `a` may be a scalar.
template <class Op, class T, class U, bool scalar_b>
void accumulate_loop(uint8_t* dst, const uint8_t* const* src, const void* scalar, int64_t, int64_t count) {
  in_chunks(count, [&](int64_t done, auto n) {
    T out[CHUNK];
    const T* own = at<T>(src[0], done);
    const U *a = at<U>(src[1], done), *b = scalar_b ? nullptr : at<U>(src[2], done);
    const Wide<U> fixed = scalar_b ? widen(*static_cast<const U*>(scalar)) : Wide<U>{};
    for (int i = 0; i < n; ++i)
      out[i] =
          narrow<T>(Op::template of<T>(Wide<T>(widen(a[i])), Wide<T>(scalar_b ? fixed : widen(b[i])), widen(own[i])));
    put(dst, done, out, n);
  });
}

template <class T>
void fill_loop(uint8_t* dst, const uint8_t* const*, const void* scalar, int64_t, int64_t count) {
  const T value = *static_cast<const T*>(scalar);
  in_chunks(count, [&](int64_t done, auto n) {
    T out[CHUNK];
    for (int i = 0; i < n; ++i) out[i] = value;
    put(dst, done, out, n);
  });
}

template <class T>
struct Progression {
  T first, step;
};

template <class T>
void progression_loop(uint8_t* dst, const uint8_t* const*, const void* scalar, int64_t first, int64_t count) {
  const auto& line = *static_cast<const Progression<T>*>(scalar);
  in_chunks(count, [&](int64_t done, auto n) {
    T out[CHUNK];
    for (int i = 0; i < n; ++i)
      out[i] = narrow<T>(
          static_cast<Wide<T>>(widen(line.first) + widen(line.step) * static_cast<Wide<T>>(first + done + i)));
    put(dst, done, out, n);
  });
}

}  // namespace AscendC::emulator
