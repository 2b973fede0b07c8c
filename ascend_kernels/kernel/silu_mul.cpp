// silu_mul: every core owns tiles of the result and reads the gate's and the up projection's part of each side by side.
#include "tiling/silu_mul.h"

#include "kernel/kernel.h"

namespace pangu::ascend {

template <class T>
class SiluMulKernel {
 public:
  __aicore__ inline void Init(TPipe* pipe, GM_ADDR gate_up, GM_ADDR out, const SiluMulTiling& tiling) {
    tiling_ = tiling;
    const Tiles& tiles = tiling.tiles;
    gate_up_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(gate_up), 2 * tiles.num_rows * tiling.in_stride);
    out_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out), tiles.num_rows * tiling.out_stride);
    int32_t size = tiles.rows * tiles.width;
    pipe->InitBuffer(gates_, 2, size * sizeof(T));
    pipe->InitBuffer(ups_, 2, size * sizeof(T));
    pipe->InitBuffer(outs_, 2, size * sizeof(T));
    if constexpr (!IsFloat<T>::value) pipe->InitBuffer(work_, 2 * size * sizeof(float));
  }

  __aicore__ inline void Process() {
    int64_t end = first_of(tiling_.tiles.split, GetBlockIdx() + 1);
    for (int64_t i = first_of(tiling_.tiles.split, GetBlockIdx()); i < end; i++) {
      Tile tile = tile_at(tiling_.tiles, i);
      CopyIn(tile);
      Compute(tile);
      CopyOut(tile);
    }
  }

 private:
  __aicore__ inline void CopyIn(const Tile& tile) {
    LocalTensor<T> gate = gates_.template AllocTensor<T>(), up = ups_.template AllocTensor<T>();
    int64_t first = 2 * tile.row * tiling_.in_stride + tile.column, stride = 2 * tiling_.in_stride;
    copy_in(gate, gate_up_[first], tile.rows, tile.columns, stride, tiling_.tiles.width);
    gates_.EnQue(gate);  // the vector unit waits for the copy in DeQue
    copy_in(up, gate_up_[first + tiling_.in_stride], tile.rows, tile.columns, stride, tiling_.tiles.width);
    ups_.EnQue(up);
  }

  __aicore__ inline void Compute(const Tile& tile) {
    int32_t size = (tile.rows - 1) * tiling_.tiles.width + int32_t(round_up(tile.columns, BLOCK<T>));
    LocalTensor<T> gate = gates_.template DeQue<T>(), out = outs_.template AllocTensor<T>(), up;
    if constexpr (IsFloat<T>::value) {
      silu(out, gate, size);
      up = ups_.template DeQue<T>();
      PipeBarrier<PIPE_V>();
      Mul(out, out, up, size);
    } else {
      LocalTensor<float> wide = work_.template Get<float>(), product = wide[tiling_.tiles.rows * tiling_.tiles.width];
      PipeBarrier<PIPE_V>();  // for the tile before
      to_float(wide, gate, size);
      PipeBarrier<PIPE_V>();
      silu(product, wide, size);
      up = ups_.template DeQue<T>();
      PipeBarrier<PIPE_V>();
      to_float(wide, up, size);
      PipeBarrier<PIPE_V>();
      Mul(product, product, wide, size);
      PipeBarrier<PIPE_V>();
      from_float(out, product, size);
    }
    gates_.FreeTensor(gate);  // the next copy into it waits for the vector unit
    ups_.FreeTensor(up);
    outs_.EnQue(out);
  }

  __aicore__ inline void CopyOut(const Tile& tile) {
    LocalTensor<T> out = outs_.template DeQue<T>();  // waits for the vector unit
    int64_t first = tile.row * tiling_.out_stride + tile.column;
    copy_out(out_[first], out, tile.rows, tile.columns, tiling_.out_stride, tiling_.tiles.width);
    outs_.FreeTensor(out);  // the vector unit's next result in it waits for the copy
  }

  SiluMulTiling tiling_;
  GlobalTensor<T> gate_up_, out_;
  TQue<TPosition::VECIN, 2> gates_, ups_;
  TQue<TPosition::VECOUT, 2> outs_;
  TBuf<TPosition::VECCALC> work_;
};

}  // namespace pangu::ascend

using pangu::ascend::SiluMulTiling;  // see PANGU_ENTRIES

#define ENTRY(suffix, T)                                                                                        \
  extern "C" __global__ __aicore__ void silu_mul_##suffix(GM_ADDR gate_up, GM_ADDR out, SiluMulTiling tiling) { \
    PANGU_KERNEL_TYPE(KERNEL_TYPE_AIV_ONLY);                                                                    \
    AscendC::TPipe pipe;                                                                                        \
    pangu::ascend::SiluMulKernel<T> kernel;                                                                     \
    kernel.Init(&pipe, gate_up, out, tiling);                                                                   \
    kernel.Process();                                                                                           \
  }
PANGU_ENTRIES(ENTRY)
#undef ENTRY
