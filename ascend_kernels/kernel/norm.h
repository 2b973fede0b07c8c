// Normalising rows: shared by rms_norm and add_rms_norm, so that the two agree bit for bit. Every core owns tiles of
// rows, or where there are fewer rows than cores a part of a row, whose squares it adds up whole. A row that the
// unified buffer does not hold is read in chunks, twice.
#pragma once

#include "kernel/kernel.h"
#include "tiling/norm.h"

namespace pangu::ascend {

// The arithmetic, on rows in fp32. A row's squares are added up lane by lane in the order of its columns, so that the
// sum is the same however the row is cut into chunks and pieces.
class Norm {
 public:
  __aicore__ inline void Init(TPipe* pipe, const NormTiling& tiling) {
    share_ = tiling.share;
    eps_ = tiling.eps;
    int32_t rows = tiling.tiles.rows;
    pipe->InitBuffer(sums_, rows * LANES * sizeof(float));
    pipe->InitBuffer(totals_, round_up(rows, 8) * sizeof(float));
    pipe->InitBuffer(factors_, round_up(rows, 8) * BLOCK_BYTES);
    pipe->InitBuffer(weights_, tiling.chunk * sizeof(float));
  }

  // The sums of `rows` begin at 0.
  __aicore__ inline void Begin(int32_t rows) {
    LocalTensor<float> sums = sums_.Get<float>(), totals = totals_.Get<float>();
    PipeBarrier<PIPE_V>();  // for the rows before
    Duplicate(sums, 0.0f, rows * LANES);
    Duplicate(totals, 0.0f, int32_t(round_up(rows, 8)));
  }

  // Add the squares of [rows, width]; they pass through `squares`, which may be `x`.
  __aicore__ inline void Add(const LocalTensor<float>& squares, const LocalTensor<float>& x, int32_t rows,
                             int32_t width) {
    LocalTensor<float> sums = sums_.Get<float>();
    PipeBarrier<PIPE_V>();
    Mul(squares, x, x, rows * width);
    PipeBarrier<PIPE_V>();
    for_pieces(rows, width, width, [&](const Piece& piece) __aicore__ {
      LocalTensor<float> sum = sums[piece.row * LANES];
      uint8_t step = piece.step(LANES / 8, 0);
      BinaryRepeatParams strides{1, 1, 1, step, piece.step(width / 8), step};
      if (piece.column > 0) PipeBarrier<PIPE_V>();
      AscendC::Add(sum, squares[piece.row * width + piece.column], sum, piece.lanes, piece.repeats, strides);
    });
  }

  // From the sums each row's factor, 1 / sqrt(mean + eps). Rsqrt and Reciprocal would be approximate.
  __aicore__ inline void End(int32_t rows) {
    LocalTensor<float> sums = sums_.Get<float>(), totals = totals_.Get<float>();
    int32_t count = int32_t(round_up(rows, 8));
    PipeBarrier<PIPE_V>();
    WholeReduceSum(totals, sums, LANES, rows, 1, 1, LANES / 8);
    PipeBarrier<PIPE_V>();
    Muls(totals, totals, share_, count);
    Duplicate(sums, 1.0f, count);
    PipeBarrier<PIPE_V>();
    Adds(totals, totals, eps_, count);
    PipeBarrier<PIPE_V>();
    Sqrt(totals, totals, count);
    PipeBarrier<PIPE_V>();
    Div(totals, sums, totals, count);
    PipeBarrier<PIPE_V>();
    spread(factors_.Get<float>(), totals, rows);
  }

  // x times its row's factor times the weights, for `columns` of rows of `width`; out may be x.
  __aicore__ inline void Scale(const LocalTensor<float>& out, const LocalTensor<float>& x, int32_t rows,
                               int32_t columns, int32_t width) {
    LocalTensor<float> factors = factors_.Get<float>(), weights = weights_.Get<float>();
    PipeBarrier<PIPE_V>();
    for_pieces(rows, columns, width, [&](const Piece& piece) __aicore__ {
      int32_t first = piece.row * width + piece.column;
      uint8_t step = piece.step(width / 8);
      BinaryRepeatParams strides{1, 1, 0, step, step, piece.step(1, 0)};
      Mul(out[first], x[first], factors[piece.row * 8], piece.lanes, piece.repeats, strides);
    });
    PipeBarrier<PIPE_V>();
    for_pieces(rows, columns, width, [&](const Piece& piece) __aicore__ {
      int32_t first = piece.row * width + piece.column;
      uint8_t step = piece.step(width / 8);
      BinaryRepeatParams strides{1, 1, 1, step, step, piece.step(0)};
      Mul(out[first], out[first], weights[piece.column], piece.lanes, piece.repeats, strides);
    });
  }

  // The weights of the columns that are scaled next.
  template <class T>
  __aicore__ inline void SetWeights(const LocalTensor<T>& weights, int32_t columns) {
    PipeBarrier<PIPE_V>();
    to_float(weights_.Get<float>(), weights, columns);
  }

 private:
  float share_, eps_;
  TBuf<TPosition::VECCALC> sums_, totals_, factors_, weights_;
};

// The kernel: of rows of x, or where it ADDS of the rounded sums of x and residual, which are results too.
template <class T, bool ADDS>
class NormKernel {
 public:
  __aicore__ inline void Init(TPipe* pipe, GM_ADDR x, GM_ADDR residual, GM_ADDR weight, GM_ADDR normed, GM_ADDR sum,
                              const NormTiling& tiling) {
    tiling_ = tiling;
    const Tiles& tiles = tiling.tiles;
    int64_t in_size = tiles.num_rows * tiling.in_stride, out_size = tiles.num_rows * tiling.out_stride;
    x_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(x), in_size);
    weight_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(weight), tiling.in_stride);
    normed_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(normed), out_size);
    if constexpr (ADDS) {
      residual_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(residual), in_size);
      sum_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(sum), out_size);
    }
    room_ = tiles.rows * tiling.chunk;
    pipe->InitBuffer(ins_, 2, TENSORS * room_ * sizeof(T));
    pipe->InitBuffer(outs_, 2, TENSORS * room_ * sizeof(T));
    if constexpr (!IsFloat<T>::value) pipe->InitBuffer(wide_, room_ * sizeof(float));
    norm_.Init(pipe, tiling);
  }

  __aicore__ inline void Process() {
    const Tiles& tiles = tiling_.tiles;
    int64_t first = first_of(tiles.split, GetBlockIdx()), end = first_of(tiles.split, GetBlockIdx() + 1);
    for (int64_t i = first; i < end; i++) {
      Tile tile = tile_at(tiles, i);
      if (tiling_.chunk < tiles.width) {
        ProcessInChunks(tile);
        continue;
      }
      if (i == first || tiles.per_row > 1) CopyWeights(tile.column, tile.columns);
      CopyIn(Tile{tile.row, 0, tile.rows, int32_t(tiles.num_columns)});
      Compute(tile);
      CopyOut(tile, tile.column);
    }
  }

 private:
  static constexpr int32_t TENSORS = ADDS ? 2 : 1;  // beside each other in a buffer: x and residual, normed and sum

  __aicore__ inline void ProcessInChunks(const Tile& tile) {
    norm_.Begin(1);
    for (int64_t column = 0; column < tiling_.tiles.num_columns; column += tiling_.chunk) {
      Tile chunk = ChunkOf(tile.row, column, tiling_.tiles.num_columns);
      CopyIn(chunk);
      LocalTensor<T> in = ins_.template DeQue<T>(), out = outs_.template AllocTensor<T>();
      AddSquares(out, Rows(in, out, SizeOf(chunk)), chunk);
      ins_.FreeTensor(in);
      outs_.FreeTensor(out);  // it was but room
    }
    norm_.End(1);
    for (int64_t column = tile.column; column < tile.column + tile.columns; column += tiling_.chunk) {
      Tile chunk = ChunkOf(tile.row, column, tile.column + tile.columns);
      CopyWeights(column, chunk.columns);
      CopyIn(chunk);
      LocalTensor<T> in = ins_.template DeQue<T>(), out = outs_.template AllocTensor<T>();
      Scale(out, Rows(in, out, SizeOf(chunk)), chunk);
      ins_.FreeTensor(in);
      outs_.EnQue(out);
      CopyOut(chunk, 0);
    }
  }

  __aicore__ inline Tile ChunkOf(int64_t row, int64_t column, int64_t end) {
    return {row, column, 1, int32_t(end - column < tiling_.chunk ? end - column : tiling_.chunk)};
  }

  // Elements of the unified buffer that a tile takes.
  __aicore__ inline int32_t SizeOf(const Tile& tile) {
    return (tile.rows - 1) * tiling_.chunk + int32_t(round_up(tile.columns, BLOCK<T>));
  }

  __aicore__ inline void CopyIn(const Tile& tile) {
    LocalTensor<T> in = ins_.template AllocTensor<T>();
    int64_t first = tile.row * tiling_.in_stride + tile.column;
    copy_in(in, x_[first], tile.rows, tile.columns, tiling_.in_stride, tiling_.chunk);
    if constexpr (ADDS)
      copy_in(in[room_], residual_[first], tile.rows, tile.columns, tiling_.in_stride, tiling_.chunk);
    ins_.EnQue(in);  // the vector unit waits for the copies in DeQue
  }

  __aicore__ inline void CopyWeights(int64_t column, int32_t columns) {
    LocalTensor<T> in = ins_.template AllocTensor<T>();
    copy_in(in, weight_[column], 1, columns, columns, int32_t(round_up(columns, BLOCK<T>)));
    ins_.EnQue(in);
    LocalTensor<T> weights = ins_.template DeQue<T>();  // the vector unit waits for the copy
    norm_.SetWeights(weights, int32_t(round_up(columns, BLOCK<T>)));
    ins_.FreeTensor(weights);  // the next copy into it waits for the vector unit
  }

  __aicore__ inline void Compute(const Tile& tile) {
    Tile rows{tile.row, 0, tile.rows, int32_t(tiling_.tiles.num_columns)};
    LocalTensor<T> in = ins_.template DeQue<T>(), out = outs_.template AllocTensor<T>();
    LocalTensor<T> x = Rows(in, out, SizeOf(rows));
    norm_.Begin(tile.rows);
    AddSquares(out, x, rows);
    norm_.End(tile.rows);
    Scale(out, x[tile.column], tile);
    ins_.FreeTensor(in);  // the next copy into it waits for the vector unit
    outs_.EnQue(out);
  }

  // What is normalised. Until there is a result, its buffer is room for the residual in fp32.
  __aicore__ inline LocalTensor<T> Rows(const LocalTensor<T>& in, const LocalTensor<T>& out, int32_t size) {
    if constexpr (!ADDS) return in;
    LocalTensor<T> sum = out[room_], residual = in[room_];
    if constexpr (IsFloat<T>::value) {
      AscendC::Add(sum, in, residual, size);
    } else {
      LocalTensor<float> wide = Widen(in, size), wide_residual = out.template ReinterpretCast<float>();
      to_float(wide_residual, residual, size);
      PipeBarrier<PIPE_V>();
      AscendC::Add(wide, wide, wide_residual, size);
      PipeBarrier<PIPE_V>();
      from_float(sum, wide, size);
    }
    return sum;
  }

  // Squares pass through the results' buffer where they are no wider than it, otherwise through the wide one.
  __aicore__ inline void AddSquares(const LocalTensor<T>& out, const LocalTensor<T>& x, const Tile& tile) {
    int32_t size = SizeOf(tile);
    if constexpr (IsFloat<T>::value) {
      norm_.Add(out, x, tile.rows, size / tile.rows);
    } else {
      LocalTensor<float> wide = Widen(x, size);
      norm_.Add(wide, wide, tile.rows, size / tile.rows);
    }
  }

  __aicore__ inline void Scale(const LocalTensor<T>& out, const LocalTensor<T>& x, const Tile& tile) {
    int32_t columns = int32_t(round_up(tile.columns, BLOCK<T>));  // as a copy may take whole blocks only
    if constexpr (IsFloat<T>::value) {
      norm_.Scale(out, x, tile.rows, columns, tiling_.chunk);
    } else {
      LocalTensor<float> wide = Widen(x, SizeOf(tile));
      norm_.Scale(wide, wide, tile.rows, columns, tiling_.chunk);
      PipeBarrier<PIPE_V>();
      from_float(out, wide, SizeOf(tile));
    }
  }

  __aicore__ inline LocalTensor<float> Widen(const LocalTensor<T>& x, int32_t size) {
    LocalTensor<float> wide = wide_.template Get<float>();
    PipeBarrier<PIPE_V>();
    to_float(wide, x, size);
    return wide;
  }

  // `column`: of the buffer
  __aicore__ inline void CopyOut(const Tile& tile, int64_t column) {
    LocalTensor<T> out = outs_.template DeQue<T>();  // waits for the vector unit
    int64_t first = tile.row * tiling_.out_stride + tile.column;
    copy_out(normed_[first], out, tile.rows, tile.columns, tiling_.out_stride, tiling_.chunk);
    if constexpr (ADDS)
      copy_out(sum_[first], out[room_ + column], tile.rows, tile.columns, tiling_.out_stride, tiling_.chunk);
    outs_.FreeTensor(out);  // the vector unit's next result in it waits for the copies
  }

  NormTiling tiling_;
  int32_t room_;  // elements of a tensor in a buffer
  GlobalTensor<T> x_, residual_, weight_, normed_, sum_;
  TQue<TPosition::VECIN, 2> ins_;
  TQue<TPosition::VECOUT, 2> outs_;
  TBuf<TPosition::VECCALC> wide_;
  Norm norm_;
};

}  // namespace pangu::ascend
