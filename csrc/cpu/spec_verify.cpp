// spec_verify: every sequence walks its own tree and stops where it needs a number that takes a whole row of the
// vocabulary: what is left of the target's mass, its entropy, its likeliest token. Then all threads share the chunks of
// the rows that are waited for, each read once, and the walks go on. A token is drawn from the sums of the chunks, of
// which one is looked at again.
#include "common/spec_verify.h"

#include <torch/csrc/stable/library.h>

#include <numeric>

#include "cpu/experts.h"
#include "cpu/residual.h"

namespace pangu {
namespace {

constexpr int64_t SPAN = 8;  // chunks that one thread takes together: memory is slow to begin

// A tensor of int64 or int32.
class Integers {
 public:
  explicit Integers(const Tensor& tensor) : data_(tensor.data_ptr()), wide_(tensor.scalar_type() == ScalarType::Long) {}
  int64_t operator[](int64_t i) const {
    return wide_ ? static_cast<const int64_t*>(data_)[i] : static_cast<const int32_t*>(data_)[i];
  }
  void put(int64_t i, int64_t value) const {
    if (wide_)
      static_cast<int64_t*>(data_)[i] = value;
    else
      static_cast<int32_t*>(data_)[i] = int32_t(value);
  }

 private:
  void* data_;
  bool wide_;
};

int64_t entropy(const float* p, int64_t n, bool& valid) {
  int64_t sum = 0;
  for (int64_t i = 0; i < n; i++) {
    valid &= is_probability(p[i]);
    if (p[i] > 0) sum += int64_t(integer(-double(p[i]) * std::log(double(p[i]))));
  }
  return sum;
}

template <class T>
float highest(const T* logits, int64_t n, bool& valid) {
  vf best = splat(-INFINITY);
  auto good = best == best;
  for_vectors(n, [&](int64_t i, auto load, auto) {
    vf v = load(logits + i);
    good &= v == v;
    best = max(best, n - i < LANES ? keep_first(v, n - i, -INFINITY) : v);
  });
  for (int lane = 0; lane < LANES; lane++) valid &= good[lane] != 0;
  return max(best);
}

template <class T>
int64_t find(const T* logits, int64_t n, float value) {
  int64_t found = n;
  for_vectors(n, [&](int64_t i, auto load, auto) {
    vf v = load(logits + i);
    for (int64_t lane = std::min<int64_t>(LANES, n - i); lane--;)
      if (v[lane] == value && i + lane < found) found = i + lane;
  });
  return found;
}

// What one chunk of a row gives.
struct Part {
  int64_t sum = 0;  // of integers: mass or entropy
  float best = 0;   // the highest logit
  bool valid = true;
};

enum class Wanted { NOTHING, MASS, ENTROPY, BEST };

// The verification of one sequence; T is the type of the logits.
template <class T>
class Walk {
 public:
  Walk(const SpecVerify& op, int64_t sequence)
      : op_(op), b_(sequence), drafts_(op.draft_ids), target_ids_(op.target), token_ids_(op.token_ids),
        parents_(data<int32_t>(op.parents)),
        probs_(op.draft_probs ? data<float>(*op.draft_probs) + b_ * op.num_nodes * op.vocabulary : nullptr),
        uniforms_(op.uniforms ? data<float>(*op.uniforms) + b_ * (op.num_nodes + 1) : nullptr) {
    if (op.parents.dim() == 2) parents_ += b_ * op.num_nodes;
    if (op.method == Verification::BLOCK)
      keep_prefixes();
    else
      arrive(0);
  }

  bool waits() const { return wanted_ != Wanted::NOTHING; }

  // What the walk waits for, of the chunk of its row that begins at `first`.
  Part scan(int64_t first) const {
    int64_t n = std::min(ROW_CHUNK, op_.vocabulary - first);
    Part part;
    if (wanted_ == Wanted::MASS) part.sum = residual_.integers(first, n, nullptr, part.valid);
    if (wanted_ == Wanted::ENTROPY) part.sum = entropy(residual_.row + first, n, part.valid);
    if (wanted_ == Wanted::BEST) part.best = highest(logits() + first, n, part.valid);
    return part;
  }

  // Go on, with all chunks of what was waited for, until the next number is wanted or the verdict is written.
  void go_on(const Part* parts, int64_t num_parts) {
    parts_ = parts, num_parts_ = num_parts, total_ = 0;
    for (const Part* part = parts; part < parts + num_parts; part++) {
      total_ += part->sum;
      valid_ = valid_ && part->valid;
    }
    known_ = wanted_;
    wanted_ = Wanted::NOTHING;
    if (valid_) switch (op_.method) {
        case Verification::GREEDY: greedy(); break;
        case Verification::REJECTION: rejection(); break;
        case Verification::BLOCK: block(); break;
        case Verification::TYPICAL: typical(); break;
      }
    if (!valid_) wanted_ = Wanted::NOTHING;
    if (!waits()) write();
  }

 private:
  void greedy() {
    for (;;) {
      if (op_.vocabulary && known_ != Wanted::BEST) return want(Wanted::BEST);
      last_ = op_.vocabulary ? likeliest() : target_ids_[b_ * (op_.num_nodes + 1) + row_];
      if (last_ < 0) valid_ = false;
      while (node_ < op_.num_nodes && !(parents_[node_] == row_ - 1 && draft(node_) == last_)) node_++;
      if (!valid_ || node_ == op_.num_nodes) return;
      accept();
    }
  }

  void rejection() {
    if (known_ == Wanted::MASS && !residual_.rejected.empty()) {
      mass_ = double(total_) / PROBABILITY_SCALE;
      if (total_ == 0) restore();
    }
    for (; node_ < op_.num_nodes; node_++) {
      if (!is_child(node_)) continue;
      if (!residual_.rejected.empty() && known_ != Wanted::MASS) return want(Wanted::MASS);
      int64_t id = draft(node_);
      probability(residual_.row[id]);
      if (uniform(node_) * draft_probability(node_) * mass_ < residual_.at(id)) {
        accept();
        node_--;
      } else {
        residual_.rejected.push_back(rejected(node_, mass_));
        known_ = Wanted::NOTHING;
      }
      if (!valid_) return;
    }
    draw();
  }

  // Prefixes are judged from the longest on; row_ is the length of the one in question.
  void block() {
    for (; row_ > 0; arrive_at_prefix(row_ - 1)) {
      double threshold = uniform(row_ - 1), keep = keep_[row_];
      if (row_ == int64_t(keep_.size()) - 1) {
        if (threshold < keep) break;
      } else {
        if (known_ != Wanted::MASS) return want(Wanted::MASS);
        double left = double(total_) / PROBABILITY_SCALE;
        if (threshold * (left + (1.0 - keep)) < left) break;
      }
    }
    accepted_.resize(row_);
    std::iota(accepted_.begin(), accepted_.end(), 0);
    draw();
  }

  void typical() {
    if (known_ == Wanted::ENTROPY)
      bound_ = std::min(op_.typical_threshold, op_.typical_alpha * std::exp(-double(total_) / PROBABILITY_SCALE));
    for (; node_ < op_.num_nodes; node_++) {
      if (!is_child(node_)) continue;
      if (bound_ < 0) return want(Wanted::ENTROPY);
      if (residual_.row[draft(node_)] > bound_) {
        accept();
        node_--;
      }
    }
    draw();
  }

  // The share of each prefix's probability under the drafts that the target has too.
  void keep_prefixes() {
    keep_ = {1.0};
    for (int64_t node = 0; node < op_.num_nodes && is_token(draft(node)); node++) {
      double p = keep_[node] * probability(row(node)[draft(node)]), q = draft_probability(node);
      keep_.push_back(q > 0 ? std::min(p / q, 1.0) : double(p > 0));
    }
    arrive_at_prefix(keep_.size() - 1);
  }

  void arrive(int64_t row_index) {
    row_ = row_index;
    if (op_.method != Verification::GREEDY) residual_ = {row(row_), 1.0, {}};
    mass_ = 1.0;
    bound_ = -1.0;
    known_ = Wanted::NOTHING;
  }

  void arrive_at_prefix(int64_t length) {
    arrive(length);
    if (length + 1 < int64_t(keep_.size())) residual_ = {row(length), keep_[length], {rejected(length, 1.0)}};
  }

  // Nothing is left of the target: all of it is again.
  void restore() { arrive(row_); }

  void accept() {
    accepted_.push_back(node_);
    arrive(++node_);
  }

  void draw() {
    if (known_ == Wanted::MASS && total_ == 0) {
      if (residual_.rejected.empty()) return void(valid_ = false);
      restore();
    }
    if (known_ != Wanted::MASS) return want(Wanted::MASS);
    int64_t at = std::min(int64_t(uniform(op_.num_nodes) * double(total_)), total_ - 1), first = 0;
    if (!valid_) return;
    while (at >= parts_->sum) at -= parts_++->sum, first += ROW_CHUNK;
    double integers[ROW_CHUNK];
    residual_.integers(first, std::min(ROW_CHUNK, op_.vocabulary - first), integers, valid_);
    for (last_ = first; at >= int64_t(integers[last_ - first]); last_++) at -= int64_t(integers[last_ - first]);
  }

  // The highest logit's id, the lowest one of several; -1 where there is none.
  int64_t likeliest() const {
    const Part* best = std::max_element(parts_, parts_ + num_parts_, [](auto& a, auto& b) { return a.best < b.best; });
    int64_t first = (best - parts_) * ROW_CHUNK;
    if (!std::isfinite(best->best)) return -1;
    return first + find(logits() + first, std::min(ROW_CHUNK, op_.vocabulary - first), best->best);
  }

  void want(Wanted wanted) { wanted_ = wanted; }

  void write() const {
    int64_t count = valid_ ? int64_t(accepted_.size()) : -1;
    mutable_data<int32_t>(op_.num_accepted)[b_] = int32_t(count);
    int32_t* nodes = mutable_data<int32_t>(op_.accepted_nodes) + b_ * op_.num_nodes;
    for (int64_t i = 0; i < op_.num_nodes; i++) nodes[i] = i < count ? int32_t(accepted_[i]) : -1;
    for (int64_t i = 0; i <= op_.num_nodes; i++)
      token_ids_.put(b_ * (op_.num_nodes + 1) + i, i < count ? draft(accepted_[i]) : i == count ? last_ : -1);
  }

  const float* row(int64_t index) const {
    return data<float>(op_.target) + (b_ * (op_.num_nodes + 1) + index) * op_.vocabulary;
  }
  const T* logits() const {
    return data<T>(op_.target) + (b_ * (op_.num_nodes + 1) + row_) * op_.vocabulary;
  }
  int64_t draft(int64_t node) const { return drafts_[b_ * op_.num_nodes + node]; }
  bool is_token(int64_t id) const { return 0 <= id && id < op_.vocabulary; }
  bool is_child(int64_t node) const { return parents_[node] == row_ - 1 && is_token(draft(node)); }

  Residual::Rejected rejected(int64_t node, double mass) const {
    return {probs_ ? probs_ + node * op_.vocabulary : nullptr, draft(node), mass};
  }
  double draft_probability(int64_t node) {
    return probs_ ? probability(probs_[node * op_.vocabulary + draft(node)]) : 1.0;
  }
  double probability(double p) {
    valid_ = valid_ && is_probability(p);
    return p;
  }
  double uniform(int64_t index) {
    double u = uniforms_[index];
    valid_ = valid_ && u >= 0 && u < 1;
    return u;
  }

  const SpecVerify& op_;
  int64_t b_;
  Integers drafts_, target_ids_, token_ids_;
  const int32_t* parents_;
  const float *probs_, *uniforms_;

  int64_t row_ = 0, node_ = 0;  // the row of the target that the walk has come to, and the next node to try
  std::vector<int64_t> accepted_;
  int64_t last_ = -1;
  Residual residual_;
  double mass_ = 1.0;          // of what is left
  double bound_ = -1.0;        // what is typical in this row, once it is known
  std::vector<double> keep_;   // of each prefix
  Wanted wanted_ = Wanted::NOTHING, known_ = Wanted::NOTHING;  // of `residual_`, or of the row
  const Part* parts_ = nullptr;
  int64_t num_parts_ = 0, total_ = 0;
  bool valid_ = true;
};

void check_trees(const SpecVerify& op) {
  const int32_t* parents = data<int32_t>(op.parents);
  for (int64_t i = 0; i < op.parents.numel(); i++) {
    int64_t node = i % op.num_nodes, parent = parents[i];
    std::string came = std::to_string(parent) + " for node " + std::to_string(node);
    PANGU_CHECK(-1 <= parent && parent < node, "spec_verify", "parents must be -1 or an earlier node", came);
    PANGU_CHECK(op.method != Verification::BLOCK || parent == node - 1, "spec_verify",
                "parents must be a chain for block verification", came);
  }
}

template <class T>
void run(const SpecVerify& op) {
  std::vector<Walk<T>> walks;
  walks.reserve(op.batch_size);
  for (int64_t sequence = 0; sequence < op.batch_size; sequence++) walks.emplace_back(op, sequence);
  for (Walk<T>& walk : walks) walk.go_on(nullptr, 0);
  int64_t chunks = (op.vocabulary + ROW_CHUNK - 1) / ROW_CHUNK;
  std::vector<Part> parts(op.batch_size * chunks);
  std::vector<Walk<T>*> waiting;
  for (;;) {
    waiting.clear();
    for (Walk<T>& walk : walks)
      if (walk.waits()) waiting.push_back(&walk);
    if (waiting.empty()) return;
    int64_t spans = (chunks + SPAN - 1) / SPAN;
    for_units(waiting.size() * spans, [&](int64_t unit) {
      int64_t walk = unit / spans, first = unit % spans * SPAN;
      for (int64_t chunk = first; chunk < std::min(chunks, first + SPAN); chunk++)
        parts[walk * chunks + chunk] = waiting[walk]->scan(chunk * ROW_CHUNK);
    });
    for_units(waiting.size(), [&](int64_t i) { waiting[i]->go_on(&parts[i * chunks], chunks); });
  }
}

std::tuple<Tensor, Tensor, Tensor> spec_verify(const Tensor& draft_ids, const Tensor& parents, const Tensor& target,
                                               std::optional<Tensor> draft_probs, std::optional<Tensor> uniforms,
                                               std::string method, double typical_threshold, double typical_alpha) {
  SpecVerify op = spec_verify_prologue(draft_ids, parents, target, draft_probs, uniforms, method, typical_threshold,
                                       typical_alpha);
  check_trees(op);
  if (op.vocabulary)
    with_dtype(op.target.scalar_type(), [&](auto t) { run<decltype(t)>(op); });
  else
    run<float>(op);
  return {op.token_ids, op.num_accepted, op.accepted_nodes};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("spec_verify", TORCH_BOX(&spec_verify)); }

}  // namespace pangu
