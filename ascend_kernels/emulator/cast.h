// Cast: which pairs of types and which round modes a chip has, and what they do. The lanes of a repeat follow the wider
// type.
#pragma once

#include "elementwise.h"
#include "round.h"

namespace AscendC {
namespace emulator {

// ---- the modes of each pair, a bit each; none: the chip has no such conversion ----
constexpr uint32_t mode_bit(RoundMode mode) { return 1u << static_cast<int>(mode); }
constexpr uint32_t NONE = mode_bit(RoundMode::CAST_NONE), RINT = mode_bit(RoundMode::CAST_RINT),
                   ODD = mode_bit(RoundMode::CAST_ODD),
                   DIRECTED = mode_bit(RoundMode::CAST_FLOOR) | mode_bit(RoundMode::CAST_CEIL) |
                              mode_bit(RoundMode::CAST_ROUND) | mode_bit(RoundMode::CAST_TRUNC),
                   ANY = ~0u;  // no mode has an effect

template <class To, class From>
constexpr uint32_t cast_modes() {
  constexpr auto is = []<class T, class F>(T*, F*) { return std::is_same_v<To, T> && std::is_same_v<From, F>; };
  constexpr half* f16 = nullptr;
  constexpr float* f32 = nullptr;
  constexpr bfloat16_t* bf16 = nullptr;
  constexpr int8_t* i8 = nullptr;
  constexpr uint8_t* u8 = nullptr;
  constexpr int16_t* i16 = nullptr;
  constexpr int32_t* i32 = nullptr;
  constexpr int64_t* i64 = nullptr;
  if (is(f16, i8) || is(f16, u8) || is(f32, f16) || is(i16, i32)) return NONE;
  if (is(i32, f16) || is(i64, f32)) return RINT | DIRECTED;
  if (is(f16, i32)) return ANY;
  if (is_910b) {
    if (is(f16, i16) || is(i8, f16) || is(u8, f16) || is(f32, i32)) return RINT | DIRECTED | NONE;
    if (is(f32, i16) || is(f32, bf16) || is(i64, i32) || is(i32, i64)) return NONE;
    if (is(i16, f16) || is(i32, bf16) || is(i16, f32) || is(bf16, f32) || is(i32, f32) || is(f32, f32) || is(f32, i64))
      return RINT | DIRECTED;
    if (is(f16, f32)) return RINT | DIRECTED | ODD | NONE;
  } else {
    if (is(f16, i16) || is(f32, i32)) return NONE;
    if (is(i8, f16) || is(u8, f16)) return DIRECTED | NONE;
    if (is(i16, f16)) return RINT;
    if (is(f16, f32)) return ODD | NONE;
  }
  return 0;
}

// ---- one element ----
template <class To, class From>
inline To convert(From value, RoundMode mode) {
  if constexpr (one_of<From, half, bfloat16_t>) {
    float wide;
    if constexpr (one_of<From, half>)
      wide = widen(value);
    else
      wide = static_cast<float>(value);
    if constexpr (one_of<To, float>)
      return wide;
    else
      return convert<To, float>(wide, mode);
  } else if constexpr (one_of<From, float>) {
    if constexpr (one_of<To, half>)
      return bits_of<half>(round_half(value, mode));
    else if constexpr (one_of<To, bfloat16_t>)
      return round_bfloat16(value, mode);
    else if constexpr (one_of<To, float>)
      return round_to_integral(value, mode);
    else
      return saturate<To>(round_to_integral(value, mode));
  } else if constexpr (one_of<To, half>) {
    return narrow<half>(round_integer(value, mode, 11));
  } else if constexpr (one_of<To, float>) {
    return round_integer(value, mode, 24);
  } else {
    return saturate<To>(static_cast<int64_t>(value));
  }
}

template <class To, class From>
void cast_loop(uint8_t* dst, const uint8_t* const* src, const void* scalar, int64_t, int64_t count) {
  const auto mode = *static_cast<const RoundMode*>(scalar);
  const auto loop = [&](auto as) {
    in_chunks(count, [&](int64_t done, auto n) {
      To out[CHUNK];
      const From* a = at<From>(src[0], done);
      for (int i = 0; i < n; ++i) out[i] = convert<To>(a[i], as());
      put(dst, done, out, n);
    });
  };
  if (mode == RoundMode::CAST_RINT || mode == RoundMode::CAST_NONE)
    loop([] { return RoundMode::CAST_RINT; });  // known beforehand: these become vector code
  else
    loop([&] { return mode; });
}

inline void scaled_loop(uint8_t* dst, const uint8_t* const* src, const void* scalar, int64_t, int64_t count) {
  const float scale = widen(*static_cast<const half*>(scalar));
  in_chunks(count, [&](int64_t done, auto n) {
    half out[CHUNK];
    const int32_t* a = at<int32_t>(src[0], done);
    for (int i = 0; i < n; ++i) out[i] = narrow<half>(static_cast<float>(a[i]) * scale);
    put(dst, done, out, n);
  });
}

template <class To, class From>
constexpr int cast_lanes = REPEAT / static_cast<int>(std::max(sizeof(To), sizeof(From)));

template <class To, class From>
void cast(Instruction& instruction, const Lanes& lanes, RoundMode mode, const Operand& dst, Operand src) {
  constexpr uint32_t modes = cast_modes<To, From>();
  static_assert(modes != 0, "Cast has no such pair of types on this chip");
  static const char* const names[] = {"NONE", "RINT", "FLOOR", "CEIL", "ROUND", "TRUNC", "ODD"};
  if (mode > RoundMode::CAST_ODD || !(modes & mode_bit(mode))) {
    std::string known;
    for (int i = 0; i < 7; ++i)
      if (modes >> i & 1) known += (known.empty() ? "CAST_" : ", CAST_") + std::string(names[i]);
    instruction.require(false, "the round mode for these types must be one of " + known,
                        mode > RoundMode::CAST_ODD ? "another" : "CAST_" + std::string(names[static_cast<int>(mode)]));
  }
  src.may_shrink = sizeof(To) < sizeof(From);
  if constexpr (one_of<To, half> && one_of<From, int32_t>) {
    const half scale = bits_of<half>(static_cast<uint16_t>(core().deq_scale));
    instruction.require(core().deq_scale != 0, "int32 to half must come after SetDeqScale(half)", "none");
    run(instruction, lanes, scaled_loop, &scale, dst, {src});
  } else {
    run(instruction, lanes, cast_loop<To, From>, &mode, dst, {src});
  }
}

}  // namespace emulator

template <class T, class U, bool isSetMask = true, emulator::AnyMask Mask>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& roundMode, Mask mask,
          const int64_t repeatTime, const UnaryRepeatParams& repeatParams) {
  using namespace emulator;
  Instruction instruction("Cast", Pipe::V);
  const Lanes lanes = mask_lanes<isSetMask>(instruction, mask, repeatTime, cast_lanes<T, U>);
  cast<T, U>(instruction, lanes, roundMode, operand(dst, "dst", repeatParams.dstBlkStride, repeatParams.dstRepStride),
             operand(src, "src", repeatParams.srcBlkStride, repeatParams.srcRepStride));
}
template <class T, class U>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& roundMode, const uint32_t count) {
  using namespace emulator;
  Instruction instruction("Cast", Pipe::V);
  const Lanes lanes = count_lanes(instruction, count, cast_lanes<T, U>);
  cast<T, U>(instruction, lanes, roundMode, contiguous(dst, "dst", cast_lanes<T, U>),
             contiguous(src, "src", cast_lanes<T, U>));
}

// What Cast from int32 to half multiplies by.
inline void SetDeqScale(half scale) { emulator::core().deq_scale = emulator::bits_of<uint16_t>(scale); }

// ---- of the scalar unit ----
inline float ToFloat(const bfloat16_t& value) { return static_cast<float>(value); }
inline bfloat16_t ToBfloat16(const float& value) { return bfloat16_t(value); }
inline float Cast(const bfloat16_t& value) { return static_cast<float>(value); }
inline bfloat16_t Cast(const float& value) { return bfloat16_t(value); }

template <class T, class U, RoundMode roundMode>
U ScalarCast(T value) {
  static_assert(emulator::one_of<T, float> && emulator::one_of<U, half, int32_t>, "from float to half or int32");
  return emulator::convert<U>(value, roundMode);
}

}  // namespace AscendC
