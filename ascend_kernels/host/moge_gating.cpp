// moge_gating on an NPU.
#include "common/moge_gating.h"

#include "host/launch.h"
#include "tiling/moge_gating.h"

namespace pangu::ascend {

PANGU_KERNELS(moge_gating, uint8_t* logits, uint8_t* correction_bias, uint8_t* expert_scale, uint8_t* weights,
              uint8_t* expert_ids, Passed<MogeGatingTiling> tiling);

namespace {

std::tuple<Tensor, Tensor> moge_gating(const Tensor& logits, int64_t num_groups, int64_t topk_per_group,
                                       std::string score_function, std::optional<Tensor> correction_bias,
                                       std::optional<Tensor> expert_scale, bool renormalize, double scaling_factor) {
  MogeGating op = moge_gating_prologue(logits, num_groups, topk_per_group, score_function, correction_bias,
                                       expert_scale, renormalize, scaling_factor);
  Dtype dtype = dtype_of("moge_gating", "logits", op.logits);
  if (op.num_tokens == 0) return {op.weights, op.expert_ids};
  auto tiling_for = [&](Dtype copied) {
    return moge_gating_tiling(op.num_tokens, op.num_experts, num_groups, topk_per_group, copied, chip(op.logits),
                              op.correction_bias.has_value(), op.expert_scale.has_value());
  };
  MogeGatingTiling tiling = tiling_for(dtype);
  if (tiling.tokens == 0) {  // hundreds of groups of a few experts, each in a block: half as large a one in fp32
    Tensor wide = torch::stable::new_empty(op.logits, op.logits.sizes(), ScalarType::Float);
    op.logits = torch::stable::copy_(wide, op.logits);
    tiling = tiling_for(dtype = Dtype::FLOAT);
  }
  tiling.softmax = op.softmax;
  tiling.renormalize = renormalize;
  tiling.scaling_factor = op.scaling_factor;

  Rows in(op.logits, tiling.columns);
  OutRows weights(op.weights, num_groups * topk_per_group), expert_ids(op.expert_ids, num_groups * topk_per_group);
  std::vector<Named> tensors{
      {"logits", in.tensor}, {"weights", weights.tensor, true}, {"expert_ids", expert_ids.tensor, true}};
  auto per_expert = [&](const char* name, const std::optional<Tensor>& tensor, int64_t columns) -> uint8_t* {
    if (!tensor) return nullptr;
    tensors.push_back({name, Rows(*tensor, columns).tensor});
    return address(tensors.back().tensor);
  };
  uint8_t* bias = per_expert("correction_bias", op.correction_bias, tiling.columns);
  uint8_t* scale = per_expert("expert_scale", op.expert_scale, op.num_experts);
  launch("moge_gating", tensors,
         [=, in = address(in.tensor), weights = address(weights.tensor),
          expert_ids = address(expert_ids.tensor)](void* stream) {
           return PANGU_LAUNCH_DTYPE(moge_gating, dtype, tiling.split.cores, stream, in, bias, scale, weights,
                                     expert_ids, passed(tiling));
         });
  weights.finish();
  expert_ids.finish();
  return {op.weights, op.expert_ids};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_ASCEND_KEY, m) { m.impl("moge_gating", TORCH_BOX(&moge_gating)); }

}  // namespace pangu::ascend
