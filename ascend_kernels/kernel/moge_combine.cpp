// moge_combine: every core owns a stretch of the result. For each piece of it the rows of the token's slots come in,
// the next ones while the vector unit adds this one to the sum, in slot order and in fp32; then the addend as one more.
#include "tiling/moge_combine.h"

#include "kernel/kernel.h"

namespace pangu::ascend {

template <class T>
class MogeCombineKernel {
 public:
  __aicore__ inline void Init(TPipe* pipe, GM_ADDR rows, GM_ADDR weights, GM_ADDR slot_rows, GM_ADDR addend,
                              GM_ADDR out, const MogeCombineTiling& tiling) {
    tiling_ = tiling;
    all_slots_ = tiling.num_tokens * tiling.num_slots;
    rows_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(rows), tiling.num_rows * tiling.stride);
    int64_t in_memory = round_up(all_slots_, BLOCK<int32_t>);
    weights_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(weights), in_memory);
    slot_rows_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(slot_rows), in_memory);
    if (tiling.has_addend)
      addend_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(addend), tiling.num_tokens * tiling.stride);
    out_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out), tiling.num_tokens * tiling.stride);
    int32_t size = tiling.most * COMBINE_UNIT;
    pipe->InitBuffer(ins_, COMBINE_ROWS, size * sizeof(T));
    pipe->InitBuffer(outs_, 2, size * sizeof(T));
    if constexpr (!IsFloat<T>::value) {
      pipe->InitBuffer(total_, size * sizeof(float));
      pipe->InitBuffer(wide_, size * sizeof(float));
    }
    pipe->InitBuffer(near_weights_, COMBINE_SLOTS * sizeof(float));
    pipe->InitBuffer(near_rows_, COMBINE_SLOTS * sizeof(int32_t));
  }

  __aicore__ inline void Process() {
    int64_t end = first_of(tiling_.split, GetBlockIdx() + 1);
    for (int64_t unit = first_of(tiling_.split, GetBlockIdx()); unit < end;) {
      CombinePiece piece = combine_piece(tiling_, unit, end);
      Combine(piece);
      unit += piece.units;
    }
  }

 private:
  __aicore__ inline void Combine(const CombinePiece& piece) {
    LocalTensor<T> out = outs_.template AllocTensor<T>();
    LocalTensor<float> total;
    if constexpr (IsFloat<T>::value) {
      total = out;
    } else {
      total = total_.template Get<float>();
    }
    bool first = true;
    int32_t size = int32_t(round_up(piece.columns, BLOCK<T>));
    int64_t end = (piece.token + 1) * tiling_.num_slots;
    for (int64_t slot = piece.token * tiling_.num_slots; slot < end; slot++) {
      if (slot < near_first_ || slot >= near_end_) LoadSlots(slot);
      int64_t row = near_rows_.template Get<int32_t>().GetValue(uint32_t(slot - near_first_));
      if (row < 0 || row >= tiling_.num_rows) continue;
      CopyIn(rows_[row * tiling_.stride + piece.column], piece.columns);
      Compute(total, near_weights_.template Get<float>().GetValue(uint32_t(slot - near_first_)), first, size);
      first = false;
    }
    int64_t own = piece.token * tiling_.stride + piece.column;
    if (tiling_.has_addend) {
      CopyIn(addend_[own], piece.columns);
      Compute(total, 1.0f, first, size);
    } else if (first) {
      PipeBarrier<PIPE_V>();
      Duplicate(total, 0.0f, size);
    }
    if constexpr (!IsFloat<T>::value) {
      PipeBarrier<PIPE_V>();
      from_float(out, total, size);
    }
    outs_.EnQue(out);
    CopyOut(own, piece.columns);
  }

  // The rows and weights of the slots from one on; on 310P they must start with a block.
  __aicore__ inline void LoadSlots(int64_t slot) {
    near_first_ = round_down(slot, BLOCK<int32_t>);
    int64_t count = all_slots_ - near_first_;
    if (count > COMBINE_SLOTS) count = COMBINE_SLOTS;
    near_end_ = near_first_ + count;
    int32_t width = int32_t(round_up(count, BLOCK<int32_t>));
    wait<HardEvent::S_MTE2>();  // the copies wait until the scalar unit is done with what lies there
    copy_in(near_rows_.template Get<int32_t>(), slot_rows_[near_first_], 1, int32_t(count), count, width);
    copy_in(near_weights_.template Get<float>(), weights_[near_first_], 1, int32_t(count), count, width);
    wait<HardEvent::MTE2_S>();  // the scalar unit waits for the copies
  }

  __aicore__ inline void CopyIn(const GlobalTensor<T>& from, int32_t columns) {
    LocalTensor<T> row = ins_.template AllocTensor<T>();
    copy_in(row, from, 1, columns, columns, int32_t(round_up(columns, BLOCK<T>)));
    ins_.EnQue(row);  // the vector unit waits for the copy in DeQue
  }

  // total += weight * row, or = for the first one. Axpy is not used: its precision is not documented.
  __aicore__ inline void Compute(const LocalTensor<float>& total, float weight, bool first, int32_t size) {
    LocalTensor<T> row = ins_.template DeQue<T>();
    LocalTensor<float> product = total;
    PipeBarrier<PIPE_V>();  // each instruction of the vector unit waits for those before it that use its operands
    if constexpr (IsFloat<T>::value) {
      if (!first) product = row;
      Muls(product, row, weight, size);
    } else {
      if (!first) product = wide_.template Get<float>();
      to_float(product, row, size);
      PipeBarrier<PIPE_V>();
      Muls(product, product, weight, size);
    }
    if (!first) {
      PipeBarrier<PIPE_V>();
      Add(total, total, product, size);
    }
    ins_.FreeTensor(row);  // the next copy into it waits for the vector unit
  }

  __aicore__ inline void CopyOut(int64_t own, int32_t columns) {
    LocalTensor<T> out = outs_.template DeQue<T>();  // waits for the vector unit
    copy_out(out_[own], out, 1, columns, columns, int32_t(round_up(columns, BLOCK<T>)));
    outs_.FreeTensor(out);  // the vector unit's next result in it waits for the copy
  }

  MogeCombineTiling tiling_;
  int64_t all_slots_, near_first_ = 0, near_end_ = 0;  // the near slots lie in the unified buffer
  GlobalTensor<T> rows_, addend_, out_;
  GlobalTensor<float> weights_;
  GlobalTensor<int32_t> slot_rows_;
  TQue<TPosition::VECIN, COMBINE_ROWS> ins_;
  TQue<TPosition::VECOUT, 2> outs_;
  TBuf<TPosition::VECCALC> total_, wide_, near_weights_, near_rows_;
};

}  // namespace pangu::ascend

using pangu::ascend::MogeCombineTiling;  // see PANGU_ENTRIES

#define ENTRY(suffix, T)                                                                                        \
  extern "C" __global__ __aicore__ void moge_combine_##suffix(GM_ADDR rows, GM_ADDR weights, GM_ADDR slot_rows, \
                                                              GM_ADDR addend, GM_ADDR out,                      \
                                                              MogeCombineTiling tiling) {                       \
    PANGU_KERNEL_TYPE(KERNEL_TYPE_AIV_ONLY);                                                                    \
    AscendC::TPipe pipe;                                                                                        \
    pangu::ascend::MogeCombineKernel<T> kernel;                                                                 \
    kernel.Init(&pipe, rows, weights, slot_rows, addend, out, tiling);                                          \
    kernel.Process();                                                                                           \
  }
PANGU_ENTRIES(ENTRY)
#undef ENTRY
