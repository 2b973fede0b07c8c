// The words that the AscendC kernels share: copies of any chip, conversions from and to fp32, entries.
#pragma once

#include "kernel_operator.h"

#include "tiling/tiling.h"

namespace pangu::ascend {

using namespace AscendC;

#if defined(__CCE_AICORE__) && __CCE_AICORE__ < 220
#define PANGU_310P 1  // no DataCopyPad, no bfloat16
#endif

template <class T>
struct IsFloat {
  static constexpr bool value = false;
};
template <>
struct IsFloat<float> {
  static constexpr bool value = true;
};

template <class T>
constexpr int32_t BLOCK = int32_t(BLOCK_BYTES / sizeof(T));  // elements

// The second engine of the event waits for what the first one was told so far; where no queue does that.
template <HardEvent event>
__aicore__ inline void wait() {
  event_t id = static_cast<event_t>(GetTPipePtr()->FetchEventID(event));
  SetFlag<event>(id);
  WaitFlag<event>(id);
}

// How a copy of `rows` rows of `columns` elements steps: `stride` from row to row in memory, `width` in the unified
// buffer. Rows that lie side by side in both are one.
template <class T>
struct Steps {
  int32_t rows, columns, blocks;  // blocks of a row
  int64_t skipped;                // in memory between rows: elements
  int32_t gap;                    // in the unified buffer between rows: blocks

  __aicore__ inline Steps(int32_t rows, int32_t columns, int64_t stride, int32_t width) : rows(rows), columns(columns) {
    bool is_one = rows == 1 || (stride == columns && width == columns);
    if (is_one) this->columns *= rows, this->rows = 1;
    blocks = int32_t(ceil_div(this->columns, BLOCK<T>));
    skipped = is_one ? 0 : stride - columns;
    gap = is_one ? 0 : width / BLOCK<T> - blocks;
  }

#ifdef PANGU_310P
  // Whether one DataCopy takes all rows: it counts in blocks.
  __aicore__ inline bool IsOneCopy() const {
    return rows == 1 || ((skipped + columns) % BLOCK<T> == 0 && Skipped() < 65536);
  }
  __aicore__ inline int64_t Skipped() const { return rows == 1 ? 0 : (skipped + columns) / BLOCK<T> - blocks; }
#endif
};

// `rows` rows of `columns` elements, `stride` from one to the next, to rows of `width` in the unified buffer, where
// zeros follow to the end of a block. On 310P what follows is what lies there: a row ends with a block in memory too.
template <class T>
__aicore__ inline void copy_in(const LocalTensor<T>& to, const GlobalTensor<T>& from, int32_t rows, int32_t columns,
                               int64_t stride, int32_t width) {
  Steps<T> steps(rows, columns, stride, width);
#ifdef PANGU_310P
  if (steps.IsOneCopy()) {
    DataCopy(to, from, DataCopyParams{uint16_t(steps.rows), uint16_t(steps.blocks), uint16_t(steps.Skipped()),
                                      uint16_t(steps.gap)});
  } else {
    for (int32_t row = 0; row < rows; row++) DataCopy(to[row * width], from[row * stride], steps.blocks * BLOCK<T>);
  }
#else
  uint8_t missing = uint8_t(steps.blocks * BLOCK<T> - steps.columns);
  DataCopyExtParams copy{uint16_t(steps.rows), uint32_t(steps.columns * sizeof(T)),
                         uint32_t(steps.skipped * sizeof(T)), uint32_t(steps.gap), 0};
  DataCopyPad(to, from, copy, DataCopyPadExtParams<T>{missing > 0, 0, missing, 0});
#endif
}

// The way back. On 310P the rest of the last block is written too.
template <class T>
__aicore__ inline void copy_out(const GlobalTensor<T>& to, const LocalTensor<T>& from, int32_t rows, int32_t columns,
                                int64_t stride, int32_t width) {
  Steps<T> steps(rows, columns, stride, width);
#ifdef PANGU_310P
  if (steps.IsOneCopy()) {
    DataCopy(to, from, DataCopyParams{uint16_t(steps.rows), uint16_t(steps.blocks), uint16_t(steps.gap),
                                      uint16_t(steps.Skipped())});
  } else {
    for (int32_t row = 0; row < rows; row++) DataCopy(to[row * stride], from[row * width], steps.blocks * BLOCK<T>);
  }
#else
  DataCopyExtParams copy{uint16_t(steps.rows), uint32_t(steps.columns * sizeof(T)), uint32_t(steps.gap),
                         uint32_t(steps.skipped * sizeof(T)), 0};
  DataCopyPad(to, from, copy);
#endif
}

template <class T>
__aicore__ inline void to_float(const LocalTensor<float>& to, const LocalTensor<T>& from, int32_t count) {
  if constexpr (IsFloat<T>::value) {
    DataCopy(to, from, uint32_t(round_up(count, BLOCK<float>)));
  } else {
    Cast(to, from, RoundMode::CAST_NONE, count);
  }
}

template <class T>
__aicore__ inline void from_float(const LocalTensor<T>& to, const LocalTensor<float>& from, int32_t count) {
#ifdef PANGU_310P
  Cast(to, from, RoundMode::CAST_NONE, count);  // there the one mode, which rounds to nearest even
#else
  Cast(to, from, RoundMode::CAST_RINT, count);
#endif
}

// x / (1 + exp(-x)): the vector unit waits for itself before an instruction that reads what another one wrote.
__aicore__ inline void silu(const LocalTensor<float>& out, const LocalTensor<float>& x, int32_t count) {
  Muls(out, x, -1.0f, count);
  PipeBarrier<PIPE_V>();
  Exp(out, out, count);
  PipeBarrier<PIPE_V>();
  Adds(out, out, 1.0f, count);
  PipeBarrier<PIPE_V>();
  Div(out, x, out, count);
}

// What one vector instruction takes of a matrix of floats: `repeats` times `lanes` columns, down the rows or along one.
struct Piece {
  int32_t row, column, lanes, repeats;
  bool down;

  // The stride of an operand in blocks, from one row to the next or from 64 columns to the next.
  __aicore__ inline uint8_t step(int32_t down_rows, int32_t along_row = 8) const {
    return uint8_t(down ? down_rows : along_row);
  }
};

// Calls call(piece) for all pieces of [rows, columns]: along rows or down, whichever takes fewer instructions; down
// where `width`, the longest row of an operand, is a stride that an instruction can take.
template <class Call>
__aicore__ inline void for_pieces(int32_t rows, int32_t columns, int32_t width, const Call& call) {
  int32_t whole = columns / LANES, rest = columns % LANES;
  if (width / BLOCK<float> <= MOST_STRIDE && ceil_div(columns, LANES) * ceil_div(rows, MOST_REPEATS) <
                                                 rows * (ceil_div(whole, MOST_REPEATS) + (rest > 0))) {
    for (int32_t row = 0; row < rows; row += MOST_REPEATS) {
      int32_t repeats = rows - row < MOST_REPEATS ? rows - row : MOST_REPEATS;
      for (int32_t i = 0; i < whole; i++) call(Piece{row, i * LANES, LANES, repeats, true});
      if (rest > 0) call(Piece{row, whole * LANES, rest, repeats, true});
    }
  } else {
    for (int32_t row = 0; row < rows; row++) {
      for (int32_t i = 0; i < whole; i += MOST_REPEATS) {
        int32_t repeats = whole - i < MOST_REPEATS ? whole - i : MOST_REPEATS;
        call(Piece{row, i * LANES, LANES, repeats, false});
      }
      if (rest > 0) call(Piece{row, whole * LANES, rest, 1, false});
    }
  }
}

// Each of `count` factors to a block of its own, eight times over: an operand whose blocks do not move within a repeat
// (a block stride of 0) multiplies a row by its factor. Whole blocks of both are written and read.
__aicore__ inline void spread(const LocalTensor<float>& blocks, const LocalTensor<float>& factors, int32_t count) {
#ifdef PANGU_310P
  wait<HardEvent::V_S>();  // the scalar unit waits for the vector unit
  for (int32_t i = 0; i < count; i++) Duplicate(blocks[i * BLOCK<float>], factors.GetValue(i), BLOCK<float>);
  wait<HardEvent::S_V>();  // the vector unit, before it writes factors anew, waits for the scalar unit
#else
  Brcb(blocks, factors, uint8_t(ceil_div(count, 8)), BrcbRepeatParams{1, 8});
#endif
}

}  // namespace pangu::ascend

// ENTRY(suffix, T) for each element type of the chip. CANN's build takes entries, and the structs that their tilings
// are made of, from the text and says them again outside of namespaces: entries stand there, tilings are known there by
// their plain names, and all that these structs have is data.
#ifdef PANGU_310P
#define PANGU_ENTRIES(ENTRY) ENTRY(float, float) ENTRY(half, half)
#else
#define PANGU_ENTRIES(ENTRY) ENTRY(float, float) ENTRY(half, half) ENTRY(bfloat16, bfloat16_t)
#endif

// What all kernels of a file run on: a 910B's vector cores, which is KERNEL_TYPE_AIV_ONLY, or where they wait for one
// another in SyncAll, KERNEL_TYPE_MIX_AIV_1_0. A 310P has but one kind of core.
#ifdef PANGU_310P
#define PANGU_KERNEL_TYPE(type)
#else
#define PANGU_KERNEL_TYPE(type) KERNEL_TASK_TYPE_DEFAULT(type)
#endif
