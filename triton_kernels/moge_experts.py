"""moge_experts: two grouped products, with SwiGLU at the end of the first.

Backward: the same products with transposed weights for the rows; of a weight's gradient a program owns a tile, and adds
up what the expert's rows give it in their order.
"""

import torch
import triton
import triton.language as tl

from pangu_ops.ops.moge_experts import backward_outputs, outputs
from pangu_ops.triton_kernels.grouped_gemm import grouped_gemm, range_of
from pangu_ops.triton_kernels.launch import launch
from pangu_ops.triton_kernels.moge_combine import tile_of


def moge_experts(rows, expert_offsets, gate_up, down):
    out = outputs(rows, expert_offsets, gate_up, down)
    rows, offsets, gate_up, down = (t.contiguous() for t in (rows, expert_offsets, gate_up, down))
    middle = grouped_gemm(rows, gate_up, rows.new_empty(len(rows), down.shape[2]), offsets, gated=True)
    return grouped_gemm(middle, down, out, offsets)


@triton.jit(do_not_specialize=["R"])
def swiglu_backward_kernel(
    gate_up,
    grad,
    hidden,
    grad_gate_up,
    R,
    I,  # noqa: E741
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program owns a block of columns of some rows: SwiGLU again, and the gradient of what went into it."""
    blocks = tl.cdiv(I, BLOCK)
    row = ((tl.program_id(0) // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    columns = (tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK))[None, :]
    inside = (row < R) & (columns < I)
    gate = tl.load(gate_up + row * 2 * I + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * I + I + columns, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(grad + row * I + columns, mask=inside, other=0.0).to(tl.float32)
    sigmoid = 1.0 / (1.0 + tl.exp(-gate))
    silu = gate * sigmoid
    tl.store(hidden + row * I + columns, (silu * up).to(hidden.dtype.element_ty), mask=inside)
    grad_gate = g * up * (sigmoid + silu * (1.0 - sigmoid))
    tl.store(grad_gate_up + row * 2 * I + columns, grad_gate.to(grad_gate_up.dtype.element_ty), mask=inside)
    tl.store(grad_gate_up + row * 2 * I + I + columns, (g * silu).to(grad_gate_up.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["R"])
def weight_gradient_kernel(
    a, b, offsets, out, R, E, N, K, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr
):
    """``out[e] = a[rows of e].T @ b[rows of e]``, ``[N, K]``; zero for an expert without rows."""
    expert = tl.program_id(1)
    blocks = tl.cdiv(K, BLOCK_K)
    ns = tl.program_id(0) // blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    ks = tl.program_id(0) % blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    begin, end = range_of(offsets, expert, R, E)
    begin = tl.maximum(begin, tl.load(offsets))
    end = tl.minimum(end, tl.load(offsets + E))
    sums = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for start in range(begin, end, BLOCK_R):
        rows = (start + tl.arange(0, BLOCK_R)).to(tl.int64)[:, None]
        left = tl.load(a + rows * N + ns[None, :], mask=(rows < end) & (ns < N)[None, :], other=0.0)
        right = tl.load(b + rows * K + ks[None, :], mask=(rows < end) & (ks < K)[None, :], other=0.0)
        sums = tl.dot(left.trans(), right, sums, input_precision="ieee")
    at = out + (expert.to(tl.int64) * N + ns.to(tl.int64))[:, None] * K + ks[None, :]
    tl.store(at, sums.to(out.dtype.element_ty), mask=(ns < N)[:, None] & (ks < K)[None, :])


def weight_gradient(a, b, offsets, out):
    (E, N, K), rows = out.shape, len(a)
    block_n, block_k, block_r, warps, stages = (32, 64, 32, 4, 2) if a.element_size() == 4 else (128, 128, 64, 8, 3)
    grid = (triton.cdiv(N, block_n) * triton.cdiv(K, block_k), E)
    launch(weight_gradient_kernel, grid, a, b, offsets, out, rows, E, N, K,
           BLOCK_N=block_n, BLOCK_K=block_k, BLOCK_R=block_r, num_warps=warps, num_stages=stages)  # fmt: skip
    return out


def moge_experts_backward(grad, rows, expert_offsets, gate_up, down):
    grad_rows, grad_gate_up, grad_down = backward_outputs(grad, rows, expert_offsets, gate_up, down)
    grad, rows, offsets, gate_up, down = (t.contiguous() for t in (grad, rows, expert_offsets, gate_up, down))
    num_rows, inner = len(rows), down.shape[2]
    # float32 until SwiGLU is through: a second rounding would show
    both = grouped_gemm(rows, gate_up, rows.new_empty(num_rows, 2 * inner, dtype=torch.float32), offsets)
    grad_hidden = rows.new_empty(num_rows, inner, dtype=torch.float32)
    grouped_gemm(grad, down, grad_hidden, offsets, transposed=True)
    hidden, grad_both = rows.new_empty(num_rows, inner), rows.new_empty(num_rows, 2 * inner)
    tile_rows, block = tile_of(inner, 1024)
    grid = (triton.cdiv(num_rows, tile_rows) * triton.cdiv(inner, block),)
    args = (both, grad_hidden, hidden, grad_both, num_rows, inner)
    launch(swiglu_backward_kernel, grid, *args, ROWS=tile_rows, BLOCK=block)
    grouped_gemm(grad_both, gate_up, grad_rows, offsets, transposed=True)
    weight_gradient(grad_both, rows, offsets, grad_gate_up)
    weight_gradient(grad, hidden, offsets, grad_down)
    return grad_rows, grad_gate_up, grad_down
