"""rotary: one program owns up to BLOCK heads of one token, queries' or keys'."""

import triton
import triton.language as tl

from pangu_ops.ops.rotary import outputs
from pangu_ops.triton_kernels.launch import launch

BLOCK = 8


@triton.jit
def rotate(x, out, cos, sin, token, first, HEADS: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr):
    """Rotate the heads [first, first + BLOCK) of one token."""
    heads = (first + tl.arange(0, BLOCK))[:, None]
    columns = tl.arange(0, triton.next_power_of_2(HALF))[None, :]
    inside = (heads < HEADS) & (columns < HALF)
    offsets = (token * HEADS + heads) * 2 * HALF + columns
    a = tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x + offsets + HALF, mask=inside, other=0.0).to(tl.float32)
    c = tl.load(cos + token * HALF + columns, mask=columns < HALF, other=0.0)
    s = tl.load(sin + token * HALF + columns, mask=columns < HALF, other=0.0)
    tl.store(out + offsets, (a * c - b * s).to(out.dtype.element_ty), mask=inside)
    tl.store(out + offsets + HALF, (b * c + a * s).to(out.dtype.element_ty), mask=inside)


@triton.jit
def rotary_kernel(
    q, k, q_out, k_out, cos, sin, HQ: tl.constexpr, HK: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr
):
    token, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK
    blocks = tl.cdiv(HQ, BLOCK) * BLOCK
    if first < blocks:
        rotate(q, q_out, cos, sin, token, first, HQ, HALF, BLOCK)
    else:
        rotate(k, k_out, cos, sin, token, first - blocks, HK, HALF, BLOCK)


def rotary(q, k, cos, sin):
    q_out, k_out = outputs(q, k, cos, sin)
    (tokens, hq, size), hk = q.shape, k.shape[1]
    grid = (tokens, triton.cdiv(hq, BLOCK) + triton.cdiv(hk, BLOCK))
    args = [*(tensor.contiguous() for tensor in (q, k)), q_out, k_out, cos.contiguous(), sin.contiguous()]
    launch(rotary_kernel, grid, *args, HQ=hq, HK=hk, HALF=size // 2, BLOCK=BLOCK)
    return q_out, k_out
