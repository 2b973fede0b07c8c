// What the single instructions of instructions.cpp are given, and how they are named and called in each of their forms.
#pragma once

#include <map>
#include <string>

#include "kernel_operator.h"

using namespace AscendC;

namespace {

// The last two: the mask that SetVectorMask left, and a mask given in Counter mode.
enum Form { COUNT, MASK, BITS, COUNTER, REPEAT_MASK, COUNTED_MASK };

struct Scene {
  LocalTensor<uint8_t> bytes[5];  // in0, in1, in2, out, work
  const int64_t* numbers;         // form, count or mask, repeats, two words of a mask, six strides, more
  const double* scalars;
  uint64_t mask[2];

  template <class T>
  LocalTensor<T> in(int i) const {
    return bytes[i].ReinterpretCast<T>();
  }
  template <class T>
  LocalTensor<T> out() const {
    return in<T>(3);
  }
  template <class T>
  LocalTensor<T> work() const {
    return in<T>(4);
  }
  Form form() const { return Form(numbers[0]); }
  int32_t count() const { return int32_t(numbers[1]); }
  int64_t repeats() const { return numbers[2]; }
  int64_t more(int i) const { return numbers[11 + i]; }
  template <class T>
  T scalar(int i = 0) const {
    return static_cast<T>(scalars[i]);
  }
  BinaryRepeatParams binary() const {
    const int64_t* s = numbers + 5;
    return BinaryRepeatParams(s[0], s[1], s[2], s[3], s[4], s[5]);
  }
  UnaryRepeatParams unary() const {
    const int64_t* s = numbers + 5;
    return UnaryRepeatParams(s[0], s[1], s[3], s[4]);
  }
};

using Case = void (*)(Scene&);
std::map<std::string, Case>& cases() {
  static std::map<std::string, Case> all;
  return all;
}
struct AddCase {
  AddCase(const std::string& name, Case one) { cases()[name] = one; }
};

// Calls f(mask, repeats, rest...) in the form that the scene asks for, and f(count) in the form with a count.
template <class T, class Masked, class Unset, class Counted>
void each_form(Scene& x, Masked masked, Unset unset, Counted counted) {
  switch (x.form()) {
    case COUNT:
      return counted(x.count());
    case MASK:
      return masked(uint64_t(x.count()), x.repeats());
    case BITS:
      return masked(x.mask, x.repeats());
    case COUNTER:
      SetMaskCount();
      SetVectorMask<T, MaskMode::COUNTER>(0, uint64_t(x.count()));
      unset(MASK_PLACEHOLDER, 1);
      ResetMask();
      return SetMaskNorm();
    case COUNTED_MASK:
      SetMaskCount();
      masked(uint64_t(x.count()), 1);
      return SetMaskNorm();
    case REPEAT_MASK:
      SetVectorMask<T>(x.mask[1], x.mask[0]);
      unset(MASK_PLACEHOLDER, x.repeats());
      return ResetMask();
  }
}

#define NAMED(id, text, ...) const AddCase id(text, [](Scene& x) { __VA_ARGS__ })
#define CASE(name, ...) NAMED(case_##name, #name, __VA_ARGS__)
#define FORMS(Name, T, params, ...)                                                         \
  each_form<T>(                                                                             \
      x, [&](auto mask, auto repeats) { Name(__VA_ARGS__, mask, repeats, params); },        \
      [&](auto mask, auto repeats) { Name<T, false>(__VA_ARGS__, mask, repeats, params); }, \
      [&](int32_t count) { Name(__VA_ARGS__, count); })
#define UNARY(Name, T) NAMED(case_##Name##_##T, #Name "." #T, FORMS(Name, T, x.unary(), x.out<T>(), x.in<T>(0));)
#define BINARY(Name, T) \
  NAMED(case_##Name##_##T, #Name "." #T, FORMS(Name, T, x.binary(), x.out<T>(), x.in<T>(0), x.in<T>(1));)
#define SCALAR(Name, T) \
  NAMED(case_##Name##_##T, #Name "." #T, FORMS(Name, T, x.unary(), x.out<T>(), x.in<T>(0), x.scalar<T>());)
#define FLOATS(KIND, Name) \
  KIND(Name, half);        \
  KIND(Name, float)
#define NUMBERS(KIND, Name) \
  FLOATS(KIND, Name);       \
  KIND(Name, int16_t);      \
  KIND(Name, int32_t)
#define WORDS(KIND, Name) \
  KIND(Name, int16_t);    \
  KIND(Name, uint16_t)

}  // namespace
