// spec_verify by probabilities and uniform numbers: rejection, block and typical.
#pragma once

#include "kernel/drafts.h"
#include "kernel/residual.h"
#include "kernel/team.h"

namespace pangu::ascend {

enum class VerifyMethod : int32_t { GREEDY, REJECTION, BLOCK, TYPICAL };  // a Verification

// Everything that probabilities and uniform numbers decide.
class SamplingVerifyKernel {
 public:
  __aicore__ inline void Init(TPipe* pipe, const SpecVerifyMemory& memory, GM_ADDR workspace,
                              const SpecVerifyTiling& tiling) {
    tiling_ = tiling;
    num_nodes_ = int32_t(tiling.num_nodes);
    target_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(memory.target));
    probs_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(memory.draft_probs));
    drafts_.Init(pipe, memory, true, tiling);
    team_.Init(pipe, workspace, tiling);
    units_.Init(pipe, tiling.tile);
    pipe->InitBuffer(parts_, PARTS, tiling.tile * int32_t(sizeof(float)));
    pipe->InitBuffer(list_buffer_, (num_nodes_ + 1) * 2 * int32_t(sizeof(int64_t)));
    pipe->InitBuffer(few_buffer_, int32_t(BLOCK_BYTES));
    list_ = list_buffer_.Get<int64_t>();
    begin_ = team_.rank() * tiling.span;
    end_ = begin_ + tiling.span < tiling.num_tiles ? begin_ + tiling.span : tiling.num_tiles;
  }

  __aicore__ inline void Process() {
    team_.ForSequences(tiling_.sequences, [&](int64_t sequence) __aicore__ { Verify(sequence); });
  }

 private:
  static constexpr int32_t PARTS = 4;  // of rows, in the unified buffer at once

  // A node that took its share of the target, and the target's mass before.
  struct Rejected {
    int32_t node;
    Real mass;
  };

  __aicore__ inline void Verify(int64_t sequence) {
    sequence_ = sequence;
    drafts_.Open(sequence);
    count_ = 0, token_ = -1;
    owner_ = 0;
    VerifyMethod method = VerifyMethod(tiling_.method);
    is_valid_ = drafts_.is_tree(method == VerifyMethod::BLOCK);
    arrive(0);
    if (is_valid_) {
      if (method == VerifyMethod::REJECTION) WalkByRejection();
      if (method == VerifyMethod::BLOCK) WalkByBlock();
      if (method == VerifyMethod::TYPICAL) WalkByTypical();
    }
    if (team_.rank() == owner_) drafts_.Write(is_valid_ ? count_ : -1, token_);
  }

  __aicore__ inline void WalkByRejection() {
    Real mass = one();
    for (int32_t i = 0; i < num_nodes_; i++) {
      DraftNode node = drafts_.at(i);
      if (!is_child(node)) continue;
      Real p = probability(node.p), q = probability(node.q), u = uniform(node.uniform);
      if (!is_valid_) return;
      p = after_rejected(p, node.draft);
      if (!is_valid_) return;
      if (less(multiply(multiply(u, q), mass), p)) {
        accept(i);
        mass = one();
        continue;
      }
      reject({i, mass});
      Measure(false);
      if (!is_valid_) return;
      if (total_ == 0) arrive(row_);  // nothing is left of the target: all of it is again
      mass = total_ == 0 ? one() : fraction(total_);
    }
    Draw();
  }

  // Prefixes are judged from the longest on.
  __aicore__ inline void WalkByBlock() {
    Real keep = one();  // of each prefix: what the target has of its probability too
    int32_t length = 0;
    for (;; length++) {
      put({0, keep}, length);
      if (length == num_nodes_) break;
      DraftNode node = drafts_.at(length);
      if (!drafts_.is_token(node.draft)) break;
      Real p = multiply(keep, probability(node.p)), q = probability(node.q);
      if (!is_valid_) return;
      if (q.digits > 0) {
        keep = divide(p, q);
        if (less(one(), keep)) keep = one();
      } else {
        keep = p.digits > 0 ? one() : zero();
      }
    }
    count_ = length;
    arrive(length);
    bool is_whole = length == 0 || less(uniform(drafts_.at(length - 1).uniform), keep);
    while (is_valid_ && !is_whole) {
      arrive(--count_);
      weight_ = get(count_).mass;
      first_ = {count_, one()};
      num_rejected_ = 1;
      if (count_ == 0) break;
      Measure(false);
      Real u = uniform(drafts_.at(count_ - 1).uniform), left = fraction(total_);
      is_whole = less(multiply(u, add(left, take(one(), weight_))), left);
    }
    if (!is_valid_) return;
    for (int32_t i = 0; i < count_; i++) drafts_.accept(i, i);
    Draw();
  }

  __aicore__ inline void WalkByTypical() {
    bool is_bound_known = false;
    float bound = 0.0f;  // of what is typical in this row
    for (int32_t i = 0; i < num_nodes_; i++) {
      DraftNode node = drafts_.at(i);
      if (!is_child(node)) continue;
      if (!is_bound_known) {
        Measure(true);
        if (!is_valid_) return;
        bound = tiling_.typical_alpha * exp_of_minus(total_);
        if (tiling_.typical_threshold < bound) bound = tiling_.typical_threshold;
        is_bound_known = true;
      }
      FloatBits p;
      p.bits = node.p;
      if (!(p.value > bound)) continue;
      accept(i);
      is_bound_known = false;
    }
    Draw();
  }

  __aicore__ inline void Draw() {
    if (!is_measured_) Measure(false);
    if (is_valid_ && total_ == 0 && num_rejected_ > 0) {
      arrive(row_);
      Measure(false);
    }
    Real u = uniform(drafts_.last_uniform());
    is_valid_ = is_valid_ && total_ > 0;
    if (!is_valid_) return;
    int64_t at = whole_part(multiply(u, rounded(uint64_t(total_), 0)));
    if (at > total_ - 1) at = total_ - 1;
    int64_t units;
    for (; at >= (units = team_.get(owner_, 0)); owner_++) at -= units;
    if (owner_ != team_.rank()) return;
    int32_t tile = begin_;
    for (; at >= (units = team_.get(owner_, 1 + tile - begin_)); tile++) at -= units;
    StartTiles(tile, tile + 1);
    Compute(tile, false);
    token_ = int64_t(tile) * tiling_.tile + units_.find(at);
  }

  // What is left of the row, or its entropy, in units: of each member its sum, then those of its tiles.
  __aicore__ inline void Measure(bool entropy) {
    int64_t sum = 0;
    StartTiles(begin_, end_);
    for (int32_t tile = begin_; tile < end_; tile++) {
      int64_t units = Compute(tile, entropy);
      team_.put(1 + tile - begin_, units);
      sum += units;
    }
    team_.put(0, sum);
    is_valid_ = team_.exchange(is_valid_);
    total_ = 0;
    for (int32_t member = 0; member < team_.size(); member++) total_ += team_.get(member, 0);
    is_measured_ = !entropy;
  }

  // The copies of these tiles' parts begin: of each tile the row's, then the rejected nodes'.
  __aicore__ inline void StartTiles(int32_t begin, int32_t end) {
    operands_ = 1 + (tiling_.has_draft_probs ? num_rejected_ : 0);
    first_tile_ = begin, to_copy_ = (end - begin) * operands_, copied_ = taken_ = 0;
  }

  __aicore__ inline int32_t columns_of(int32_t tile) const {
    int64_t left = tiling_.vocabulary - int64_t(tile) * tiling_.tile;
    return left < tiling_.tile ? int32_t(left) : tiling_.tile;
  }

  __aicore__ inline void CopyIn() {
    int32_t tile = first_tile_ + copied_ / operands_, operand = copied_ % operands_, columns = columns_of(tile);
    LocalTensor<float> part = parts_.AllocTensor<float>();
    int64_t column = int64_t(tile) * tiling_.tile, width = round_up(columns, BLOCK<float>);
    if (operand == 0) {
      int64_t row = sequence_ * (num_nodes_ + 1) + row_;
      copy_in(part, target_[row * tiling_.layout.target + column], 1, columns, columns, int32_t(width));
    } else {
      int64_t row = sequence_ * num_nodes_ + rejected(operand - 1).node;
      copy_in(part, probs_[row * tiling_.layout.draft_probs + column], 1, columns, columns, int32_t(width));
    }
    parts_.EnQue(part);  // the vector unit waits for the copy in DeQue
    copied_++;
  }

  // The next part, with zeros to the end of `count`.
  __aicore__ inline LocalTensor<float> Next(int32_t columns, int32_t count) {
    while (copied_ < to_copy_ && copied_ - taken_ < PARTS) CopyIn();
    LocalTensor<float> part = parts_.DeQue<float>();
    int32_t width = int32_t(round_up(columns, BLOCK<float>));
    if (width < count) Duplicate(part[width], 0.0f, count - width);
    PipeBarrier<PIPE_V>();
    return part;
  }

  __aicore__ inline void Done(const LocalTensor<float>& part) {
    parts_.FreeTensor(part);  // the next copy into it waits for the vector unit
    taken_++;
  }

  __aicore__ inline int64_t Compute(int32_t tile, bool entropy) {
    int32_t columns = columns_of(tile), count = int32_t(round_up(columns, 128));
    LocalTensor<float> p = Next(columns, count);
    if (entropy) {
      units_.Entropy(p, count);
    } else if (operands_ == 1 && is_one(weight_)) {
      units_.Whole(p, count);
    } else if (operands_ == 2 && is_one(weight_)) {  // the first rejected node takes all that it drafts
      LocalTensor<float> q = Next(columns, count);
      units_.Difference(p, q, count);
      Done(q);
    } else {
      units_.Begin(p, Factor(weight_), count);
      for (int32_t i = 0; i + 1 < operands_; i++) {
        LocalTensor<float> q = Next(columns, count);
        units_.Take(q, Factor(rejected(i).mass));
        Done(q);
      }
      units_.End();
    }
    Done(p);
    Units::Sum sum = units_.sum();
    is_valid_ = is_valid_ && sum.is_valid;
    if (is_valid_ && sum.is_doubtful) sum.units += SettleDoubtful(tile, columns, entropy);
    if (!entropy && !tiling_.has_draft_probs) sum.units += TakeChosen(tile, columns);
    units_.Settle();
    return sum.units;
  }

  __aicore__ inline int64_t SettleDoubtful(int32_t tile, int32_t columns, bool entropy) {
    int64_t change = 0;
    units_.FindDoubtful();
    for (int32_t word = 0; word * 64 < columns; word++) {
      uint64_t doubtful = units_.doubtful(word);
      for (int32_t i = word * 64; doubtful != 0 && i < columns; i++, doubtful >>= 1) {
        if (doubtful % 2 == 0) continue;
        int64_t units = units_of(int64_t(tile) * tiling_.tile + i);
        if (is_valid_ && !entropy) change += units_.Set(i, units);
      }
    }
    return change;
  }

  // Drafts that were chosen take all there is of one token.
  __aicore__ inline int64_t TakeChosen(int32_t tile, int32_t columns) {
    int64_t change = 0, first = int64_t(tile) * tiling_.tile;
    for (int32_t i = 0; i < num_rejected_; i++) {
      int64_t token = drafts_.draft(rejected(i).node);
      if (first <= token && token < first + columns) change += units_.Set(int32_t(token - first), units_of(token));
    }
    return change;
  }

  // What is left of a token, without doubt.
  __aicore__ inline int64_t units_of(int64_t token) {
    Real p = probability(drafts_.target_at(row_, token));
    if (!is_valid_) return 0;
    Real left = after_rejected(multiply(weight_, p), token);
    left.exponent += 44;
    return nearest(left);
  }

  __aicore__ inline Real after_rejected(Real left, int64_t token) {
    for (int32_t i = 0; i < num_rejected_; i++) {
      Rejected other = rejected(i);
      Real q = tiling_.has_draft_probs                ? probability(drafts_.draft_prob_at(other.node, token))
               : drafts_.draft(other.node) == token ? one()
                                                      : zero();
      if (is_valid_) left = take(left, multiply(other.mass, q));
    }
    return left;
  }

  __aicore__ inline bool is_child(const DraftNode& node) const {
    return node.parent == row_ - 1 && drafts_.is_token(node.draft);
  }

  __aicore__ inline Real probability(uint32_t bits) {
    bool is_right = bits < 0x40000000 || bits == 0x80000000;  // 0 to below 2, and -0
    is_valid_ = is_valid_ && is_right;
    return is_right ? real(bits) : zero();
  }

  __aicore__ inline Real uniform(float u) {
    bool is_right = u >= 0.0f && u < 1.0f;
    is_valid_ = is_valid_ && is_right;
    FloatBits word;
    word.value = u;
    return is_right ? real(word.bits) : zero();
  }

  __aicore__ inline static Real fraction(int64_t units) {
    Real result = rounded(uint64_t(units), 0);
    if (units > 0) result.exponent -= 44;
    return result;
  }

  __aicore__ inline float exp_of_minus(int64_t units) {
    LocalTensor<float> few = few_buffer_.Get<float>();
    Duplicate(few, float(int32_t(units >> 20)) * -0x1p-24f, BLOCK<float>);
    PipeBarrier<PIPE_V>();
    Exp(few, few, BLOCK<float>);
    wait<HardEvent::V_S>();  // the scalar unit waits for the vector unit
    float result = few.GetValue(0);
    wait<HardEvent::S_V>();  // and the next time the other way round
    return result;
  }

  __aicore__ inline void arrive(int32_t row) {
    row_ = row;
    is_measured_ = false;
    weight_ = one();
    num_rejected_ = 0;
  }

  __aicore__ inline void accept(int32_t i) {
    drafts_.accept(count_++, i);
    arrive(i + 1);
  }

  __aicore__ inline void reject(const Rejected& node) {
    if (num_rejected_ == 0)
      first_ = node;
    else
      put(node, num_rejected_);
    num_rejected_++;
    is_measured_ = false;
  }

  __aicore__ inline Rejected rejected(int32_t i) const { return i == 0 ? first_ : get(i); }

  __aicore__ inline void put(const Rejected& node, int32_t i) {
    list_.SetValue(2 * i, int64_t(node.mass.digits));
    list_.SetValue(2 * i + 1, int64_t(node.mass.exponent) << 32 | uint32_t(node.node));
  }
  __aicore__ inline Rejected get(int32_t i) const {
    int64_t word = list_.GetValue(2 * i + 1);
    return {int32_t(word), {uint64_t(list_.GetValue(2 * i)), int32_t(word >> 32)}};
  }

  SpecVerifyTiling tiling_;
  Drafts drafts_;
  Team team_;
  ResidualUnits units_;
  GlobalTensor<float> target_, probs_;
  TQue<TPosition::VECIN, PARTS> parts_;
  TBuf<TPosition::VECCALC> list_buffer_, few_buffer_;
  LocalTensor<int64_t> list_;  // rejected nodes but the first; for block verification what prefixes keep

  int32_t num_nodes_ = 0, begin_ = 0, end_ = 0;  // of this core's tiles
  int32_t first_tile_ = 0, operands_ = 1, to_copy_ = 0, copied_ = 0, taken_ = 0;
  int64_t sequence_ = 0, token_ = -1, total_ = 0;  // total_: of what is left, once it is measured
  int32_t row_ = 0, count_ = 0, owner_ = 0;  // the row that the walk has come to, the accepted nodes, who writes
  Real weight_ = one();                      // of the row
  Rejected first_{0, one()};
  int32_t num_rejected_ = 0;
  bool is_measured_ = false, is_valid_ = true;
};

}  // namespace pangu::ascend
