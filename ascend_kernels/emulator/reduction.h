// What reductions do: of all elements, of each repeat, of each block of 32 bytes, of each pair. Sums are binary trees
// over neighbours, each step rounded in its own type; an index is an integer in the bits of a value.
#pragma once

#include "elementwise.h"

namespace AscendC {
namespace emulator {

template <class T>
void store(Instruction& instruction, const LocalTensor<T>& dst, int64_t byte, const T* values, int count) {
  std::memcpy(instruction.write(dst, byte, count * sizeof(T)), values, count * sizeof(T));
}

// ((v0 + v1) + (v2 + v3)) + ...; `count` is a power of two.
template <class T>
T tree_sum(Wide<T>* values, int count) {
  for (; count > 1; count /= 2)
    for (int i = 0; i < count / 2; ++i) values[i] = widen(narrow<T>(values[2 * i] + values[2 * i + 1]));
  return narrow<T>(values[0]);
}

template <class T>
T tree_sum(const T* values, const bool* present, int count) {
  Wide<T> wide[lanes_of<T>];
  for (int i = 0; i < count; ++i) wide[i] = present[i] ? widen(values[i]) : Wide<T>(0);
  return tree_sum<T>(wide, count);
}

// Repeat after repeat of `count` values, until one is left.
template <class T>
T tree_of_trees(std::vector<T> values) {
  constexpr size_t lanes = lanes_of<T>;
  while (values.size() > 1) {
    std::vector<T> next;
    for (size_t begin = 0; begin < values.size(); begin += lanes) {
      Wide<T> wide[lanes] = {};
      for (size_t i = begin; i < std::min(values.size(), begin + lanes); ++i) wide[i - begin] = widen(values[i]);
      next.push_back(tree_sum<T>(wide, lanes));
    }
    values = std::move(next);
  }
  return values[0];
}

// The first of the largest or smallest; NaN goes before all numbers.
template <class T>
struct Extreme {
  bool largest;
  int64_t index = -1;
  Wide<T> value{};

  void add(T candidate, int64_t at) {
    const Wide<T> x = widen(candidate);
    if (index < 0 || (largest ? x > value : x < value) || (x != x && value == value)) value = x, index = at;
  }
  T best() const { return narrow<T>(value); }
  // As an integer of the value's size.
  T index_bits() const {
    if constexpr (sizeof(T) == 2)
      return bits_of<T>(static_cast<uint16_t>(index));
    else
      return bits_of<T>(static_cast<uint32_t>(index));
  }
};

// For GetReduceMaxMinCount and GetAccVal.
template <class T>
void remember(Register which, T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  core().registers[which] = bits;
}
template <class T>
T remembered(Register which) {
  T value;
  std::memcpy(&value, &core().registers[which], sizeof(T));
  return value;
}

inline void check_workspace(Instruction& instruction, int64_t have, int64_t need) {
  if (have < need)
    instruction.require(false, "sharedTmpBuffer must have " + std::to_string(need) + " bytes", std::to_string(have));
}

template <class T>
int64_t room(const LocalTensor<T>& tensor) {
  return int64_t{tensor.place().end} - tensor.place().address;
}

// ---- of all elements ----
// In order: the sums of repeats are added one after the other, and no workspace is used. Else they are a tree as well.
template <class T>
void reduce_sum(Instruction& instruction, const Lanes& lanes, bool in_order, const LocalTensor<T>& dst,
                const Operand& src, const LocalTensor<T>& workspace, int64_t first_repeats) {
  check_type<T>(Floats{});
  if (lanes.repeats == 0) return;
  instruction.align(src.bytes, BLOCK, "src");
  instruction.align(dst, sizeof(T), "dst");
  std::vector<T> sums;
  Gathered<T> source;
  for (int64_t repeat = 0; repeat < lanes.repeats; ++repeat) {
    instruction.repeat();
    gather(instruction, lanes, src, repeat, source);
    sums.push_back(tree_sum(source.values, source.present, lanes_of<T>));
  }
  instruction.repeat(0);  // the workspace may lie over the source
  T result = sums[0];
  if (in_order) {
    for (size_t i = 1; i < sums.size(); ++i) result = narrow<T>(widen(result) + widen(sums[i]));
  } else {
    instruction.align(workspace, BLOCK, "sharedTmpBuffer");
    const int64_t need = whole_blocks(first_repeats * sizeof(T));
    check_workspace(instruction, room(workspace), need);
    instruction.spoil(workspace, 0, need);
    result = tree_of_trees(std::move(sums));
  }
  store(instruction, dst, 0, &result, 1);
  remember(SUM, result);
}

// The bytes that a search takes: a value and an index of each repeat, then again of those; without an index the second
// round may lie over the first.
template <class T>
int64_t search_workspace(int64_t repeats, bool with_index) {
  const int64_t per_block = BLOCK / sizeof(T), per_repeat = lanes_of<T>;
  const auto up = [](int64_t value, int64_t by) { return (value + by - 1) / by; };
  const int64_t first = up(repeats * 2, per_block) * per_block;
  if (!with_index) return first * sizeof(T);
  const int64_t second_count = up(repeats * 2, per_repeat) * 2, second = up(second_count, per_block) * per_block;
  int64_t need = first + second;
  if (second_count > 2) need += up(up(second_count, per_repeat) * 2, per_block) * per_block;
  return need * sizeof(T);
}

template <class T>
void reduce_extreme(Instruction& instruction, const Lanes& lanes, bool largest, const LocalTensor<T>& dst,
                    const Operand& src, const LocalTensor<T>& workspace, int64_t first_repeats, bool with_index) {
  check_type<T>(Floats{});
  if (lanes.repeats == 0) return;
  instruction.align(src.bytes, BLOCK, "src");
  instruction.align(dst, sizeof(T) * (with_index ? 2 : 1), "dst");
  instruction.align(workspace, BLOCK, "sharedTmpBuffer");
  const int64_t need = search_workspace<T>(first_repeats, with_index), elements = lanes.repeats * lanes.per_repeat;
  check_workspace(instruction, room(workspace), need);
  if (sizeof(T) == 2 && with_index && elements > 65536)
    instruction.require(false, "an index of half needs no more than 65536 elements", std::to_string(elements));
  Extreme<T> found{largest};
  Gathered<T> source;
  for (int64_t repeat = 0; repeat < lanes.repeats; ++repeat) {
    instruction.repeat();
    gather(instruction, lanes, src, repeat, source);
    for (int lane = 0; lane < lanes_of<T>; ++lane)
      if (source.present[lane]) found.add(source.values[lane], repeat * lanes.per_repeat + lane);
  }
  instruction.repeat(0);  // the workspace may lie over the source
  instruction.spoil(workspace, 0, need);
  const T results[] = {found.best(), found.index_bits()};
  store(instruction, dst, 0, results, with_index ? 2 : 1);
  remember(EXTREME_VALUE, found.best());
}

// ---- of each repeat ----
template <class T>
void whole_sum(Instruction& instruction, const Lanes& lanes, const LocalTensor<T>& dst, const Operand& src,
               int64_t dst_repeat) {
  check_type<T>(Floats{});
  instruction.align(src.bytes, BLOCK, "src");
  instruction.align(dst, sizeof(T), "dst");
  Gathered<T> source;
  for (int64_t repeat = 0; repeat < lanes.repeats; ++repeat) {
    instruction.repeat();
    gather(instruction, lanes, src, repeat, source);
    const T sum = tree_sum(source.values, source.present, lanes_of<T>);
    store(instruction, dst, repeat * dst_repeat * int64_t{sizeof(T)}, &sum, 1);
  }
}

template <class T>
void whole_extreme(Instruction& instruction, const Lanes& lanes, bool largest, const LocalTensor<T>& dst,
                   const Operand& src, int64_t dst_repeat, ReduceOrder order) {
  check_type<T>(Floats{});
  instruction.require(is_910b || order <= ReduceOrder::ORDER_INDEX_VALUE,
                      "order must be ORDER_VALUE_INDEX or ORDER_INDEX_VALUE on this chip", "another");
  const int64_t unit = order == ReduceOrder::ORDER_ONLY_VALUE   ? sizeof(T)
                       : order == ReduceOrder::ORDER_ONLY_INDEX ? sizeof(uint32_t)
                                                                : 2 * sizeof(T);
  instruction.align(src.bytes, BLOCK, "src");
  instruction.align(dst, static_cast<int>(unit), "dst");
  Gathered<T> source;
  Extreme<T> overall{largest};
  for (int64_t repeat = 0; repeat < lanes.repeats; ++repeat) {
    instruction.repeat();
    gather(instruction, lanes, src, repeat, source);
    Extreme<T> found{largest};
    for (int lane = 0; lane < lanes_of<T>; ++lane)
      if (source.present[lane]) found.add(source.values[lane], lane);
    overall.add(found.best(), repeat * lanes.per_repeat + found.index);
    const int64_t at = repeat * dst_repeat * unit;
    const T value = found.best(), index = found.index_bits();
    const T pairs[][2] = {{value, index}, {index, value}};
    const uint32_t whole_index = static_cast<uint32_t>(found.index);
    if (order == ReduceOrder::ORDER_ONLY_INDEX)
      store(instruction, dst.template ReinterpretCast<uint32_t>(), at, &whole_index, 1);
    else if (order == ReduceOrder::ORDER_ONLY_VALUE)
      store(instruction, dst, at, &value, 1);
    else
      store(instruction, dst, at, pairs[order == ReduceOrder::ORDER_INDEX_VALUE], 2);
  }
  if (overall.index >= 0) remember(EXTREME_VALUE, overall.best()), remember(EXTREME_INDEX, overall.index_bits());
}

// ---- of each group of neighbours: a block of 32 bytes, or a pair. A group without a lane leaves its result alone ----
template <class T, class F>
void group_reduce(Instruction& instruction, const Lanes& lanes, int group, const LocalTensor<T>& dst,
                  const Operand& src, int64_t dst_repeat, F reduce) {
  check_type<T>(Floats{});
  const int groups = lanes_of<T> / group;
  instruction.align(src.bytes, BLOCK, "src");
  instruction.align(dst, std::min<int>(BLOCK, groups * sizeof(T)), "dst");
  Gathered<T> source;
  T results[lanes_of<T> / 2];
  for (int64_t repeat = 0; repeat < lanes.repeats; ++repeat) {
    instruction.repeat();
    gather(instruction, lanes, src, repeat, source);
    const int64_t at = repeat * dst_repeat * groups;
    for (int g = 0, begin = 0; g <= groups; ++g) {
      const bool* present = source.present + g * group;
      if (g < groups && std::any_of(present, present + group, [](bool is) { return is; })) {
        results[g] = reduce(source.values + g * group, present, group);
        continue;
      }
      if (begin < g) store(instruction, dst, (at + begin) * int64_t{sizeof(T)}, results + begin, g - begin);
      begin = g + 1;
    }
  }
}

template <class T>
T group_extreme(bool largest, const T* values, const bool* present, int count) {
  Extreme<T> found{largest};
  for (int i = 0; i < count; ++i)
    if (present[i]) found.add(values[i], i);
  return found.best();
}

inline void check_stride(Instruction& instruction, const char* name, int64_t stride) {
  if (stride < 0 || stride > 65535)
    instruction.require(false, std::string(name) + " must be from 0 to 65535", std::to_string(stride));
}

template <class T>
Operand source(Instruction& instruction, const LocalTensor<T>& src, int64_t block, int64_t repeat) {
  check_stride(instruction, "srcBlkStride", block);
  check_stride(instruction, "srcRepStride", repeat);
  return operand(src, "src", block, repeat);
}

}  // namespace emulator

}  // namespace AscendC
