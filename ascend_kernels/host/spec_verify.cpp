// spec_verify on an NPU.
#include "common/spec_verify.h"

#include <cmath>

#include "host/launch.h"
#include "tiling/spec_verify.h"

namespace pangu::ascend {

#define PARAMETERS                                                                                                   \
  uint8_t *draft_ids, uint8_t *parents, uint8_t *target, uint8_t *draft_probs, uint8_t *uniforms, uint8_t *token_ids, \
      uint8_t *num_accepted, uint8_t *accepted_nodes, uint8_t *workspace, Passed<SpecVerifyTiling> tiling
PANGU_KERNELS(spec_verify_greedy, PARAMETERS);
PANGU_KERNEL(spec_verify_sampling, PARAMETERS);
#undef PARAMETERS

namespace {

int32_t words_of(const Tensor& integers) { return integers.scalar_type() == ScalarType::Long ? 2 : 1; }

// What float32 numbers must exceed in order to exceed a float64 number.
float next_below(double bound) {
  float value = float(bound);
  return double(value) > bound ? std::nextafter(value, -INFINITY) : value;
}

std::tuple<Tensor, Tensor, Tensor> spec_verify(const Tensor& draft_ids, const Tensor& parents, const Tensor& target,
                                               std::optional<Tensor> draft_probs, std::optional<Tensor> uniforms,
                                               std::string method, double typical_threshold, double typical_alpha) {
  SpecVerify op = spec_verify_prologue(draft_ids, parents, target, draft_probs, uniforms, method, typical_threshold,
                                       typical_alpha);
  bool by_id = op.vocabulary == 0;
  Dtype dtype = by_id ? Dtype::FLOAT : dtype_of("spec_verify", "target", op.target);
  const Chip& its_chip = chip(op.draft_ids);
  PANGU_CHECK(op.num_nodes <= spec_verify_most_nodes(its_chip), "spec_verify",
              "draft_ids must have at most " + std::to_string(spec_verify_most_nodes(its_chip)) +
                  " nodes a sequence on this chip", op.num_nodes);
  std::tuple<Tensor, Tensor, Tensor> results{op.token_ids, op.num_accepted, op.accepted_nodes};
  if (op.batch_size == 0) return results;

  SpecVerifyTiling tiling = spec_verify_tiling(op.batch_size, op.num_nodes, op.vocabulary,
                                               op.method == Verification::GREEDY, dtype, its_chip);
  tiling.method = int32_t(op.method);
  tiling.has_draft_probs = op.draft_probs && op.method != Verification::TYPICAL;
  tiling.typical_threshold = next_below(op.typical_threshold);
  tiling.typical_alpha = float(op.typical_alpha);

  Rows ids(op.draft_ids, op.num_nodes), tree(op.parents, op.num_nodes);
  std::vector<Named> tensors{{"draft_ids", ids.tensor}, {"parents", tree.tensor}};
  SpecVerifyLayout& layout = tiling.layout;
  layout.id_words = words_of(op.draft_ids);
  layout.target_words = by_id ? words_of(op.target) : 0;
  layout.ids = ids.stride * layout.id_words;
  layout.parents = op.parents.dim() == 2 ? tree.stride : 0;
  SpecVerifyTensors all{};
  all.draft_ids = address(ids.tensor), all.parents = address(tree.tensor);
  if (by_id) {  // which the scalar unit reads
    all.target = address(op.target);
    tensors.push_back({"target", op.target});
  } else {
    Rows rows(op.target, op.vocabulary);
    layout.target = rows.stride;
    all.target = address(rows.tensor);
    tensors.push_back({"target", rows.tensor});
  }
  if (tiling.has_draft_probs) {
    Rows probs(*op.draft_probs, op.vocabulary);
    layout.draft_probs = probs.stride;
    all.draft_probs = address(probs.tensor);
    tensors.push_back({"draft_probs", probs.tensor});
  }
  if (op.uniforms) {
    Rows numbers(*op.uniforms, op.num_nodes + 1);
    layout.uniforms = numbers.stride;
    all.uniforms = address(numbers.tensor);
    tensors.push_back({"uniforms", numbers.tensor});
  }
  OutRows tokens(op.token_ids, op.num_nodes + 1), counts(op.num_accepted, 1), nodes(op.accepted_nodes, op.num_nodes);
  layout.tokens = tokens.stride * layout.id_words;
  layout.counts = counts.stride;
  layout.nodes = nodes.stride;
  all.token_ids = address(tokens.tensor), all.num_accepted = address(counts.tensor);
  all.accepted_nodes = address(nodes.tensor);
  tensors.insert(tensors.end(), {{"token_ids", tokens.tensor, true},
                                 {"num_accepted", counts.tensor, true},
                                 {"accepted_nodes", nodes.tensor, true}});
  uint8_t* memory = nullptr;
  if (int64_t bytes = spec_verify_workspace_bytes(tiling)) {
    Tensor workspace = torch::stable::new_zeros(op.draft_ids, {bytes}, ScalarType::Byte);
    memory = address(workspace);
    tensors.push_back({"workspace", workspace});
  }
  launch("spec_verify", tensors,
         [=, is_greedy = op.method == Verification::GREEDY](void* stream) {
           if (is_greedy)
             return PANGU_LAUNCH_DTYPE(spec_verify_greedy, dtype, tiling.cores, stream, all.draft_ids, all.parents,
                                       all.target, all.draft_probs, all.uniforms, all.token_ids, all.num_accepted,
                                       all.accepted_nodes, memory, passed(tiling));
           return PANGU_LAUNCH(spec_verify_sampling, tiling.cores, stream, all.draft_ids, all.parents, all.target,
                               all.draft_probs, all.uniforms, all.token_ids, all.num_accepted, all.accepted_nodes,
                               memory, passed(tiling));
         });
  tokens.finish();
  counts.finish();
  nodes.finish();
  return results;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_ASCEND_KEY, m) { m.impl("spec_verify", TORCH_BOX(&spec_verify)); }

}  // namespace pangu::ascend
