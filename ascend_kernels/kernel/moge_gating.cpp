// moge_gating: every core owns tiles of whole tokens. All tokens of a tile go through each step together: there is no
// instruction for one token, and the scalar unit looks at none. The best expert of a group is the first of those whose
// rank equals the group's highest, so that without a bias no rounding decides.
#include "kernel/moge_gating.h"

namespace pangu::ascend {

template <class T>
class MogeGatingKernel : MogeGatingWork {
 public:
  __aicore__ inline void Init(TPipe* pipe, GM_ADDR logits, GM_ADDR correction_bias, GM_ADDR expert_scale,
                              GM_ADDR weights, GM_ADDR expert_ids, const MogeGatingTiling& tiling) {
    InitWork(pipe, tiling);
    logits_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(logits), tiling.num_tokens * tiling.rows * tiling.in_stride);
    weights_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(weights), tiling.num_tokens * tiling.out_stride);
    expert_ids_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(expert_ids), tiling.num_tokens * tiling.out_stride);
    pipe->InitBuffer(logits_queue_, 2, space_.lanes * sizeof(T));
    pipe->InitBuffer(weights_queue_, 2, space_.slots * sizeof(float));
    pipe->InitBuffer(ids_queue_, 2, space_.slots * sizeof(int32_t));
    InitSlots();
    InitExperts(correction_bias, expert_scale);
  }

  __aicore__ inline void Process() {
    int64_t end = first_of(tiling_.split, GetBlockIdx() + 1);
    for (int64_t i = first_of(tiling_.split, GetBlockIdx()); i < end; i++) {
      int64_t token = i * tiling_.tokens, rest = tiling_.num_tokens - token;
      tokens_ = int32_t(rest < tiling_.tokens ? rest : tiling_.tokens);
      by_group_ = walk_of(tokens_ * tiling_.num_groups, tiling_.width);
      by_token_ = walk_of(tokens_, tiling_.lanes);
      by_slot_ = walk_of(tokens_, tiling_.slots);
      CopyIn(token);
      Compute();
      CopyOut(token);
    }
  }

 private:
  __aicore__ inline void CopyIn(int64_t token) {
    LocalTensor<T> logits = logits_queue_.template AllocTensor<T>();
    copy_in(logits, logits_[token * tiling_.rows * tiling_.in_stride], tokens_ * tiling_.rows, tiling_.columns,
            tiling_.in_stride, tiling_.row_width);
    logits_queue_.EnQue(logits);  // the vector unit waits for the copy in DeQue
  }

  // Each instruction of the vector unit waits for the one that it reads from.
  __aicore__ inline void Compute() {
    LocalTensor<T> logits = logits_queue_.template DeQue<T>();
    int32_t size = tokens_ * tiling_.lanes;
    if constexpr (IsFloat<T>::value) {
      WithoutNan(logit_, logits, size);
    } else {
      to_float(logit_, logits, size);
      PipeBarrier<PIPE_V>();
      WithoutNan(logit_, logit_, size);
    }
    logits_queue_.FreeTensor(logits);  // the next copy into it waits for the vector unit
    if (tiling_.columns < tiling_.row_width) {
      fill_from(walk_of(tokens_ * tiling_.rows, tiling_.row_width), logit_, tiling_.columns, -INFINITE);
      PipeBarrier<PIPE_V>();
    }
    FillRest(size);
    // Both score functions rise with the logit, so without a bias the logit itself ranks, free of rounding.
    bool tops = false;
    if (tiling_.softmax)
      tops = Exponentials();
    else if (!tiling_.has_bias)
      to_float(score_, logit_, size);  // what is chosen is taken from logit_: its scores come later
    if (tiling_.has_bias) Ranks();
    if (tiling_.group_size > 1)
      for (int32_t i = 0; i < tiling_.topk_per_group; i++) Choose(i, tops && i == 0);
    Weights();
  }

  // Eight rows at a time, or whole repeats of comparisons, reach past the last token: to any numbers, for no use.
  __aicore__ inline void FillRest(int32_t size) {
    int32_t end = touched(by_group_) > touched(by_token_) ? touched(by_group_) : touched(by_token_);
    if (space_.places > tiling_.width) end += LANES;
    if (end <= size) return;
    Duplicate(logit_[size], 0.0f, end - size);
    if (tiling_.topk_per_group > 1) Duplicate(left_[size], 0.0f, end - size);
    PipeBarrier<PIPE_V>();
  }

  // exp(logit - the token's highest) and a token's total of it. Where the highest is -inf all are 0; where it is inf,
  // some are inf, and so is the total. Returns whether the highest of each group is known too.
  __aicore__ inline bool Exponentials() {
    bool tops = tiling_.width == FLOATS && by_token_.by_row && by_token_.steps == 1 && !tiling_.has_bias;
    reduce<ReduceMode::REDUCE_MAX>(by_token_, top_, logit_, found_, tops ? best_ : spread_);
    PipeBarrier<PIPE_V>();
    Maxs(top_, top_, -LARGEST, tokens_);
    PipeBarrier<PIPE_V>();
    Mins(top_, top_, LARGEST, tokens_);
    PipeBarrier<PIPE_V>();
    to_blocks(spread_, top_, spread_table_, tokens_);
    PipeBarrier<PIPE_V>();
    each_step(by_token_, [&](int32_t, int32_t offset, uint64_t lanes) __aicore__ {
      Sub(score_[offset], logit_[offset], spread_, lanes, uint8_t(by_token_.repeats), with_own(by_token_));
    });
    PipeBarrier<PIPE_V>();
    Exp(score_, score_, touched(by_token_));
    PipeBarrier<PIPE_V>();
    reduce<ReduceMode::REDUCE_SUM>(by_token_, total_, score_, found_, spread_);
    PipeBarrier<PIPE_V>();
    WithoutZero(total_);
    return tops;
  }

  // A total of 0 becomes 1: what it divides is 0.
  __aicore__ inline void WithoutZero(const LocalTensor<float>& totals) {
    CompareScalar(bits_, totals, 0.0f, CMPMODE::NE, space_.token_rows);
    PipeBarrier<PIPE_V>();
    Select(totals, bits_, totals, 1.0f, SELMODE::VSEL_TENSOR_SCALAR_MODE, space_.token_rows);
    PipeBarrier<PIPE_V>();
  }

  // 1 / (1 + exp(-x)); `ones` is as large.
  __aicore__ inline void Sigmoid(const LocalTensor<float>& to, const LocalTensor<float>& from,
                                 const LocalTensor<float>& ones, int32_t size) {
    Muls(to, from, -1.0f, size);
    Duplicate(ones, 1.0f, size);
    PipeBarrier<PIPE_V>();
    Exp(to, to, size);
    PipeBarrier<PIPE_V>();
    Adds(to, to, 1.0f, size);
    PipeBarrier<PIPE_V>();
    Div(to, ones, to, size);
    PipeBarrier<PIPE_V>();
  }

  // Score + bias in place of the logits, but -inf where a logit is.
  __aicore__ inline void Ranks() {
    int32_t size = touched(by_token_), whole = int32_t(round_up(tokens_ * tiling_.lanes, LANES));
    uint8_t repeats = uint8_t(by_token_.repeats);
    CompareScalar(bits_, logit_, -INFINITE, CMPMODE::NE, whole);
    PipeBarrier<PIPE_V>();
    if (tiling_.softmax) {
      Mins(logit_, score_, LARGEST, size);  // inf / inf would not be 0
      to_blocks(spread_, total_, spread_table_, tokens_);
      PipeBarrier<PIPE_V>();
      each_step(by_token_, [&](int32_t, int32_t offset, uint64_t lanes) __aicore__ {
        Div(logit_[offset], logit_[offset], spread_, lanes, repeats, with_own(by_token_));
      });
      PipeBarrier<PIPE_V>();
    } else {
      Sigmoid(score_, logit_, found_, size);
    }
    const LocalTensor<float>& scores = tiling_.softmax ? logit_ : score_;
    each_step(by_token_, [&](int32_t, int32_t offset, uint64_t lanes) __aicore__ {
      Add(logit_[offset], scores[offset], bias_[offset], lanes, repeats, with_shared(by_token_));
    });
    PipeBarrier<PIPE_V>();
    Select(logit_, bits_, logit_, -INFINITE, SELMODE::VSEL_TENSOR_SCALAR_MODE, whole);
    PipeBarrier<PIPE_V>();
  }

  // The place in its group of each group's best expert, to chosen_; -inf is best where nothing else is left. The best
  // ranks come to best_, or are `known` there.
  __aicore__ inline void Choose(int32_t choice, bool known) {
    const LocalTensor<float> chosen = chosen_[choice * space_.group_rows];
    int32_t rows = by_group_.rows, step = int32_t(round_up(by_group_.repeats * 8, BLOCK_BYTES));  // of bits
    uint8_t repeats = uint8_t(by_group_.repeats);
    bool first = choice == 0;  // no expert is taken yet: all groups read the same places
    const LocalTensor<float>& places = first ? places_ : left_;
    BinaryRepeatParams from_places = first ? from_shared(by_group_) : with_own(by_group_);
    if (!known) {
      reduce<ReduceMode::REDUCE_MAX>(by_group_, best_, logit_, found_, spread_);
      PipeBarrier<PIPE_V>();
    }
    to_blocks(spread_, best_, spread_table_, rows);
    PipeBarrier<PIPE_V>();
    each_step(by_group_, [&](int32_t i, int32_t offset, uint64_t lanes) __aicore__ {
      Compare(bits_[i * step], logit_[offset], spread_, CMPMODE::EQ, lanes, repeats, with_own(by_group_));
    });
    PipeBarrier<PIPE_V>();
    each_step(by_group_, [&](int32_t i, int32_t offset, uint64_t lanes) __aicore__ {
      Select(found_[offset], bits_[i * step], places[offset], TAKEN, SELMODE::VSEL_TENSOR_SCALAR_MODE, lanes, repeats,
             from_places);
    });
    PipeBarrier<PIPE_V>();
    reduce<ReduceMode::REDUCE_MIN>(by_group_, chosen, found_, found_, spread_);
    PipeBarrier<PIPE_V>();
    if (choice + 1 == tiling_.topk_per_group) return;
    to_blocks(spread_, chosen, spread_table_, rows);
    PipeBarrier<PIPE_V>();
    each_step(by_group_, [&](int32_t i, int32_t offset, uint64_t lanes) __aicore__ {
      Compare(bits_[i * step], places[offset], spread_, CMPMODE::NE, lanes, repeats, from_places);
    });
    PipeBarrier<PIPE_V>();
    each_step(by_group_, [&](int32_t i, int32_t offset, uint64_t lanes) __aicore__ {
      Select(logit_[offset], bits_[i * step], logit_[offset], -INFINITE, SELMODE::VSEL_TENSOR_SCALAR_MODE, lanes,
             repeats, with_rows(by_group_));
      Select(left_[offset], bits_[i * step], places[offset], TAKEN, SELMODE::VSEL_TENSOR_SCALAR_MODE, lanes, repeats,
             from_places);
    });
    PipeBarrier<PIPE_V>();
  }

  // From the places in the groups to ids and weights, slot by slot.
  __aicore__ inline void Weights() {
    LocalTensor<float> weights = weights_queue_.template AllocTensor<float>();
    LocalTensor<int32_t> ids = ids_queue_.template AllocTensor<int32_t>();
    int32_t size = tokens_ * tiling_.slots, rest = touched(by_slot_) - size;
    LocalTensor<int32_t> offset = offset_.ReinterpretCast<int32_t>();
    bool scored = tiling_.softmax || tiling_.has_bias, ordered = tiling_.slots == tiling_.num_groups;
    if (!ordered) {
      Gather(place_, chosen_, order_.ReinterpretCast<uint32_t>(), 0, uint32_t(size));
      PipeBarrier<PIPE_V>();
    }
    ToIntegers(ids, ordered ? chosen_ : place_, size);
    Muls(offset, ids, int32_t(sizeof(float)), size);
    PipeBarrier<PIPE_V>();
    Add(ids, ids, first_id_.ReinterpretCast<int32_t>(), size);
    Add(offset, offset, group_at_.ReinterpretCast<int32_t>(), size);
    PipeBarrier<PIPE_V>();
    Gather(weights, score_, offset_.ReinterpretCast<uint32_t>(), 0, uint32_t(size));
    if (rest > 0) Duplicate(weights[size], 0.0f, rest);
    PipeBarrier<PIPE_V>();
    if (!scored) Sigmoid(weights, weights, place_, size);
    if (tiling_.softmax || tiling_.renormalize) Normalize(weights);
    if (tiling_.has_scale) {
      Muls(offset, ids, int32_t(sizeof(float)), size);
      PipeBarrier<PIPE_V>();
      Gather(place_, scale_, offset_.ReinterpretCast<uint32_t>(), 0, uint32_t(size));
      PipeBarrier<PIPE_V>();
      Mul(weights, weights, place_, size);
      PipeBarrier<PIPE_V>();
    }
    Muls(weights, weights, tiling_.scaling_factor, size);
    weights_queue_.EnQue(weights);
    ids_queue_.EnQue(ids);
  }

  __aicore__ inline void ToIntegers(const LocalTensor<int32_t>& to, const LocalTensor<float>& from, int32_t size) {
#ifdef PANGU_310P
    LocalTensor<half> narrow = offset_.ReinterpretCast<half>();  // it has no other way; places are exact in half
    from_float(narrow, from, size);
    PipeBarrier<PIPE_V>();
    Cast(to, narrow, RoundMode::CAST_RINT, size);
#else
    Cast(to, from, RoundMode::CAST_RINT, size);
#endif
    PipeBarrier<PIPE_V>();
  }

  // A token's weights over their own total, or over that of all its experts.
  __aicore__ inline void Normalize(const LocalTensor<float>& weights) {
    if (tiling_.renormalize) {
      if (top_k_ < tiling_.slots) {
        fill_from(by_slot_, weights, top_k_, 0.0f);
        PipeBarrier<PIPE_V>();
      }
      reduce<ReduceMode::REDUCE_SUM>(by_slot_, total_, weights, found_, spread_);
      PipeBarrier<PIPE_V>();
      WithoutZero(total_);
    }
    to_blocks(spread_, total_, spread_table_, tokens_);
    if (tiling_.softmax) Mins(weights, weights, LARGEST, touched(by_slot_));  // inf / inf would not be 0
    PipeBarrier<PIPE_V>();
    each_step(by_slot_, [&](int32_t, int32_t offset, uint64_t lanes) __aicore__ {
      Div(weights[offset], weights[offset], spread_, lanes, uint8_t(by_slot_.repeats), with_own(by_slot_));
    });
    PipeBarrier<PIPE_V>();
  }

  __aicore__ inline void CopyOut(int64_t token) {
    LocalTensor<float> weights = weights_queue_.template DeQue<float>();  // the copies wait for the vector unit
    LocalTensor<int32_t> ids = ids_queue_.template DeQue<int32_t>();
    int64_t first = token * tiling_.out_stride;
    copy_out(weights_[first], weights, tokens_, top_k_, tiling_.out_stride, tiling_.slots);
    copy_out(expert_ids_[first], ids, tokens_, top_k_, tiling_.out_stride, tiling_.slots);
    weights_queue_.FreeTensor(weights);  // the vector unit's next results in them wait for the copies
    ids_queue_.FreeTensor(ids);
  }

  GlobalTensor<T> logits_;
  GlobalTensor<float> weights_;
  GlobalTensor<int32_t> expert_ids_;
  TQue<TPosition::VECIN, 2> logits_queue_;
  TQue<TPosition::VECOUT, 2> weights_queue_, ids_queue_;
};

}  // namespace pangu::ascend

using pangu::ascend::MogeGatingTiling;  // see PANGU_ENTRIES

#define ENTRY(suffix, T)                                                                                    \
  extern "C" __global__ __aicore__ void moge_gating_##suffix(GM_ADDR logits, GM_ADDR correction_bias,       \
                                                             GM_ADDR expert_scale, GM_ADDR weights,         \
                                                             GM_ADDR expert_ids, MogeGatingTiling tiling) { \
    PANGU_KERNEL_TYPE(KERNEL_TYPE_AIV_ONLY);                                                                \
    AscendC::TPipe pipe;                                                                                    \
    pangu::ascend::MogeGatingKernel<T> kernel;                                                              \
    kernel.Init(&pipe, logits, correction_bias, expert_scale, weights, expert_ids, tiling);                 \
    kernel.Process();                                                                                       \
  }
PANGU_ENTRIES(ENTRY)
#undef ENTRY
