// moge_gating: the parts of the unified buffer that a tile is computed in, and the tables that all tiles share.
#pragma once

#include "kernel/walk.h"
#include "tiling/moge_gating.h"

namespace pangu::ascend {

constexpr float TAKEN = 4096;  // instead of its place in the group, for an expert that is chosen already or none at all

class MogeGatingWork {
 protected:
  // The parts of the work buffer, and what starts as zeros: what instructions read past a tile's last row, for no use.
  __aicore__ inline void InitWork(TPipe* pipe, const MogeGatingTiling& tiling) {
    tiling_ = tiling;
    space_ = moge_gating_space(tiling);
    top_k_ = tiling.num_groups * tiling.topk_per_group;
    pipe->InitBuffer(work_, space_.work * sizeof(float));
    LocalTensor<float> work = work_.Get<float>();
    int32_t used = 0;
    auto take = [&](int32_t size) __aicore__ {
      used += size;
      return work[used - size];
    };
    logit_ = take(space_.lanes);
    score_ = take(space_.lanes);
    found_ = take(space_.lanes);
    left_ = take(tiling_.topk_per_group > 1 ? space_.lanes : 0);
    bits_ = take(space_.bits).ReinterpretCast<uint8_t>();
    order_ = take(space_.slots);
    group_at_ = take(space_.slots);
    first_id_ = take(space_.slots);
    place_ = take(space_.slots);
    offset_ = take(space_.slots);
    scale_ = take(space_.scale);
    places_ = take(space_.places);
    int32_t zeros = used;
    spread_ = take(space_.spread);
    spread_table_ = take(space_.spread_table);
    best_ = take(space_.best);
    chosen_ = take(tiling_.topk_per_group * space_.group_rows);
    top_ = take(space_.token_rows);
    total_ = take(space_.token_rows);
    bias_ = take(space_.bias);
    Duplicate(work[zeros], 0.0f, used - zeros);
    if (space_.places > 0) Duplicate(places_, TAKEN, space_.places);
    PipeBarrier<PIPE_V>();
    if (space_.places > 0) CreateVecIndex(places_, 0.0f, uint32_t(tiling_.group_size));
    if (tiling_.spread_by_table) extend(spread_table_, FLOATS, space_.spread / FLOATS, sizeof(float));
  }

  // For each slot of a tile in order: where its choice lies in chosen_, where its group begins in the logits, both in
  // bytes, and the group's first id. What fills the last block is as the first slot.
  __aicore__ inline void InitSlots() {
    LocalTensor<int32_t> order = order_.ReinterpretCast<int32_t>(), group_at = group_at_.ReinterpretCast<int32_t>();
    LocalTensor<int32_t> first_id = first_id_.ReinterpretCast<int32_t>();
    for (int32_t i = 0; i < tiling_.slots; i++) {
      int32_t slot = i < top_k_ ? i : 0, group = slot / tiling_.topk_per_group, choice = slot % tiling_.topk_per_group;
      order.SetValue(i, (choice * space_.group_rows + group) * int32_t(sizeof(float)));
      group_at.SetValue(i, group * tiling_.width * int32_t(sizeof(float)));
      first_id.SetValue(i, group * tiling_.group_size);
    }
    wait<HardEvent::S_V>();  // the vector unit waits for the scalar unit
    extend(order_, tiling_.slots, tiling_.tokens, tiling_.num_groups * sizeof(float));
    extend(group_at_, tiling_.slots, tiling_.tokens, tiling_.lanes * sizeof(float));
    extend(first_id_, tiling_.slots, tiling_.tokens, 0);
  }

  __aicore__ inline void InitExperts(GM_ADDR correction_bias, GM_ADDR expert_scale) {
    if (!tiling_.has_bias && !tiling_.has_scale) return;
    GlobalTensor<float> bias, scale;
    if (tiling_.has_bias) {
      wait<HardEvent::V_MTE2>();  // the copy waits for the vector unit's zeros
      bias.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(correction_bias), tiling_.rows * tiling_.expert_stride);
      copy_in(bias_, bias, tiling_.rows, tiling_.columns, tiling_.expert_stride, tiling_.row_width);
    }
    if (tiling_.has_scale) {
      scale.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(expert_scale), space_.scale);
      copy_in(scale_, scale, 1, tiling_.num_experts, tiling_.num_experts, space_.scale);
    }
    wait<HardEvent::MTE2_V>();  // the vector unit waits for the copies
    if (tiling_.has_bias) WithoutNan(bias_, bias_, tiling_.lanes);
  }

  // The numbers that are NaN become -inf, up to a whole repeat.
  __aicore__ inline void WithoutNan(const LocalTensor<float>& to, const LocalTensor<float>& from, int32_t size) {
    int32_t whole = int32_t(round_up(size, LANES));
    if (whole > size) {
      Duplicate(from[size], 0.0f, whole - size);
      PipeBarrier<PIPE_V>();
    }
    Compare(bits_, from, from, CMPMODE::EQ, whole);
    PipeBarrier<PIPE_V>();
    Select(to, bits_, from, -INFINITE, SELMODE::VSEL_TENSOR_SCALAR_MODE, whole);
    PipeBarrier<PIPE_V>();
  }

  MogeGatingTiling tiling_;
  MogeGatingSpace space_;
  int32_t top_k_;   // slots of a token
  int32_t tokens_;  // of the tile, and how its groups, tokens and slots are visited
  Walk by_group_, by_token_, by_slot_;
  TBuf<TPosition::VECCALC> work_;
  LocalTensor<float> logit_, score_, found_, left_;       // of each expert; in left_ its place or TAKEN
  LocalTensor<float> places_, bias_, scale_;              // the same for all groups, for all tokens
  LocalTensor<float> best_, chosen_;                      // of each group: its highest rank, and the places chosen
  LocalTensor<float> top_, total_;                        // of each token
  LocalTensor<float> order_, group_at_, first_id_;        // of each slot, as integers: see InitSlots
  LocalTensor<float> place_, offset_, spread_, spread_table_;
  LocalTensor<uint8_t> bits_;
};

}  // namespace pangu::ascend
