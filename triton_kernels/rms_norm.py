"""rms_norm: one program owns a row and reads it twice, the second time from the cache."""

import triton
import triton.language as tl

from pangu_ops.ops.rms_norm import outputs
from pangu_ops.triton_kernels.launch import launch

MAX_BLOCK = 8192


@triton.jit(do_not_specialize=["eps"])
def rms_norm_kernel(x, weight, out, H, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * H
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, H, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        v = tl.load(x + row + columns, mask=columns < H, other=0.0).to(tl.float32)
        squares += v * v
    scale = tl.rsqrt(tl.sum(squares) / H + eps)
    for start in range(0, H, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        v = tl.load(x + row + columns, mask=columns < H, other=0.0).to(tl.float32)
        w = tl.load(weight + columns, mask=columns < H, other=0.0).to(tl.float32)
        tl.store(out + row + columns, (v * scale * w).to(out.dtype.element_ty), mask=columns < H)


def block_of(hidden):
    """How many columns a program takes at once, and its warps: 8 elements or more a thread."""
    block = min(triton.next_power_of_2(hidden), MAX_BLOCK)
    return block, min(max(block // 512, 1), 16)


def rms_norm(x, weight, eps=1e-5):
    out = outputs(x, weight, eps)
    hidden = x.shape[-1]
    block, warps = block_of(hidden)
    grid = (out.numel() // hidden,)
    launch(rms_norm_kernel, grid, x.contiguous(), weight.contiguous(), out, hidden, eps, BLOCK=block, num_warps=warps)
    return out
