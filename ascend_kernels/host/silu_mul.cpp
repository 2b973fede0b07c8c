// silu_mul on an NPU.
#include "common/silu_mul.h"

#include "host/launch.h"
#include "tiling/silu_mul.h"

namespace pangu::ascend {

PANGU_KERNELS(silu_mul, uint8_t* gate_up, uint8_t* out, Passed<SiluMulTiling> tiling);

namespace {

Tensor silu_mul(const Tensor& gate_up) {
  SiluMul op = silu_mul_prologue(gate_up);
  Dtype dtype = dtype_of("silu_mul", "gate_up", op.gate_up);
  if (op.out.numel() == 0) return op.out;
  Rows in(op.gate_up, op.intermediate);
  OutRows out(op.out, op.intermediate);
  SiluMulTiling tiling =
      silu_mul_tiling(op.num_rows, op.intermediate, in.stride, out.stride, dtype, chip(op.gate_up));
  launch("silu_mul", {{"gate_up", in.tensor}, {"out", out.tensor, true}},
         [=, in = address(in.tensor), out = address(out.tensor)](void* stream) {
           return PANGU_LAUNCH_DTYPE(silu_mul, dtype, tiling.tiles.split.cores, stream, in, out, passed(tiling));
         });
  out.finish();
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_ASCEND_KEY, m) { m.impl("silu_mul", TORCH_BOX(&silu_mul)); }

}  // namespace pangu::ascend
