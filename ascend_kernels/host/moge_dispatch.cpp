// moge_dispatch on an NPU.
#include "common/moge_dispatch.h"

#include "host/launch.h"
#include "tiling/moge_dispatch.h"

namespace pangu::ascend {

PANGU_KERNEL(moge_dispatch_bytes, uint8_t* x, uint8_t* expert_ids, uint8_t* rows, uint8_t* slot_rows,
             uint8_t* expert_offsets, uint8_t* workspace, uint8_t* meetings, Passed<MogeDispatchTiling> tiling);

namespace {

std::tuple<Tensor, Tensor, Tensor> moge_dispatch(const Tensor& all_x, const Tensor& expert_ids, int64_t num_experts,
                                                 int64_t num_groups) {
  MogeDispatch op = moge_dispatch_prologue(all_x, expert_ids, num_experts, num_groups);
  Rows x(op.x, op.hidden), ids(op.expert_ids, op.num_slots);
  OutRows rows(op.rows, op.hidden), slot_rows(op.slot_rows, op.num_slots);
  OutRows expert_offsets(op.expert_offsets, op.num_experts + 1);
  MogeDispatchTiling tiling =
      moge_dispatch_tiling(op.num_tokens, op.num_slots, op.num_experts, op.num_groups, ids.stride,
                           x.stride * int64_t(op.x.element_size()), chip(op.x));
  // The cores' counts, of one window while the last one's are still read.
  Tensor workspace = empty_of(op.expert_ids, {tiling.exchange ? 2 * cores_of(tiling) * int64_t(tiling.counters) : 0});
  Tensor meetings = torch::stable::new_zeros(op.expert_ids, {tiling.meetings});
  launch("moge_dispatch",
         {{"x", x.tensor},
          {"expert_ids", ids.tensor},
          {"rows", rows.tensor, true},
          {"slot_rows", slot_rows.tensor, true},
          {"expert_offsets", expert_offsets.tensor, true},
          {"workspace", workspace, true},
          {"meetings", meetings}},
         [=, x = address(x.tensor), ids = address(ids.tensor), rows = address(rows.tensor),
          slot_rows = address(slot_rows.tensor), expert_offsets = address(expert_offsets.tensor),
          workspace = address(workspace), meetings = address(meetings)](void* stream) {
           return PANGU_LAUNCH(moge_dispatch_bytes, cores_of(tiling), stream, x, ids, rows, slot_rows, expert_offsets,
                               workspace, meetings, passed(tiling));
         });
  rows.finish();
  slot_rows.finish();
  expert_offsets.finish();
  return {op.rows, op.slot_rows, op.expert_offsets};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_ASCEND_KEY, m) { m.impl("moge_dispatch", TORCH_BOX(&moge_dispatch)); }

}  // namespace pangu::ascend
