// rotary: every core owns heads of q and k together, all of several tokens or some of one. The vector unit takes one
// token at a time, whose heads share their cosines and sines.
#include "tiling/rotary.h"

#include "kernel/kernel.h"

namespace pangu::ascend {

// q or k: where its heads are read, and written side by side.
template <class T>
struct Projection {
  GlobalTensor<T> in, out;
  Heads from, to;

  __aicore__ inline void Init(GM_ADDR in_address, GM_ADDR out_address, const Heads& heads, int64_t num_tokens,
                              int32_t size) {
    from = heads;
    to = {heads.count, int64_t(heads.count) * size, size};
    if (heads.count == 0) return;
    int64_t last = (num_tokens - 1) * from.token_stride + (heads.count - 1) * from.head_stride;
    in.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(in_address), last + size);
    out.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out_address), num_tokens * to.token_stride);
  }
};

template <class T>
class RotaryKernel {
 public:
  __aicore__ inline void Init(TPipe* pipe, GM_ADDR q, GM_ADDR k, GM_ADDR cos, GM_ADDR sin, GM_ADDR out_q, GM_ADDR out_k,
                              const RotaryTiling& tiling) {
    tiling_ = tiling;
    const Tiles& tiles = tiling.tiles;
    int64_t num_tokens = tiling.in_parts ? tiles.num_rows / (tiling.q.count + tiling.k.count) : tiles.num_rows;
    q_.Init(q, out_q, tiling.q, num_tokens, 2 * tiling.half);
    k_.Init(k, out_k, tiling.k, num_tokens, 2 * tiling.half);
    cos_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(cos), num_tokens * tiling.half);
    sin_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(sin), num_tokens * tiling.half);
    int32_t tokens = tiling.in_parts ? 1 : tiles.rows, heads = tiling.in_parts ? 1 : tiles.columns;
    int32_t size = heads * 2 * tiling.width;
    table_ = tokens * tiling.width;
    pipe->InitBuffer(ins_, 2, tokens * size * sizeof(T));
    pipe->InitBuffer(tables_, 2, 2 * table_ * sizeof(float));
    pipe->InitBuffer(outs_, 2, tokens * size * sizeof(T));
    pipe->InitBuffer(negatives_, table_ * sizeof(float));
    if constexpr (!IsFloat<T>::value) {
      pipe->InitBuffer(work_, 2 * size * sizeof(float));
      Duplicate(work_.template Get<float>(), 0.0f, 2 * size);  // what lies between halves is narrowed too
    }
  }

  __aicore__ inline void Process() {
    int64_t end = first_of(tiling_.tiles.split, GetBlockIdx() + 1);
    for (int64_t i = first_of(tiling_.tiles.split, GetBlockIdx()); i < end; i++) {
      RotaryTile tile = rotary_tile_at(tiling_, i);
      CopyIn(tile);
      Compute(tile);
      CopyOut(tile);
    }
  }

 private:
  // The widths of a half of a head, and of a row of cosines or sines, in the unified buffer.
  __aicore__ inline int32_t WidthOf(const RotaryTile& tile) { return int32_t(round_up(tile.columns, BLOCK<T>)); }
  __aicore__ inline int32_t TableWidthOf(const RotaryTile& tile) {
    return int32_t(round_up(tile.columns, BLOCK<float>));
  }

  __aicore__ inline void CopyIn(const RotaryTile& tile) {
    LocalTensor<T> in = ins_.template AllocTensor<T>();
    ForHeads(tile, [&](const Projection<T>& projection, int32_t head, int32_t count, int32_t place) __aicore__ {
      CopyHeads<true>(tile, projection.in, in[place], projection.from, head, count);
    });
    ins_.EnQue(in);  // the vector unit waits for the copies in DeQue
    LocalTensor<float> tables = tables_.template AllocTensor<float>();
    int64_t first = tile.token * tiling_.half + tile.column;
    copy_in(tables, cos_[first], tile.tokens, tile.columns, tiling_.half, TableWidthOf(tile));
    copy_in(tables[table_], sin_[first], tile.tokens, tile.columns, tiling_.half, TableWidthOf(tile));
    tables_.EnQue(tables);
  }

  __aicore__ inline void CopyOut(const RotaryTile& tile) {
    LocalTensor<T> out = outs_.template DeQue<T>();  // waits for the vector unit
    ForHeads(tile, [&](const Projection<T>& projection, int32_t head, int32_t count, int32_t place) __aicore__ {
      CopyHeads<false>(tile, projection.out, out[place], projection.to, head, count);
    });
    outs_.FreeTensor(out);  // the vector unit's next result in it waits for the copies
  }

  // Calls call(projection, head, count, place) for the tile's heads of q and for those of k, which lie behind them.
  template <class Call>
  __aicore__ inline void ForHeads(const RotaryTile& tile, const Call& call) {
    int32_t left = tiling_.q.count - tile.head;  // of q, from the first on
    int32_t of_q = left < 0 ? 0 : left < tile.heads ? left : tile.heads, of_k = tile.heads - of_q;
    if (of_q > 0) call(q_, tile.head, of_q, 0);
    if (of_k > 0) call(k_, tile.head + of_q - tiling_.q.count, of_k, of_q * 2 * WidthOf(tile));
  }

  // Heads from or to memory: where they lie side by side and halves are whole blocks, all of a token at once.
  template <bool IN>
  __aicore__ inline void CopyHeads(const RotaryTile& tile, const GlobalTensor<T>& memory, const LocalTensor<T>& local,
                                   const Heads& heads, int32_t head, int32_t count) {
    int32_t width = WidthOf(tile), token_width = tile.heads * 2 * width;
    int64_t first = tile.token * heads.token_stride + head * heads.head_stride + tile.column;
    bool is_dense = width == tiling_.half && heads.head_stride == 2 * width;
    if (is_dense && (tile.tokens == 1 || heads.token_stride >= count * 2 * width)) {
      CopyRows<IN>(memory[first], local, tile.tokens, count * 2 * width, heads.token_stride, token_width);
      return;
    }
    for (int32_t token = 0; token < tile.tokens; token++) {
      for (int32_t side = 0; side < 2; side++)
        CopyRows<IN>(memory[first + side * tiling_.half], local[token * token_width + side * width], count,
                     tile.columns, heads.head_stride, 2 * width);
      first += heads.token_stride;
    }
  }

  template <bool IN>
  __aicore__ inline void CopyRows(const GlobalTensor<T>& memory, const LocalTensor<T>& local, int32_t rows,
                                  int32_t columns, int64_t stride, int32_t width) {
    if constexpr (IN) {
      copy_in(local, memory, rows, columns, stride, width);
    } else {
      copy_out(memory, local, rows, columns, stride, width);
    }
  }

  __aicore__ inline void Compute(const RotaryTile& tile) {
    int32_t size = tile.heads * 2 * WidthOf(tile), table_width = TableWidthOf(tile);
    LocalTensor<T> in = ins_.template DeQue<T>(), out = outs_.template AllocTensor<T>();
    LocalTensor<float> cos = tables_.template DeQue<float>(), sin = cos[table_], negatives = negatives_.Get<float>();
    PipeBarrier<PIPE_V>();  // for the tile before
    Muls(negatives, sin, -1.0f, tile.tokens * table_width);
    for (int32_t token = 0; token < tile.tokens; token++) {
      int32_t row = token * table_width;
      PipeBarrier<PIPE_V>();
      if constexpr (IsFloat<T>::value) {
        Rotate(out[token * size], in[token * size], cos[row], sin[row], negatives[row], tile);
      } else {
        LocalTensor<float> wide = work_.template Get<float>(), turned = wide[size];
        to_float(wide, in[token * size], size);
        PipeBarrier<PIPE_V>();
        Rotate(turned, wide, cos[row], sin[row], negatives[row], tile);
        PipeBarrier<PIPE_V>();
        from_float(out[token * size], turned, size);
      }
    }
    ins_.FreeTensor(in);  // the next copies into them wait for the vector unit
    tables_.FreeTensor(cos);
    outs_.EnQue(out);
  }

  // One token's heads: both halves times the cosines, then less the second half, and plus the first, times the sines.
  __aicore__ inline void Rotate(const LocalTensor<float>& out, const LocalTensor<float>& in,
                                const LocalTensor<float>& cos, const LocalTensor<float>& sin,
                                const LocalTensor<float>& negatives, const RotaryTile& tile) {
    int32_t half = WidthOf(tile), head = 2 * half;
    for_pieces(2 * tile.heads, tile.columns, half, [&](const Piece& piece) __aicore__ {
      int32_t first = piece.row * half + piece.column;
      uint8_t step = piece.step(half / 8);
      BinaryRepeatParams strides{1, 1, 1, step, step, piece.step(0)};
      Mul(out[first], in[first], cos[piece.column], piece.lanes, piece.repeats, strides);
    });
    PipeBarrier<PIPE_V>();
    for_pieces(tile.heads, tile.columns, head, [&](const Piece& piece) __aicore__ {
      int32_t first = piece.row * head + piece.column;
      uint8_t step = piece.step(head / 8);
      BinaryRepeatParams strides{1, 1, 1, step, step, piece.step(0)};
      MulAddDst(out[first], in[first + half], negatives[piece.column], piece.lanes, piece.repeats, strides);
      MulAddDst(out[first + half], in[first], sin[piece.column], piece.lanes, piece.repeats, strides);
    });
  }

  RotaryTiling tiling_;
  int32_t table_;  // elements of a table in the unified buffer
  Projection<T> q_, k_;
  GlobalTensor<float> cos_, sin_;
  TQue<TPosition::VECIN, 2> ins_, tables_;
  TQue<TPosition::VECOUT, 2> outs_;
  TBuf<TPosition::VECCALC> negatives_, work_;
};

}  // namespace pangu::ascend

using pangu::ascend::RotaryTiling;  // see PANGU_ENTRIES

#define ENTRY(suffix, T)                                                                                     \
  extern "C" __global__ __aicore__ void rotary_##suffix(GM_ADDR q, GM_ADDR k, GM_ADDR cos, GM_ADDR sin,      \
                                                        GM_ADDR out_q, GM_ADDR out_k, RotaryTiling tiling) { \
    PANGU_KERNEL_TYPE(KERNEL_TYPE_AIV_ONLY);                                                                 \
    AscendC::TPipe pipe;                                                                                     \
    pangu::ascend::RotaryKernel<T> kernel;                                                                   \
    kernel.Init(&pipe, q, k, cos, sin, out_q, out_k, tiling);                                                \
    kernel.Process();                                                                                        \
  }
PANGU_ENTRIES(ENTRY)
#undef ENTRY
