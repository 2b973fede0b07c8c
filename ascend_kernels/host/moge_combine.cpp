// moge_combine on an NPU.
#include "common/moge_combine.h"

#include "host/launch.h"
#include "tiling/moge_combine.h"

namespace pangu::ascend {

PANGU_KERNELS(moge_combine, uint8_t* rows, uint8_t* weights, uint8_t* slot_rows, uint8_t* addend, uint8_t* out,
              Passed<MogeCombineTiling> tiling);

namespace {

Tensor moge_combine(const Tensor& all_rows, const Tensor& weights, const Tensor& slot_rows,
                    std::optional<Tensor> addend) {
  MogeCombine op = moge_combine_prologue(all_rows, weights, slot_rows, addend);
  Dtype dtype = dtype_of("moge_combine", "rows", op.rows);
  if (op.out.numel() == 0) return op.out;
  int64_t all_slots = op.num_tokens * op.num_slots;
  Rows rows(op.rows, op.hidden), more = op.addend ? Rows(*op.addend, op.hidden) : rows;
  Rows near_weights(op.weights, all_slots), near_rows(op.slot_rows, all_slots);
  OutRows out(op.out, op.hidden);
  MogeCombineTiling tiling = moge_combine_tiling(op.num_rows, op.num_tokens, op.num_slots, op.hidden, rows.stride,
                                                 op.addend.has_value(), dtype, chip(op.rows));
  std::vector<Named> tensors{{"rows", rows.tensor},
                             {"weights", near_weights.tensor},
                             {"slot_rows", near_rows.tensor},
                             {"out", out.tensor, true}};
  if (op.addend) tensors.push_back({"addend", more.tensor});
  launch("moge_combine", tensors,
         [=, rows = address(rows.tensor), weights = address(near_weights.tensor),
          slot_rows = address(near_rows.tensor), more = address(more.tensor),
          out = address(out.tensor)](void* stream) {
           return PANGU_LAUNCH_DTYPE(moge_combine, dtype, tiling.split.cores, stream, rows, weights, slot_rows, more,
                                     out, passed(tiling));
         });
  out.finish();
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_ASCEND_KEY, m) { m.impl("moge_combine", TORCH_BOX(&moge_combine)); }

}  // namespace pangu::ascend
