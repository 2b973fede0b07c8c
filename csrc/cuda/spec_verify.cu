// spec_verify: a cluster of blocks owns a sequence, its warps neighbouring spans of the vocabulary. All threads walk the
// tree together, with the same numbers and so the same steps; where a verdict takes a whole row (what is left of the
// target's mass, its entropy, its likeliest token) each reads a share of it. A token is drawn by the lane whose span
// holds it. No error can be raised from here: a sequence whose parents are no earlier nodes, or for block verification
// no chain, is flagged as one without probabilities is.
#include "common/spec_verify.h"

#include "cuda/residual.h"

namespace pangu {
namespace {

constexpr int KNOWN_NODES = 128;  // of a sequence, that are looked up at once before the walk
constexpr int MAX_CLUSTER = 8;    // what every device with clusters can do

// A tensor of int64 or int32.
struct Integers {
  void* data;
  bool wide;

  __device__ int64_t operator[](int64_t i) const {
    return wide ? static_cast<int64_t*>(data)[i] : static_cast<int32_t*>(data)[i];
  }
  __device__ void put(int64_t i, int64_t value) const {
    if (wide)
      static_cast<int64_t*>(data)[i] = value;
    else
      static_cast<int32_t*>(data)[i] = int32_t(value);
  }
};

struct VerifyArguments {
  Integers draft_ids, target_ids, token_ids;
  const int32_t* parents;
  const void* target;                   // probabilities or logits; null where there are target_ids
  const float *draft_probs, *uniforms;  // null where not given
  int32_t *num_accepted, *accepted_nodes;
  int64_t parents_stride;
  int num_nodes, vocabulary;
  double typical_threshold, typical_alpha;
  Rejected* rejected;  // of more than KNOWN_NODES: [blocks, N + 1]
};

// A node and what the walk asks about it.
struct Node {
  int64_t draft;
  int parent;
  float p, q, uniform;  // p: of the draft, in the row after its parent
};

// The walk of one sequence; T is the type of the target.
template <class T>
class Walk {
 public:
  __device__ Walk(const VerifyArguments& args, int64_t sequence, const Owners& owners, Node* known, Rejected* rejected)
      : args_(args), owners_(owners), sequence_(sequence), known_(known), rejected_(rejected) {
    for (int i = threadIdx.x; i < min(KNOWN_NODES, args.num_nodes); i += ROW_THREADS) known[i] = look_up(i);
    arrive(0);
  }

  // The same for all threads, and behind a barrier.
  __device__ bool is_tree(bool is_chain) const {
    bool wrong = false;
    for (int i = threadIdx.x; i < args_.num_nodes; i += ROW_THREADS) {
      int parent = args_.parents[sequence_ * args_.parents_stride + i];
      wrong = wrong || parent < -1 || parent >= i || (is_chain && parent != i - 1);
    }
    return !__syncthreads_or(wrong);
  }

  __device__ void refuse() { valid_ = false; }

  __device__ void greedy() {
    last_ = likeliest();
    for (int i = 0; valid_ && i < args_.num_nodes; i++) {
      Node node = node_at(i);
      if (node.parent != row_ - 1 || node.draft != last_) continue;
      accept(i);
      last_ = likeliest();
    }
  }

  __device__ void rejection() {
    double mass = 1.0;
    for (int i = 0; i < args_.num_nodes; i++) {
      Node node = node_at(i);
      if (!is_child(node)) continue;
      double p = probability(node.p), q = draft_probability(node), u = uniform(node.uniform);
      if (left_.num_rejected) p = left_.at(node.draft, valid_);
      if (!valid_) return;
      if (__dmul_rn(__dmul_rn(u, q), mass) < p) {
        accept(i);
        mass = 1.0;
        continue;
      }
      reject(i, node, mass);
      measure();
      if (!valid_) return;
      if (total_ == 0) arrive(row_);  // nothing is left of the target: all of it is again
      mass = total_ == 0 ? 1.0 : fraction(total_);
    }
    draw();
  }

  // Prefixes are judged from the longest on.
  __device__ void block() {
    double* kept = reinterpret_cast<double*>(rejected_);  // of each prefix: what the target has of its probability too
    double keep = 1.0;
    int length = 0;
    for (;; length++) {
      if (threadIdx.x == 0) kept[length] = keep;
      if (length == args_.num_nodes) break;
      Node node = node_at(length);
      if (!is_token(node.draft)) break;
      double p = __dmul_rn(keep, probability(node.p)), q = draft_probability(node);
      if (!valid_) return;
      keep = q > 0 ? min(p / q, 1.0) : double(p > 0);
    }
    __syncthreads();
    count_ = length;
    arrive(length);
    bool whole = length == 0 || uniform(node_at(length - 1).uniform) < keep;
    if (!valid_) return;
    while (!whole) {
      arrive(--count_);
      left_.weight = kept[count_];
      left_.num_rejected = 1;
      left_.first = rejected_node(count_, node_at(count_), 1.0);
      if (count_ == 0) break;
      measure();
      double u = uniform(node_at(count_ - 1).uniform), left = fraction(total_);
      if (!valid_) return;
      if (__dmul_rn(u, __dadd_rn(left, __dsub_rn(1.0, left_.weight))) < left) break;
    }
    if (threadIdx.x == 0)
      for (int i = 0; i < count_; i++) put_node(i, i);
    draw();
  }

  __device__ void typical() {
    double bound = -1.0;  // of what is typical in this row, once it is known
    for (int i = 0; i < args_.num_nodes; i++) {
      Node node = node_at(i);
      if (!is_child(node)) continue;
      if (bound < 0) {
        double entropy = double(owners_.entropy(left_.row, valid_)) / PROBABILITY_SCALE;
        if (!valid_) return;
        bound = min(args_.typical_threshold, args_.typical_alpha * exp(-entropy));
      }
      if (!(node.p > bound)) continue;
      accept(i);
      bound = -1.0;
    }
    draw();
  }

  __device__ void write() const {
    __syncthreads();  // the accepted nodes are there
    if (valid_ && token_ >= 0) args_.token_ids.put(sequence_ * (args_.num_nodes + 1) + count_, token_);
    if (cluster_rank()) return;
    int count = valid_ ? count_ : -1;
    if (threadIdx.x == 0) args_.num_accepted[sequence_] = count;
    for (int i = threadIdx.x; i <= args_.num_nodes; i += ROW_THREADS) {
      int64_t token = -1;
      if (i < count) token = node_at(args_.accepted_nodes[sequence_ * args_.num_nodes + i]).draft;
      if (i == count) token = last_;
      if (i != count || last_ >= 0) args_.token_ids.put(sequence_ * (args_.num_nodes + 1) + i, token);
      if (i >= count && i < args_.num_nodes) args_.accepted_nodes[sequence_ * args_.num_nodes + i] = -1;
    }
  }

 private:
  __device__ Node look_up(int i) const {
    int64_t at = sequence_ * args_.num_nodes + i;
    Node node{args_.draft_ids[at], args_.parents[sequence_ * args_.parents_stride + i], 0.0f, 1.0f, 0.0f};
    if (!args_.uniforms) return node;
    node.uniform = args_.uniforms[at + sequence_];
    if (!is_token(node.draft) || node.parent < -1 || node.parent >= i) return node;
    node.p = widen(row_of(node.parent + 1)[node.draft]);
    if (args_.draft_probs) node.q = args_.draft_probs[at * args_.vocabulary + node.draft];
    return node;
  }

  __device__ Node node_at(int i) const { return i < KNOWN_NODES ? known_[i] : look_up(i); }

  __device__ const T* row_of(int index) const {
    return static_cast<const T*>(args_.target) + (sequence_ * (args_.num_nodes + 1) + index) * args_.vocabulary;
  }
  __device__ bool is_token(int64_t id) const { return 0 <= id && id < args_.vocabulary; }
  __device__ bool is_child(const Node& node) const { return node.parent == row_ - 1 && is_token(node.draft); }

  __device__ double probability(float p) {
    valid_ = valid_ && is_probability(p);
    return p;
  }
  __device__ double draft_probability(const Node& node) { return probability(args_.draft_probs ? node.q : 1.0f); }
  __device__ double uniform(float u) {
    valid_ = valid_ && u >= 0 && u < 1;
    return u;
  }
  __device__ static double fraction(uint64_t units) { return __ll2double_rn(int64_t(units)) / PROBABILITY_SCALE; }

  __device__ int64_t likeliest() {
    if (args_.target) return owners_.likeliest(row_of(row_), valid_);
    int64_t id = args_.target_ids[sequence_ * (args_.num_nodes + 1) + row_];
    valid_ = valid_ && id >= 0;
    return id;
  }

  __device__ void arrive(int row) {
    row_ = row;
    measured_ = false;
    left_ = {reinterpret_cast<const float*>(row_of(row)), 1.0, 0, {}, rejected_};
  }

  __device__ void put_node(int i, int node) const {
    if (cluster_rank() == 0) args_.accepted_nodes[sequence_ * args_.num_nodes + i] = node;
  }

  __device__ void accept(int i) {
    if (threadIdx.x == 0) put_node(count_, i);
    count_++;
    arrive(i + 1);
  }

  __device__ Rejected rejected_node(int i, const Node& node, double mass) const {
    int64_t at = (sequence_ * args_.num_nodes + i) * args_.vocabulary;
    return {args_.draft_probs ? args_.draft_probs + at : nullptr, node.draft, mass};
  }

  __device__ void reject(int i, const Node& node, double mass) {
    Rejected rejected = rejected_node(i, node, mass);
    if (left_.num_rejected == 0) {
      left_.first = rejected;
    } else {
      if (threadIdx.x == 0) rejected_[left_.num_rejected] = rejected;
      __syncthreads();
    }
    left_.num_rejected++;
    measured_ = false;
  }

  __device__ void measure() {
    total_ = owners_.mass(left_, valid_);
    measured_ = true;
  }

  __device__ void draw() {
    if (!measured_) measure();
    if (valid_ && total_ == 0 && left_.num_rejected) {
      arrive(row_);
      measure();
    }
    double u = uniform(args_.uniforms[sequence_ * (args_.num_nodes + 1) + args_.num_nodes]);
    valid_ = valid_ && total_ > 0;
    if (!valid_) return;
    uint64_t at = uint64_t(__double2ll_rz(__dmul_rn(u, __ll2double_rn(int64_t(total_)))));
    token_ = owners_.draw(left_, min(at, total_ - 1));
  }

  const VerifyArguments& args_;
  Owners owners_;
  int64_t sequence_;
  Node* known_;
  Rejected* rejected_;
  int row_ = 0, count_ = 0;  // the row of the target that the walk has come to, and how many nodes are accepted
  int64_t last_ = -1;        // the token after them, where all threads know it
  int token_ = -1;           // or this one, which was drawn
  Residual left_;            // of the row
  uint64_t total_ = 0;       // of what is left, once it is measured
  bool measured_ = false, valid_ = true;
};

template <class T, Verification METHOD>
__global__ __launch_bounds__(ROW_THREADS) void verify(VerifyArguments args) {
  PANGU_SHARED(uint64_t, warp_sums, 2 * ROW_WARPS);
  PANGU_SHARED(uint64_t, block_sums, 2);
  PANGU_SHARED(int, block_faults, 2);
  PANGU_SHARED(Node, known, KNOWN_NODES);
  PANGU_SHARED(Rejected, rejected, KNOWN_NODES + 1);
  Rejected* place = args.rejected ? args.rejected + int64_t(blockIdx.x) * (args.num_nodes + 1) : rejected;
  Walk<T> walk(args, blockIdx.x / cluster_size(), Owners(args.vocabulary, warp_sums, block_sums, block_faults), known,
               place);
  if (!walk.is_tree(METHOD == Verification::BLOCK))
    walk.refuse();
  else if constexpr (METHOD == Verification::GREEDY)
    walk.greedy();
  else if constexpr (METHOD == Verification::REJECTION)
    walk.rejection();
  else if constexpr (METHOD == Verification::BLOCK)
    walk.block();
  else
    walk.typical();
  walk.write();
  if (cluster_size() > 1) cluster_sync();  // others may still read this block's shared memory
}

template <class T, Verification METHOD>
void launch_verify(const Device& device, const SpecVerify& op, VerifyArguments& args) {
  // A sequence gets several multiprocessors where there are enough, and every thread something to read.
  int cluster = 1;
  if (device.runs_clusters(verify<T, METHOD>))
    while (cluster < MAX_CLUSTER && 2 * cluster * op.batch_size <= device.multiprocessors() &&
           2 * cluster * GROUP * ROW_THREADS <= op.vocabulary)
      cluster *= 2;
  Tensor rejected;
  if (op.num_nodes > KNOWN_NODES) {
    int64_t bytes = op.batch_size * cluster * (op.num_nodes + 1) * int64_t(sizeof(Rejected));
    rejected = empty_of(op.draft_ids, {bytes}, ScalarType::Byte);
    args.rejected = reinterpret_cast<Rejected*>(rejected.mutable_data_ptr());
  }
  device.launch(verify<T, METHOD>, Grid{op.batch_size * cluster, ROW_THREADS, 1, cluster}, args);
}

std::tuple<Tensor, Tensor, Tensor> spec_verify(const Tensor& draft_ids, const Tensor& parents, const Tensor& target,
                                               std::optional<Tensor> draft_probs, std::optional<Tensor> uniforms,
                                               std::string method, double typical_threshold, double typical_alpha) {
  SpecVerify op = spec_verify_prologue(draft_ids, parents, target, draft_probs, uniforms, method, typical_threshold,
                                       typical_alpha);
  if (op.batch_size == 0) return {op.token_ids, op.num_accepted, op.accepted_nodes};
  auto integers = [](const Tensor& tensor) {
    return Integers{tensor.mutable_data_ptr(), tensor.scalar_type() == ScalarType::Long};
  };
  VerifyArguments args{integers(op.draft_ids),
                       integers(op.target),
                       integers(op.token_ids),
                       data<int32_t>(op.parents),
                       op.vocabulary ? op.target.const_data_ptr() : nullptr,
                       op.draft_probs ? data<float>(*op.draft_probs) : nullptr,
                       op.uniforms ? data<float>(*op.uniforms) : nullptr,
                       mutable_data<int32_t>(op.num_accepted),
                       mutable_data<int32_t>(op.accepted_nodes),
                       op.parents.dim() == 2 ? op.num_nodes : 0,
                       int(op.num_nodes),
                       int(op.vocabulary),
                       op.typical_threshold,
                       op.typical_alpha,
                       nullptr};
  Device device("spec_verify", op.draft_ids);
  switch (op.method) {
    case Verification::GREEDY:
      if (!op.vocabulary) {
        launch_verify<float, Verification::GREEDY>(device, op, args);
        break;
      }
      with_dtype(op.target.scalar_type(),
                 [&](auto t) { launch_verify<decltype(t), Verification::GREEDY>(device, op, args); });
      break;
    case Verification::REJECTION: launch_verify<float, Verification::REJECTION>(device, op, args); break;
    case Verification::BLOCK: launch_verify<float, Verification::BLOCK>(device, op, args); break;
    case Verification::TYPICAL: launch_verify<float, Verification::TYPICAL>(device, op, args); break;
  }
  return {op.token_ids, op.num_accepted, op.accepted_nodes};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_CUDA_KEY, m) { m.impl("spec_verify", TORCH_BOX(&spec_verify)); }

}  // namespace pangu
