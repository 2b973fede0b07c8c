"""moge_combine: one program owns a block of columns of a token, of several where they are short, and gathers for it.

Backward: one program owns a token and takes its gradient to the rows of its slots. Then one program owns a block of
columns of a few rows, and writes those that no slot points at, and again those that several do: it looks for these
slots and adds them up in order.
"""

import torch
import triton
import triton.language as tl

from pangu_ops.ops.moge_combine import backward_outputs, outputs
from pangu_ops.triton_kernels.launch import contiguous, launch


@triton.jit(do_not_specialize=["T", "R"])
def moge_combine_kernel(
    rows, weights, slot_rows, addend, out, T, R, H, K: tl.constexpr, TOKENS: tl.constexpr, BLOCK: tl.constexpr
):
    blocks = tl.cdiv(H, BLOCK)
    tokens = ((tl.program_id(0) // blocks).to(tl.int64) * TOKENS + tl.arange(0, TOKENS))[:, None]
    columns = (tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK))[None, :]
    present, inside = tokens < T, (tokens < T) & (columns < H)
    total = tl.zeros((TOKENS, BLOCK), tl.float32)
    # Unrolled, so that the loads of eight rows are on their way at once.
    for slot in tl.range(0, K, loop_unroll_factor=8):
        row = tl.load(slot_rows + tokens * K + slot, mask=present, other=-1)
        weight = tl.load(weights + tokens * K + slot, mask=present, other=0.0)
        valid = (row >= 0) & (row < R)
        v = tl.load(rows + row.to(tl.int64) * H + columns, mask=valid & inside, other=0.0)
        total = tl.where(valid, total + weight * v.to(tl.float32), total)
    own = tokens * H + columns
    if addend is not None:
        total += tl.load(addend + own, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + own, total.to(out.dtype.element_ty), mask=inside)


def tile_of(hidden, elements):
    """Rows and columns of a tile of that many elements; a row where it is long."""
    block = min(triton.next_power_of_2(max(hidden, 1)), elements)
    return elements // block, block


def moge_combine(rows, weights, slot_rows, addend=None):
    out = outputs(rows, weights, slot_rows, addend)
    (num_tokens, top_k), (num_rows, hidden) = slot_rows.shape, rows.shape
    tokens, block = tile_of(hidden, 1024)
    grid = (triton.cdiv(num_tokens, tokens) * triton.cdiv(hidden, block),)
    args = (*map(contiguous, (rows, weights, slot_rows, addend)), out, num_tokens, num_rows, hidden)
    launch(moge_combine_kernel, grid, *args, K=top_k, TOKENS=tokens, BLOCK=block)
    return out


@triton.jit(do_not_specialize=["count"])
def unmark_kernel(first, last, count, BLOCK: tl.constexpr):
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(first + rows, tl.full((BLOCK,), 2**63 - 1, tl.int64), mask=rows < count)
    tl.store(last + rows, tl.full((BLOCK,), -1, tl.int64), mask=rows < count)


@triton.jit(do_not_specialize=["count", "R"])
def mark_kernel(slot_rows, first, last, count, R, BLOCK: tl.constexpr):
    """The first and the last slot that points at each row: least and greatest do not depend on who comes when."""
    slots = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(slot_rows + slots, mask=slots < count, other=-1)
    valid = (row >= 0) & (row < R)
    tl.atomic_min(first + row, slots, mask=valid, sem="relaxed")
    tl.atomic_max(last + row, slots, mask=valid, sem="relaxed")


@triton.jit(do_not_specialize=["T", "R"])
def tokens_kernel(
    grad, rows, weights, slot_rows, grad_rows, grad_weights, T, R, H, K: tl.constexpr, TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    tokens = (tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS))[:, None]
    present = tokens < T
    for slot in range(K):
        slots = tokens * K + slot
        row = tl.load(slot_rows + slots, mask=present, other=-1)
        valid = (row >= 0) & (row < R)
        weight = tl.load(weights + slots, mask=valid, other=0.0)
        row = row.to(tl.int64) * H
        products = tl.zeros((TOKENS, BLOCK), tl.float32)
        for start in range(0, H, BLOCK):
            columns = (start + tl.arange(0, BLOCK))[None, :]
            inside = valid & (columns < H)
            g = tl.load(grad + tokens * H + columns, mask=inside, other=0.0).to(tl.float32)
            v = tl.load(rows + row + columns, mask=inside, other=0.0).to(tl.float32)
            products += g * v
            tl.store(grad_rows + row + columns, (weight * g).to(grad_rows.dtype.element_ty), mask=inside)
        tl.store(grad_weights + slots, tl.sum(products, 1, keep_dims=True), mask=present)


@triton.jit(do_not_specialize=["R"])
def rows_kernel(
    grad, weights, slot_rows, first, last, grad_rows, R, H, K: tl.constexpr, ROWS: tl.constexpr, SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(H, BLOCK)
    columns = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    top = (tl.program_id(0) // blocks).to(tl.int64) * ROWS
    rows = top + tl.arange(0, ROWS)
    alone = tl.load(first + rows, mask=rows < R, other=0) == tl.load(last + rows, mask=rows < R, other=0)
    if tl.min(alone.to(tl.int32)) == 0:
        for row in range(top, tl.minimum(top + ROWS, R)):
            begin, end = tl.load(first + row), tl.load(last + row)
            if begin != end:
                total = tl.zeros((BLOCK,), tl.float32)
                for start in range(begin, end + 1, SLOTS):
                    slots = start + tl.arange(0, SLOTS)
                    found = tl.load(slot_rows + slots, mask=slots <= end, other=-1) == row
                    for _ in range(tl.sum(found.to(tl.int32))):
                        slot = end - tl.max(tl.where(found, end - slots, -1))
                        found &= slots != slot
                        g = tl.load(grad + slot // K * H + columns, mask=columns < H, other=0.0)
                        total += tl.load(weights + slot) * g.to(tl.float32)
                tl.store(grad_rows + row * H + columns, total.to(grad_rows.dtype.element_ty), mask=columns < H)


def moge_combine_backward(grad, rows, weights, slot_rows):
    grad_rows, grad_weights = backward_outputs(grad, rows, weights, slot_rows)
    grad, weights, slot_rows = grad.contiguous(), weights.contiguous(), slot_rows.contiguous()
    (num_tokens, top_k), (num_rows, hidden) = slot_rows.shape, rows.shape
    first, last = (slot_rows.new_empty(num_rows, dtype=torch.int64) for _ in range(2))
    launch(unmark_kernel, (triton.cdiv(num_rows, 1024),), first, last, num_rows, BLOCK=1024)
    args = (slot_rows, first, last, slot_rows.numel(), num_rows)
    launch(mark_kernel, (triton.cdiv(slot_rows.numel(), 1024),), *args, BLOCK=1024)
    tokens, block = tile_of(hidden, 2048)
    args = (grad, rows.contiguous(), weights, slot_rows, grad_rows, grad_weights)
    sizes = dict(K=top_k, TOKENS=tokens, BLOCK=block)
    launch(tokens_kernel, (triton.cdiv(num_tokens, tokens),), *args, num_tokens, num_rows, hidden, **sizes)
    _, block = tile_of(hidden, 1024)
    grid = (triton.cdiv(num_rows, 32) * triton.cdiv(hidden, block),)
    args = (grad, weights, slot_rows, first, last, grad_rows, num_rows, hidden)
    launch(rows_kernel, grid, *args, K=top_k, ROWS=32, SLOTS=256, BLOCK=block)
    return grad_rows, grad_weights
