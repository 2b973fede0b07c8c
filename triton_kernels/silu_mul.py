"""silu_mul: one program owns a block of columns of one row."""

import triton
import triton.language as tl

from pangu_ops.ops.silu_mul import outputs
from pangu_ops.triton_kernels.launch import launch

BLOCK = 1024


@triton.jit
def swiglu(gate, up):
    """``silu(gate) * up`` of fp32 tensors."""
    return gate / (1.0 + tl.exp(-gate)) * up


@triton.jit
def silu_mul_kernel(gate_up, out, I, BLOCK: tl.constexpr):  # noqa: E741  I is the contract's name
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    gate = tl.load(gate_up + row * 2 * I + columns, mask=columns < I, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * I + I + columns, mask=columns < I, other=0.0).to(tl.float32)
    tl.store(out + row * I + columns, swiglu(gate, up).to(out.dtype.element_ty), mask=columns < I)


def silu_mul(gate_up):
    out = outputs(gate_up)
    columns = out.shape[-1]
    grid = (out.numel() // max(columns, 1), triton.cdiv(columns, BLOCK))
    launch(silu_mul_kernel, grid, gate_up.contiguous(), out, columns, BLOCK=BLOCK)
    return out
