"""add_rms_norm: one program owns a row, writes the rounded sum and reads it back for the norm."""

import triton
import triton.language as tl

from pangu_ops.ops.add_rms_norm import outputs
from pangu_ops.triton_kernels.launch import launch
from pangu_ops.triton_kernels.rms_norm import block_of


@triton.jit(do_not_specialize=["eps"])
def add_rms_norm_kernel(x, residual, weight, normed, total, H, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * H
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, H, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        a = tl.load(x + row + columns, mask=columns < H, other=0.0).to(tl.float32)
        b = tl.load(residual + row + columns, mask=columns < H, other=0.0).to(tl.float32)
        rounded = (a + b).to(total.dtype.element_ty)
        tl.store(total + row + columns, rounded, mask=columns < H)
        squares += rounded.to(tl.float32) * rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(squares) / H + eps)
    tl.debug_barrier()  # what a thread reads next another one may have written
    for start in range(0, H, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        v = tl.load(total + row + columns, mask=columns < H, other=0.0).to(tl.float32)
        w = tl.load(weight + columns, mask=columns < H, other=0.0).to(tl.float32)
        tl.store(normed + row + columns, (v * scale * w).to(normed.dtype.element_ty), mask=columns < H)


def add_rms_norm(x, residual, weight, eps=1e-5):
    normed, total = outputs(x, residual, weight, eps)
    hidden = x.shape[-1]
    block, warps = block_of(hidden)
    grid = (total.numel() // hidden,)
    args = (x.contiguous(), residual.contiguous(), weight.contiguous(), normed, total, hidden, eps)
    launch(add_rms_norm_kernel, grid, *args, BLOCK=block, num_warps=warps)
    return normed, total
