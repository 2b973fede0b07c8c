// Instructions of the vector unit over rows of fp32 numbers, many rows at once: with what a row has one number of, with
// what rows share, and down to one number a row. They begin without a barrier and end without one.
#pragma once

#include "kernel/kernel.h"
#include "tiling/walk.h"

namespace pangu::ascend {

constexpr float INFINITE = __builtin_inff();
constexpr float LARGEST = 3.402823466e+38f;

// For each step of a walk body(index, offset, lanes), one instruction or a few.
template <class Body>
__aicore__ inline void each_step(const Walk& walk, const Body& body) {
  for (int32_t i = 0; i < walk.steps; i++) {
    int32_t rest = walk.width - i * walk.step;
    body(i, i * walk.step, uint64_t(walk.by_row && rest < LANES ? rest : LANES));
  }
}

// Strides of an instruction from rows and something else to rows: other rows, one number of each, or what they share.
__aicore__ inline BinaryRepeatParams with_rows(const Walk& walk) {
  uint8_t block = uint8_t(walk.block), repeat = uint8_t(walk.repeat);
  return {block, block, block, repeat, repeat, repeat};
}

__aicore__ inline BinaryRepeatParams with_own(const Walk& walk) {
  uint8_t block = uint8_t(walk.block), repeat = uint8_t(walk.repeat);
  return {block, block, uint8_t(walk.own_block), repeat, repeat, uint8_t(walk.own_repeat)};
}

__aicore__ inline BinaryRepeatParams with_shared(const Walk& walk) {
  uint8_t block = uint8_t(walk.block), repeat = uint8_t(walk.repeat);
  return {block, block, uint8_t(walk.shared_block), repeat, repeat, 0};
}

// Of an instruction that reads what rows share first, and then one number of each row if any.
__aicore__ inline BinaryRepeatParams from_shared(const Walk& walk) {
  return {uint8_t(walk.block),  uint8_t(walk.shared_block), uint8_t(walk.own_block),
          uint8_t(walk.repeat), 0,                          uint8_t(walk.own_repeat)};
}

// Writes `value` to the numbers of each row from `first` on.
__aicore__ inline void fill_from(const Walk& walk, const LocalTensor<float>& rows, int32_t first, float value) {
  each_step(walk, [&](int32_t, int32_t offset, uint64_t lanes) __aicore__ {
    int32_t kept = first - offset;
    if (kept >= walk.step) return;
    uint64_t step = walk.by_row ? ~uint64_t(0) >> (LANES - lanes) : 0xff;
    uint64_t mask[2] = {kept > 0 ? step >> kept << kept : step, 0};
    if (!walk.by_row) mask[0] *= 0x0101010101010101;  // the same of eight rows
    if (mask[0] != 0) Duplicate(rows[offset], value, mask, walk.repeats, walk.block, uint8_t(walk.repeat));
  });
}

// A number of each row, one after another, to blocks that are full of it. 310P has no instruction for it, but gathers
// by a table: the numbers' offsets in bytes, each eight times.
__aicore__ inline void to_blocks(const LocalTensor<float>& blocks, const LocalTensor<float>& numbers,
                                 [[maybe_unused]] const LocalTensor<float>& table, int32_t rows) {
  int32_t repeats = int32_t(ceil_div(rows, 8));
#ifdef PANGU_310P
  Gather(blocks, numbers, table.template ReinterpretCast<uint32_t>(), 0, uint32_t(repeats * LANES));
#else
  Brcb(blocks, numbers, uint8_t(repeats), BrcbRepeatParams{1, 8});
#endif
}

// A table of `size` integers, whole blocks, for each of `count` things, from that of the first: from one to the next
// `more` is added. The table doubles; each instruction waits for the one before, and the next user for the last.
__aicore__ inline void extend(const LocalTensor<float>& table, int32_t size, int32_t count, int32_t more) {
  LocalTensor<int32_t> integers = table.template ReinterpretCast<int32_t>();
  for (int32_t done = 1; done < count; done *= 2) {
    int32_t next = count - done < done ? count - done : done;
    Adds(integers[done * size], integers, done * more, next * size);
    PipeBarrier<PIPE_V>();
  }
}

template <ReduceMode mode>
__aicore__ inline void join(const LocalTensor<float>& to, const LocalTensor<float>& a, const LocalTensor<float>& b,
                            uint64_t lanes, const Walk& walk) {
  if constexpr (mode == ReduceMode::REDUCE_MAX) Max(to, a, b, lanes, uint8_t(walk.repeats), with_rows(walk));
  if constexpr (mode == ReduceMode::REDUCE_MIN) Min(to, a, b, lanes, uint8_t(walk.repeats), with_rows(walk));
  if constexpr (mode == ReduceMode::REDUCE_SUM) Add(to, a, b, lanes, uint8_t(walk.repeats), with_rows(walk));
}

template <ReduceMode mode>
__aicore__ inline void reduce_blocks(const LocalTensor<float>& to, const LocalTensor<float>& from, int32_t repeats,
                                     int32_t block, int32_t repeat) {
  if constexpr (mode == ReduceMode::REDUCE_MAX) BlockReduceMax(to, from, repeats, LANES, 1, block, repeat);
  if constexpr (mode == ReduceMode::REDUCE_MIN) BlockReduceMin(to, from, repeats, LANES, 1, block, repeat);
  if constexpr (mode == ReduceMode::REDUCE_SUM) BlockReduceSum(to, from, repeats, LANES, 1, block, repeat);
}

// Each row to one number. Steps are joined first: in `joined`, as large as the rows and perhaps the rows themselves.
// `parts` has a block for each row: where a row fills repeats, the results of its eight blocks come there, and stay.
template <ReduceMode mode>
__aicore__ inline void reduce(const Walk& walk, const LocalTensor<float>& to, const LocalTensor<float>& rows,
                              const LocalTensor<float>& joined, const LocalTensor<float>& parts) {
  each_step(walk, [&](int32_t i, int32_t offset, uint64_t lanes) __aicore__ {
    if (i == 0) return;
    join<mode>(joined, i == 1 ? rows : joined, rows[offset], lanes, walk);
    PipeBarrier<PIPE_V>();
  });
  const LocalTensor<float>& last = walk.steps > 1 ? joined : rows;
  if (!walk.by_row) return reduce_blocks<mode>(to, last, walk.repeats, walk.block, walk.repeat);
  reduce_blocks<mode>(parts, last, walk.repeats, walk.block, walk.repeat);
  PipeBarrier<PIPE_V>();
  reduce_blocks<mode>(to, parts, int32_t(ceil_div(walk.rows, 8)), 1, 8);
}

}  // namespace pangu::ascend
