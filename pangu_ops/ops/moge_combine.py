"""moge_combine: the weighted sum of every token's expert rows."""

import torch

from pangu_ops.ops.moge_dispatch import ROUTING_CASES, moge_dispatch
from pangu_ops.ops.moge_dispatch import example as dispatch_example
from pangu_ops.registry import accumulate_dtype, check, check_device, check_float, check_int32, register

OP = "moge_combine"


def moge_combine(rows, weights, slot_rows, addend=None):
    """Gather each token's K rows and add them up by weight (Pangu Pro MoE report, section 2.1, eq. 7).

    The sum runs in fp32 in slot order, then ``addend`` (the shared expert's output) is added; there are no atomics,
    so two runs give the same bits. Slots whose row is -1 are left out.

    Args:
        rows: ``[R, H]`` float32, bfloat16 or float16.
        weights: ``[T, K]`` float32.
        slot_rows: ``[T, K]`` int32, each -1 or a row of ``rows``, as :func:`moge_dispatch` returns them. A value
            outside counts as -1.
        addend: ``[T, H]`` of the dtype of ``rows``, or None.

    Returns:
        ``[T, H]`` of the dtype of ``rows``.

    Equivalent to (no masked slots)::

        (rows[slot_rows].float() * weights[..., None]).sum(1) + addend
    """
    return torch.ops.pangu.moge_combine(rows, weights, slot_rows, addend)


def outputs(rows, weights, slot_rows, addend=None):
    check(rows.dim() == 2, OP, "rows must be [R, H]", rows)
    check_float(OP, rows=rows)
    check(slot_rows.dim() == 2, OP, "slot_rows must be [T, K]", slot_rows)
    check_int32(OP, slot_rows=slot_rows)
    check(weights.shape == slot_rows.shape, OP, "weights must have the shape of slot_rows", weights)
    check(weights.dtype == accumulate_dtype(rows), OP, "weights must be float32", weights.dtype)
    check_device(OP, rows=rows, weights=weights, slot_rows=slot_rows)
    if addend is not None:
        check(addend.shape == (slot_rows.shape[0], rows.shape[1]), OP, "addend must be [T, H]", addend)
        check_float(OP, rows=rows, addend=addend)
    return rows.new_empty(slot_rows.shape[0], rows.shape[1])


def gather(rows, slot_rows):
    """``rows[slot_rows]`` as ``[T, K, H]`` for the arithmetic, zero where masked; and which slots are not masked."""
    valid = (slot_rows >= 0) & (slot_rows < rows.shape[0])
    if rows.shape[0] == 0:
        return rows.new_zeros(*slot_rows.shape, rows.shape[1], dtype=accumulate_dtype(rows)), valid
    index = torch.where(valid, slot_rows, 0).long()
    return torch.where(valid[..., None], rows[index].to(accumulate_dtype(rows)), 0.0), valid


def reference(rows, weights, slot_rows, addend=None):
    picked, valid = gather(rows, slot_rows)
    total = picked.new_zeros(slot_rows.shape[0], rows.shape[1])
    for slot in range(slot_rows.shape[1]):
        total = torch.where(valid[:, slot, None], total + weights[:, slot, None] * picked[:, slot], total)
    if addend is not None:
        total = total + addend
    return total.to(rows.dtype)


def setup_context(ctx, inputs, output):
    rows, weights, slot_rows, addend = inputs
    ctx.has_addend = addend is not None
    ctx.save_for_backward(rows, weights, slot_rows)


def backward(ctx, grad):
    grad_rows, grad_weights = torch.ops.pangu.moge_combine_backward(grad, *ctx.saved_tensors)
    return grad_rows, grad_weights, None, grad if ctx.has_addend else None


def backward_outputs(grad, rows, weights, slot_rows):
    check(grad.shape == outputs(rows, weights, slot_rows).shape, f"{OP}_backward", "grad must be [T, H]", grad)
    return torch.empty_like(rows, memory_format=torch.contiguous_format), torch.empty_like(
        weights, memory_format=torch.contiguous_format
    )


def backward_reference(grad, rows, weights, slot_rows):
    grad = grad.to(accumulate_dtype(rows))
    picked, valid = gather(rows, slot_rows)
    grad_weights = torch.where(valid, (picked * grad[:, None]).sum(-1), 0.0)
    grad_rows = rows.new_zeros(rows.shape, dtype=grad.dtype)
    # Added, not written: a caller may point two slots at one row.
    grad_rows.index_add_(0, slot_rows[valid].long(), (weights[..., None] * grad[:, None])[valid])
    return grad_rows.to(rows.dtype), grad_weights


def example(T, H, E, G, k, dtype=torch.float32, seed=0, addend=True, **routing):
    rows, slot_rows, _ = moge_dispatch(*dispatch_example(T, H, E, G, k, dtype, seed, **routing))
    generator = torch.Generator().manual_seed(seed + 1)
    weights = torch.rand(slot_rows.shape, generator=generator)
    return rows, weights, slot_rows, torch.randn(T, H, generator=generator).to(dtype) if addend else None


def backward_example(T, H, E, G, k, dtype=torch.float32, seed=0, **routing):
    rows, weights, slot_rows, grad = example(T, H, E, G, k, dtype, seed, **routing)
    return grad, rows, weights, slot_rows


register(
    OP,
    outputs,
    reference,
    setup_context=setup_context,
    backward=backward,
    example=example,
    cases=(*ROUTING_CASES, dict(T=12, H=20, E=8, G=2, k=1, addend=False)),
)
register("moge_combine_backward", backward_outputs, backward_reference, example=backward_example, cases=ROUTING_CASES)
