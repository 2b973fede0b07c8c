// The drafts of one sequence: the nodes of its tree, looked up a window at a time, and the verdict on them.
#pragma once

#include "kernel/kernel.h"
#include "tiling/spec_verify.h"

namespace pangu::ascend {

struct SpecVerifyMemory {
  GM_ADDR draft_ids;
  GM_ADDR parents;
  GM_ADDR target;
  GM_ADDR draft_probs;
  GM_ADDR uniforms;
  GM_ADDR token_ids;
  GM_ADDR num_accepted;
  GM_ADDR accepted_nodes;
};

union FloatBits {
  uint32_t bits;
  float value;
};

// A node and what the walk asks about it; numbers as their bits. p: of the draft, in the row after its parent.
struct DraftNode {
  int64_t draft;
  int32_t parent;
  uint32_t p, q;
  float uniform;
};

class Drafts {
 public:
  __aicore__ inline void Init(TPipe* pipe, const SpecVerifyMemory& memory, bool has_numbers,
                              const SpecVerifyTiling& tiling) {
    tiling_ = tiling, has_numbers_ = has_numbers;
    num_nodes_ = int32_t(tiling.num_nodes);
    ids_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(memory.draft_ids));
    parents_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(memory.parents));
    target_.SetGlobalBuffer(reinterpret_cast<__gm__ uint32_t*>(memory.target));
    probs_.SetGlobalBuffer(reinterpret_cast<__gm__ uint32_t*>(memory.draft_probs));
    uniforms_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(memory.uniforms));
    tokens_out_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(memory.token_ids));
    count_out_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(memory.num_accepted));
    nodes_out_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(memory.accepted_nodes));
    int32_t words = tiling.layout.id_words, block = BLOCK<int32_t>;
    int32_t window = KNOWN_NODES * (words + 2 + 2 * block);
    int32_t tokens = int32_t(round_up((num_nodes_ + 1) * words, block)), nodes = int32_t(round_up(num_nodes_, block));
    pipe->InitBuffer(buffer_, (window + tokens + nodes + block) * int32_t(sizeof(int32_t)));
    window_ids_ = part(0, KNOWN_NODES * words);
    window_parents_ = part(KNOWN_NODES * words, KNOWN_NODES);
    window_uniforms_ = part(KNOWN_NODES * (words + 1), KNOWN_NODES).ReinterpretCast<float>();
    window_p_ = part(KNOWN_NODES * (words + 2), KNOWN_NODES * block).ReinterpretCast<uint32_t>();
    window_q_ = part(KNOWN_NODES * (words + 2 + block), KNOWN_NODES * block).ReinterpretCast<uint32_t>();
    tokens_ = part(window, tokens + nodes + block);
    nodes_ = part(window + tokens, nodes + block);
    count_ = part(window + tokens + nodes, block);
    Duplicate(tokens_, 0, tokens + nodes + block);  // whole blocks are copied out
    wait<HardEvent::V_S>();
  }

  __aicore__ inline void Open(int64_t sequence) {
    wait<HardEvent::MTE3_S>();  // the scalar unit waits until the last verdict is copied
    sequence_ = sequence;
    first_ = -1;
  }

  // Whether the parents are what they must be.
  __aicore__ inline bool is_tree(bool is_chain) {
    for (int32_t i = 0; i < num_nodes_; i++) {
      look_up(i);
      int32_t parent = window_parents_.GetValue(i - first_);
      if (parent < -1 || parent >= i || (is_chain && parent != i - 1)) return false;
    }
    return true;
  }

  __aicore__ inline int64_t draft(int32_t i) {
    look_up(i);
    return id_at(window_ids_, tiling_.layout.id_words, i - first_);
  }

  __aicore__ inline DraftNode at(int32_t i) {
    DraftNode node{draft(i), window_parents_.GetValue(i - first_), 0, 0x3f800000, 0.0f};
    if (!has_numbers_) return node;
    if (!are_numbers_known_) look_up_numbers();
    int32_t place = i - first_;
    node.uniform = window_uniforms_.GetValue(place);
    if (!has_probabilities(node.draft, node.parent, i)) return node;
    node.p = window_p_.GetValue(place * BLOCK<float> + int32_t(node.draft % BLOCK<float>));
    if (tiling_.has_draft_probs) node.q = window_q_.GetValue(place * BLOCK<float> + int32_t(node.draft % BLOCK<float>));
    return node;
  }

  __aicore__ inline bool is_token(int64_t id) const { return 0 <= id && id < tiling_.vocabulary; }

  // One number each, past the window.
  __aicore__ inline uint32_t target_at(int64_t row, int64_t token) const {
    return target_.GetValue((sequence_ * (num_nodes_ + 1) + row) * tiling_.layout.target + token);
  }
  __aicore__ inline uint32_t draft_prob_at(int64_t node, int64_t token) const {
    return probs_.GetValue((sequence_ * num_nodes_ + node) * tiling_.layout.draft_probs + token);
  }
  __aicore__ inline float last_uniform() const {
    return uniforms_.GetValue(sequence_ * tiling_.layout.uniforms + num_nodes_);
  }

  __aicore__ inline static int64_t id_at(const LocalTensor<int32_t>& words, int32_t id_words, int32_t i) {
    if (id_words == 1) return words.GetValue(i);
    return int64_t(words.GetValue(2 * i + 1)) << 32 | uint32_t(words.GetValue(2 * i));
  }

  __aicore__ inline void accept(int32_t place, int32_t node) { nodes_.SetValue(place, node); }

  // The verdict: so many nodes and the token after them; -1 for a sequence that is flagged.
  __aicore__ inline void Write(int32_t count, int64_t last) {
    const SpecVerifyLayout& layout = tiling_.layout;
    for (int32_t i = 0; i <= num_nodes_; i++) {
      int64_t token = i < count ? draft(nodes_.GetValue(i)) : i == count ? last : -1;
      for (int32_t word = 0; word < layout.id_words; word++)
        tokens_.SetValue(i * layout.id_words + word, int32_t(token >> (32 * word)));
    }
    for (int32_t i = count < 0 ? 0 : count; i < num_nodes_; i++) nodes_.SetValue(i, -1);
    count_.SetValue(0, count);
    wait<HardEvent::S_MTE3>();  // the copies wait for the scalar unit
    put(tokens_out_[sequence_ * layout.tokens], tokens_, (num_nodes_ + 1) * layout.id_words);
    if (num_nodes_ > 0) put(nodes_out_[sequence_ * layout.nodes], nodes_, num_nodes_);
    put(count_out_[sequence_ * layout.counts], count_, 1);
  }

 private:
  __aicore__ inline LocalTensor<int32_t> part(int32_t first, int32_t words) {
    return buffer_.GetWithOffset<int32_t>(words, first * int32_t(sizeof(int32_t)));
  }

  template <class T>
  __aicore__ inline static void get(const LocalTensor<T>& to, const GlobalTensor<T>& from, int32_t count) {
    copy_in(to, from, 1, count, count, int32_t(round_up(count, BLOCK<T>)));
  }
  __aicore__ inline static void put(const GlobalTensor<int32_t>& to, const LocalTensor<int32_t>& from, int32_t count) {
    copy_out(to, from, 1, count, count, int32_t(round_up(count, BLOCK<int32_t>)));
  }

  // Brings in the window that node i lies in.
  __aicore__ inline void look_up(int32_t i) {
    if (first_ >= 0 && first_ <= i && i < first_ + KNOWN_NODES) return;
    const SpecVerifyLayout& layout = tiling_.layout;
    first_ = i / KNOWN_NODES * KNOWN_NODES;
    known_ = num_nodes_ - first_ < KNOWN_NODES ? num_nodes_ - first_ : KNOWN_NODES;
    are_numbers_known_ = false;
    wait<HardEvent::S_MTE2>();  // the copies wait until the scalar unit has read what was there
    get(window_ids_, ids_[sequence_ * layout.ids + first_ * layout.id_words], known_ * layout.id_words);
    get(window_parents_, parents_[sequence_ * layout.parents + first_], known_);
    if (has_numbers_) get(window_uniforms_, uniforms_[sequence_ * layout.uniforms + first_], known_);
    wait<HardEvent::MTE2_S>();  // the scalar unit waits for the copies
  }

  __aicore__ inline bool has_probabilities(int64_t draft, int32_t parent, int32_t node) const {
    return is_token(draft) && -1 <= parent && parent < node;
  }

  // Of each draft a block of the target and one of the draft's own probabilities, all copies under way at once.
  __aicore__ inline void look_up_numbers() {
    const SpecVerifyLayout& layout = tiling_.layout;
    for (int32_t i = 0; i < known_; i++) {
      int32_t node = first_ + i, parent = window_parents_.GetValue(i);
      int64_t draft = id_at(window_ids_, layout.id_words, i);
      if (!has_probabilities(draft, parent, node)) continue;
      int64_t block = round_down(draft, BLOCK<float>), left = tiling_.vocabulary - block;
      int32_t count = left < BLOCK<float> ? int32_t(left) : BLOCK<float>;
      int64_t row = sequence_ * (num_nodes_ + 1) + parent + 1;
      get(window_p_[i * BLOCK<float>], target_[row * layout.target + block], count);
      if (!tiling_.has_draft_probs) continue;
      row = sequence_ * num_nodes_ + node;
      get(window_q_[i * BLOCK<float>], probs_[row * layout.draft_probs + block], count);
    }
    wait<HardEvent::MTE2_S>();  // the scalar unit waits for the copies
    are_numbers_known_ = true;
  }

  SpecVerifyTiling tiling_;
  bool has_numbers_ = false, are_numbers_known_ = false;
  int32_t num_nodes_ = 0, first_ = -1, known_ = 0;
  int64_t sequence_ = 0;
  GlobalTensor<int32_t> ids_, parents_, tokens_out_, count_out_, nodes_out_;
  GlobalTensor<uint32_t> target_, probs_;
  GlobalTensor<float> uniforms_;
  TBuf<TPosition::VECCALC> buffer_;
  LocalTensor<int32_t> window_ids_, window_parents_, tokens_, nodes_, count_;
  LocalTensor<float> window_uniforms_;
  LocalTensor<uint32_t> window_p_, window_q_;
};

}  // namespace pangu::ascend
