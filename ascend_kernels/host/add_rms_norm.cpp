// add_rms_norm on an NPU.
#include "common/add_rms_norm.h"

#include "host/launch.h"
#include "tiling/add_rms_norm.h"

namespace pangu::ascend {

PANGU_KERNELS(add_rms_norm, uint8_t* x, uint8_t* residual, uint8_t* weight, uint8_t* normed, uint8_t* sum,
              Passed<NormTiling> tiling);

namespace {

std::tuple<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  AddRmsNorm op = add_rms_norm_prologue(x, residual, weight, eps);
  Dtype dtype = dtype_of("add_rms_norm", "x", op.x);
  if (op.num_rows == 0) return {op.normed, op.sum};
  Rows in(op.x, op.hidden), residuals(op.residual, op.hidden), weights(op.weight, op.hidden);
  OutRows normed(op.normed, op.hidden), sums(op.sum, op.hidden);
  NormTiling tiling = add_rms_norm_tiling(op.num_rows, op.hidden, in.stride, sums.stride, op.eps, dtype, chip(op.x));
  launch("add_rms_norm",
         {{"x", in.tensor},
          {"residual", residuals.tensor},
          {"weight", weights.tensor},
          {"normed", normed.tensor, true},
          {"sum", sums.tensor, true}},
         [=, in = address(in.tensor), residual = address(residuals.tensor), weight = address(weights.tensor),
          normed = address(normed.tensor), sum = address(sums.tensor)](void* stream) {
           return PANGU_LAUNCH_DTYPE(add_rms_norm, dtype, tiling.tiles.split.cores, stream, in, residual, weight,
                                     normed, sum, passed(tiling));
         });
  normed.finish();
  sums.finish();
  return {op.normed, op.sum};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_ASCEND_KEY, m) { m.impl("add_rms_norm", TORCH_BOX(&add_rms_norm)); }

}  // namespace pangu::ascend
