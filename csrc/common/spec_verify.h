// spec_verify: the arguments of the kernels, and the checks and allocation that come first.
#pragma once

#include "common/dtype.h"

namespace pangu {

// Sums of probabilities are of integers, multiples of 1 / PROBABILITY_SCALE: no order of addition changes a verdict.
constexpr double PROBABILITY_SCALE = double(int64_t(1) << 44);
constexpr int64_t MAX_VOCABULARY = int64_t(1) << 18;  // keeps the sum of any numbers below 2 inside 63 bits

enum class Verification { GREEDY, REJECTION, BLOCK, TYPICAL };

struct SpecVerify {
  Tensor draft_ids, parents, target;
  std::optional<Tensor> draft_probs, uniforms;
  Tensor token_ids, num_accepted, accepted_nodes;
  int64_t batch_size, num_nodes, vocabulary;  // of target ids there is no vocabulary: 0
  Verification method;
  double typical_threshold, typical_alpha;
};

inline bool is_integer(ScalarType dtype) { return dtype == ScalarType::Int || dtype == ScalarType::Long; }

inline SpecVerify spec_verify_prologue(const Tensor& draft_ids, const Tensor& parents, const Tensor& target,
                                       std::optional<Tensor> draft_probs, std::optional<Tensor> uniforms,
                                       const std::string& method, double typical_threshold, double typical_alpha) {
  const char* op = "spec_verify";
  PANGU_CHECK(draft_ids.dim() == 2, op, "draft_ids must be [B, N]", draft_ids);
  PANGU_CHECK(is_integer(draft_ids.scalar_type()), op, "draft_ids must be int32 or int64", draft_ids.scalar_type());
  int64_t batch = draft_ids.size(0), nodes = draft_ids.size(1);
  std::string n = std::to_string(nodes), b = std::to_string(batch), rows = b + ", " + std::to_string(nodes + 1);
  bool one = parents.dim() == 1 && parents.size(0) == nodes;
  PANGU_CHECK(one || (parents.dim() == 2 && parents.size(0) == batch && parents.size(1) == nodes), op,
              "parents must be [N] or [B, N] = [" + n + "] or [" + b + ", " + n + "]", parents);
  check_dtype(op, "parents", parents, ScalarType::Int);
  PANGU_CHECK(method == "greedy" || method == "rejection" || method == "block" || method == "typical", op,
              "method must be greedy, rejection, block or typical", method);
  bool greedy = method == "greedy", ids = greedy && is_integer(target.scalar_type());
  if (ids) {
    PANGU_CHECK(target.dim() == 2 && target.size(0) == batch && target.size(1) == nodes + 1, op,
                "target ids must be [B, N + 1] = [" + rows + "]", target);
  } else {
    if (greedy)
      check_float(op, "target", target);
    else
      check_dtype(op, "target", target, ScalarType::Float);
    PANGU_CHECK(target.dim() == 3 && target.size(0) == batch && target.size(1) == nodes + 1, op,
                "target must be [B, N + 1, V] = [" + rows + ", V]", target);
  }
  int64_t vocabulary = ids ? 0 : target.size(2);
  PANGU_CHECK(ids || (1 <= vocabulary && vocabulary <= MAX_VOCABULARY), op,
              "the vocabulary must be 1 to 262144 tokens", vocabulary);
  check_device_of(op, "parents", parents, "draft_ids", draft_ids);
  check_device_of(op, "target", target, "draft_ids", draft_ids);
  if (greedy) draft_probs = uniforms = std::nullopt;
  if (draft_probs) {
    PANGU_CHECK(list(draft_probs->sizes()) == "[" + b + ", " + n + ", " + std::to_string(vocabulary) + "]", op,
                "draft_probs must be [B, N, V] = [" + b + ", " + n + ", " + std::to_string(vocabulary) + "]",
                *draft_probs);
    check_dtype(op, "draft_probs", *draft_probs, ScalarType::Float);
    check_device_of(op, "draft_probs", *draft_probs, "draft_ids", draft_ids);
    draft_probs = dense(*draft_probs);
  }
  PANGU_CHECK(greedy || uniforms, op, "uniforms must be given for " + method, "none");
  if (uniforms) {
    PANGU_CHECK(list(uniforms->sizes()) == "[" + rows + "]", op, "uniforms must be [B, N + 1] = [" + rows + "]",
                *uniforms);
    check_dtype(op, "uniforms", *uniforms, ScalarType::Float);
    check_device_of(op, "uniforms", *uniforms, "draft_ids", draft_ids);
    uniforms = dense(*uniforms);
  }
  return {dense(draft_ids),
          dense(parents),
          dense(target),
          draft_probs,
          uniforms,
          empty_of(draft_ids, {batch, nodes + 1}),
          empty_of(draft_ids, {batch}, ScalarType::Int),
          empty_of(draft_ids, {batch, nodes}, ScalarType::Int),
          batch,
          nodes,
          vocabulary,
          greedy                  ? Verification::GREEDY
          : method == "rejection" ? Verification::REJECTION
          : method == "block"     ? Verification::BLOCK
                                  : Verification::TYPICAL,
          typical_threshold,
          typical_alpha};
}

}  // namespace pangu
