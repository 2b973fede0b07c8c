// rotary on an NPU.
#include "common/rotary.h"

#include "host/launch.h"
#include "tiling/rotary.h"

namespace pangu::ascend {

PANGU_KERNELS(rotary, uint8_t* q, uint8_t* k, uint8_t* cos, uint8_t* sin, uint8_t* out_q, uint8_t* out_k,
              Passed<RotaryTiling> tiling);

namespace {

// Heads where they lie, unless they overlap, or on this chip halves must be padded to whole blocks.
struct HeadRows : Rows {
  Heads heads;

  HeadRows(const Tensor& x, int64_t half) : Rows(needs_dense(x, half) ? dense(x) : x, half) {
    int64_t count = x.size(1), size = 2 * stride;
    if (stride == half) {
      heads = {int32_t(count), tensor.stride(0), count > 1 ? tensor.stride(1) : size};
    } else {
      heads = {int32_t(count), count * size, size};
    }
  }

  static bool needs_dense(const Tensor& x, int64_t half) {
    bool is_padded = !chip(x).moves_bytes && half % (BLOCK_BYTES / x.element_size());
    return is_padded || (x.size(1) > 1 && x.stride(1) < 2 * half);
  }
};

std::tuple<Tensor, Tensor> rotary(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  Rotary op = rotary_prologue(q, k, cos, sin);
  Dtype dtype = dtype_of("rotary", "q", op.q);
  if (op.out_q.numel() + op.out_k.numel() == 0) return {op.out_q, op.out_k};
  HeadRows qs(op.q, op.half), ks(op.k, op.half);
  int64_t block = BLOCK_BYTES / q.element_size();
  Rows cosines(op.cos, op.half, block), sines(op.sin, op.half, block);
  OutRows out_q(op.out_q, op.half), out_k(op.out_k, op.half);
  RotaryTiling tiling = rotary_tiling(op.num_tokens, qs.stride, qs.heads, ks.heads, dtype, chip(op.q));
  launch("rotary",
         {{"q", qs.tensor},
          {"k", ks.tensor},
          {"cos", cosines.tensor},
          {"sin", sines.tensor},
          {"out_q", out_q.tensor, true},
          {"out_k", out_k.tensor, true}},
         [=, q = address(qs.tensor), k = address(ks.tensor), cos = address(cosines.tensor),
          sin = address(sines.tensor), out_q = address(out_q.tensor), out_k = address(out_k.tensor)](void* stream) {
           return PANGU_LAUNCH_DTYPE(rotary, dtype, tiling.tiles.split.cores, stream, q, k, cos, sin, out_q, out_k,
                                     passed(tiling));
         });
  out_q.finish();
  out_k.finish();
  return {op.out_q, op.out_k};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, PANGU_ASCEND_KEY, m) { m.impl("rotary", TORCH_BOX(&rotary)); }

}  // namespace pangu::ascend
