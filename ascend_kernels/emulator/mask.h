// Which elements a vector instruction touches: lanes and masks, block and repeat strides, and the walk over them in
// which every byte is checked. Instructions give a loop over contiguous elements; where they lie is decided here alone.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "float16.h"
#include "machine.h"
#include "tensor.h"

namespace AscendC {
namespace emulator {

constexpr int REPEAT = 256, MAX_PIECES = 128;

// What instructions leave for the scalar unit: the core's registers.
enum Register { EXTREME_VALUE, EXTREME_INDEX, SUM, MERGED };

struct Piece {
  int begin, count;  // lanes
};

// The lanes of each repeat that take part.
struct Lanes {
  int per_repeat;
  int64_t repeats;
  bool counted;  // the first `total` elements, whatever the repeats; otherwise the same bits in each repeat
  int64_t total;
  uint64_t bits[2];

  static Lanes first(int64_t count, int per_repeat) {
    return {per_repeat, (count + per_repeat - 1) / per_repeat, true, count, {0, 0}};
  }

  // Every lane up to the last one: nothing is left out in between.
  bool dense() const {
    if (counted) return true;
    const uint64_t low = per_repeat >= 64 ? FULL_MASK : (uint64_t{1} << per_repeat) - 1;
    return bits[0] == low && (per_repeat <= 64 || bits[1] == FULL_MASK);
  }
  int64_t elements() const { return counted ? total : repeats * per_repeat; }  // of dense lanes

  bool has(int64_t repeat, int lane) const {
    return counted ? repeat * per_repeat + lane < total : bits[lane / 64] >> lane % 64 & 1;
  }

  // The runs of lanes in one repeat, none of which crosses a multiple of `split`.
  int pieces(int64_t repeat, int split, Piece* out) const {
    int found = 0;
    const int end = counted ? static_cast<int>(std::min<int64_t>(per_repeat, total - repeat * per_repeat)) : per_repeat;
    for (int lane = 0; lane < end;) {
      if (!counted && !has(repeat, lane)) {
        ++lane;
        continue;
      }
      const int begin = lane, stop = std::min(end, begin / split * split + split);
      if (counted)
        lane = stop;
      else
        while (lane < stop && has(repeat, lane)) ++lane;
      out[found++] = {begin, lane - begin};
    }
    return found;
  }
};

inline void check_repeats(Instruction& instruction, int64_t repeats, int64_t most) {
  if (repeats < 0 || repeats > most)
    instruction.require(false, "repeatTime must be from 0 to " + std::to_string(most), std::to_string(repeats));
}

inline void put_low_bits(int64_t lanes, uint64_t bits[2]) {
  bits[0] = lanes >= 64 ? FULL_MASK : (uint64_t{1} << lanes) - 1;
  bits[1] = lanes <= 64 ? 0 : lanes >= 128 ? FULL_MASK : (uint64_t{1} << (lanes - 64)) - 1;
}

// From the mask register, in the mode that holds: Counter mode has the number of all elements in its low word.
inline Lanes register_lanes(Instruction& instruction, int64_t repeats, int per_repeat,
                            int64_t most = MAX_REPEAT_TIMES) {
  const Core& now = core();
  if (now.counter_mode) {
    if (now.mask[0] > UB_BYTES)
      instruction.require(false, "in Counter mode the mask must be a number of elements", std::to_string(now.mask[0]));
    return Lanes::first(static_cast<int64_t>(now.mask[0]), per_repeat);
  }
  check_repeats(instruction, repeats, most);
  Lanes lanes{per_repeat, repeats, false, 0, {now.mask[0], per_repeat > 64 ? now.mask[1] : 0}};
  if (per_repeat < 64) lanes.bits[0] &= (uint64_t{1} << per_repeat) - 1;
  if (!lanes.bits[0] && !lanes.bits[1]) {
    instruction.soft("rule", "the mask must choose a lane", "none");
    lanes.repeats = 0;
  }
  return lanes;
}

// A mask is a number, of the first lanes or in Counter mode of all elements, or an array of bits: two words for 128
// lanes, only the first for fewer.
template <class Mask>
concept AnyMask = std::is_integral_v<Mask> || std::is_convertible_v<Mask, const uint64_t*>;
template <class Mask>
concept WritableMask = std::is_integral_v<Mask> || std::is_convertible_v<Mask, uint64_t*>;  // as the API has it

inline void refuse_mask(const Instruction& instruction, uint64_t mask, int per_repeat) {
  const std::string rule = "mask must be from 1 to " + std::to_string(per_repeat);
  if (mask == 0) return instruction.soft("rule", rule, "0");  // documented so, but nothing is what hardware does
  instruction.require(false, rule, std::to_string(static_cast<int64_t>(mask)));
}

template <bool isSetMask, AnyMask Mask>
Lanes mask_lanes(Instruction& instruction, Mask mask, int64_t repeats, int per_repeat,
                 int64_t most = MAX_REPEAT_TIMES) {
  Core& now = core();
  if constexpr (isSetMask && std::is_integral_v<Mask>) {
    const auto number = static_cast<uint64_t>(mask);
    if (now.counter_mode) {
      now.mask[0] = number, now.mask[1] = 0;
    } else {
      if (number < 1 || number > static_cast<uint64_t>(per_repeat)) refuse_mask(instruction, number, per_repeat);
      put_low_bits(static_cast<int64_t>(number), now.mask);
    }
  } else if constexpr (isSetMask) {
    now.mask[0] = mask[0], now.mask[1] = per_repeat > 64 && !now.counter_mode ? mask[1] : 0;
  }
  return register_lanes(instruction, repeats, per_repeat, most);
}

// The first elements, as Counter mode does it; afterwards the mode is Normal and the mask is all ones.
template <bool isSetMask = true>
Lanes count_lanes(Instruction& instruction, int64_t count, int per_repeat) {
  Core& now = core();
  if constexpr (isSetMask) {
    if (count < 0) instruction.require(false, "count must not be negative", std::to_string(count));
    now.counter_mode = false, now.mask[0] = now.mask[1] = FULL_MASK;
    return Lanes::first(count, per_repeat);
  }
  instruction.require(now.counter_mode, "without a mask of its own a count needs Counter mode", "Normal mode");
  return register_lanes(instruction, 1, per_repeat);
}

// A tensor as bytes, with the distance between its blocks in a repeat and between repeats, in blocks of 32 bytes.
struct Operand {
  LocalTensor<uint8_t> bytes;
  const char* name;
  int size;  // of an element
  int64_t block, repeat;
  bool may_shrink = false;  // a source whose narrower results may lie over its own beginning

  int64_t address() const { return bytes.place().address; }
  int64_t offset(int64_t repeat_index, int lane) const {
    const int64_t byte = int64_t{lane} * size;
    return (repeat_index * repeat + byte / BLOCK * block) * BLOCK + byte % BLOCK;
  }
};

template <class T>
Operand operand(const LocalTensor<T>& tensor, const char* name, int64_t block, int64_t repeat) {
  return {tensor.template ReinterpretCast<uint8_t>(), name, sizeof(T), block, repeat};
}

// Without gaps, `lanes` elements to a repeat.
template <class T>
Operand contiguous(const LocalTensor<T>& tensor, const char* name, int lanes) {
  return operand(tensor, name, 1, static_cast<int64_t>(lanes) * sizeof(T) / BLOCK);
}

// What an instruction does with `count` contiguous elements; `first` is the number of the first of them.
using Loop = void (*)(uint8_t* dst, const uint8_t* const* src, const void* scalar, int64_t first, int64_t count);

constexpr int MAX_SOURCES = 3;

struct Walk {
  Instruction& instruction;
  const Lanes& lanes;
  const Operand& dst;
  const Operand* src;
  int sources;

  // Which of the ways in which the destination may lie over a source holds: not at all, exactly, or else.
  enum Overlap { APART, SAME, TANGLED };
  Overlap whole_overlap(const Operand& source) const {
    const int64_t a = dst.address(), b = source.address();
    const int64_t n = lanes.elements();
    if (a + n * dst.size <= b || b + n * source.size <= a) return APART;
    return a == b && dst.size == source.size ? SAME : TANGLED;
  }

  bool contiguous() const {
    const auto is = [&](const Operand& operand) {
      return operand.block == 1 &&
             (lanes.repeats <= 1 || operand.repeat * BLOCK == int64_t{lanes.per_repeat} * operand.size);
    };
    if (!lanes.dense() || !is(dst)) return false;
    for (int k = 0; k < sources; ++k)
      if (!is(src[k]) || whole_overlap(src[k]) == TANGLED) return false;
    return true;
  }

  void check() const {
    instruction.align(dst.bytes, BLOCK, dst.name);
    for (int k = 0; k < sources; ++k) instruction.align(src[k].bytes, BLOCK, src[k].name);
    if (dst.block == 0) {
      Piece pieces[MAX_PIECES];
      const int found = lanes.repeats > 0 ? lanes.pieces(0, lanes.per_repeat, pieces) : 0;
      const bool one_block =
          found == 0 || uint32_t(pieces[found - 1].begin + pieces[found - 1].count) * dst.size <= BLOCK;
      instruction.require(one_block, "a destination of more than one block must not have block stride 0", "0");
    }
  }

  // Inside a repeat the destination lies exactly over a source or apart from it.
  void check_overlap(int64_t repeat, const Piece* pieces, int found, const Operand& source) const {
    const int64_t a = dst.address(), b = source.address();
    if (dst.size == source.size && dst.block == source.block &&
        a + repeat * dst.repeat * BLOCK == b + repeat * source.repeat * BLOCK)
      return;
    const auto at = [&](const Operand& operand, const Piece& piece) {
      return operand.address() + operand.offset(repeat, piece.begin);
    };
    const auto end = [&](const Operand& operand, const Piece& piece) {
      return at(operand, piece) + piece.count * operand.size;
    };
    const Piece &low = pieces[0], &high = pieces[found - 1];
    if (end(dst, high) <= at(source, low) || end(source, high) <= at(dst, low)) return;
    if (source.may_shrink && dst.size < source.size && a == b) return;
    for (int i = 0; i < found; ++i)
      for (int j = 0; j < found; ++j) {
        if (end(dst, pieces[i]) <= at(source, pieces[j]) || end(source, pieces[j]) <= at(dst, pieces[i])) continue;
        if (i == j && dst.size == source.size && at(dst, pieces[i]) == at(source, pieces[j])) continue;
        instruction.require(
            false, "within a repeat dst must lie exactly over " + std::string(source.name) + " or apart from it",
            "a part of it");
      }
  }

  void run(Loop loop, const void* scalar) const {
    if (lanes.repeats == 0) return;
    check();
    const uint8_t* from[MAX_SOURCES] = {};
    if (contiguous()) {
      const int64_t count = lanes.elements();
      instruction.repeat(lanes.repeats);
      for (int k = 0; k < sources; ++k) from[k] = instruction.read(src[k].bytes, 0, count * src[k].size);
      loop(instruction.write(dst.bytes, 0, count * dst.size), from, scalar, 0, count);
      return;
    }
    int widest = dst.size;
    bool gaps = dst.block != 1;
    for (int k = 0; k < sources; ++k) widest = std::max(widest, src[k].size), gaps |= src[k].block != 1;
    Piece pieces[MAX_PIECES];
    const uint8_t* reads[MAX_SOURCES][MAX_PIECES];
    int found = 0;
    for (int64_t repeat = 0; repeat < lanes.repeats; ++repeat) {
      instruction.repeat(1);
      if (repeat == 0 || lanes.counted)
        found = lanes.pieces(repeat, gaps ? int(BLOCK) / widest : lanes.per_repeat, pieces);
      for (int k = 0; k < sources; ++k) {
        check_overlap(repeat, pieces, found, src[k]);
        for (int i = 0; i < found; ++i)
          reads[k][i] =
              instruction.read(src[k].bytes, src[k].offset(repeat, pieces[i].begin), pieces[i].count * src[k].size);
      }
      for (int i = 0; i < found; ++i) {
        const Piece& piece = pieces[i];
        uint8_t* to = instruction.write(dst.bytes, dst.offset(repeat, piece.begin), piece.count * dst.size);
        for (int k = 0; k < sources; ++k) from[k] = reads[k][i];
        loop(to, from, scalar, repeat * lanes.per_repeat + piece.begin, piece.count);
      }
    }
  }
};

// The elements of one repeat side by side; what the mask leaves out is not present.
template <class T>
struct Gathered {
  T values[REPEAT / sizeof(T)];
  bool present[REPEAT / sizeof(T)];
};

template <class T>
void gather(Instruction& instruction, const Lanes& lanes, const Operand& src, int64_t repeat, Gathered<T>& out) {
  Piece pieces[MAX_PIECES];
  const int found = lanes.pieces(repeat, src.block == 1 ? lanes.per_repeat : int(BLOCK) / src.size, pieces);
  std::fill_n(out.present, REPEAT / sizeof(T), false);
  for (int i = 0; i < found; ++i) {
    const Piece& piece = pieces[i];
    std::memcpy(out.values + piece.begin,
                instruction.read(src.bytes, src.offset(repeat, piece.begin), piece.count * src.size),
                piece.count * sizeof(T));
    std::fill_n(out.present + piece.begin, piece.count, true);
  }
}

// Neither lies over the other; `bytes` of each from its start.
inline void check_apart(Instruction& instruction, const char* rule, int64_t a, int64_t a_bytes, int64_t b,
                        int64_t b_bytes) {
  if (a < b + b_bytes && b < a + a_bytes) instruction.require(false, rule, "an overlap");
}

}  // namespace emulator
}  // namespace AscendC
