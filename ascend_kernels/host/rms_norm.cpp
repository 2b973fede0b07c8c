// rms_norm on an NPU.
#include "common/rms_norm.h"

#include "host/launch.h"
#include "tiling/rms_norm.h"

namespace pangu::ascend {

PANGU_KERNELS(rms_norm, uint8_t* x, uint8_t* weight, uint8_t* out, Passed<NormTiling> tiling);

namespace {

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  RmsNorm op = rms_norm_prologue(x, weight, eps);
  Dtype dtype = dtype_of("rms_norm", "x", op.x);
  if (op.num_rows == 0) return op.out;
  Rows in(op.x, op.hidden), weights(op.weight, op.hidden);
  OutRows out(op.out, op.hidden);
  NormTiling tiling = rms_norm_tiling(op.num_rows, op.hidden, in.stride, out.stride, op.eps, dtype, chip(op.x));
  launch("rms_norm", {{"x", in.tensor}, {"weight", weights.tensor}, {"out", out.tensor, true}},
         [=, in = address(in.tensor), weight = address(weights.tensor), out = address(out.tensor)](void* stream) {
           return PANGU_LAUNCH_DTYPE(rms_norm, dtype, tiling.tiles.split.cores, stream, in, weight, out,
                                     passed(tiling));
         });
  out.finish();
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_ASCEND_KEY, m) { m.impl("rms_norm", TORCH_BOX(&rms_norm)); }

}  // namespace pangu::ascend
