"""moge_ffn: dispatch, experts and combine in one op, with no copies in between."""

import torch

from pangu_ops.ops.moge_combine import reference as combine
from pangu_ops.ops.moge_dispatch import check_routing
from pangu_ops.ops.moge_dispatch import example as dispatch_example
from pangu_ops.ops.moge_dispatch import reference as dispatch
from pangu_ops.ops.moge_experts import EXPERT_CASES, check_weights, expert_weights
from pangu_ops.ops.moge_experts import reference as experts
from pangu_ops.registry import accumulate_dtype, check, check_device, check_float, register

OP = "moge_ffn"


def moge_ffn(x, weights, expert_ids, gate_up, down, num_groups, addend=None):
    """The routed half of a MoGE layer (Pangu Pro MoE report, section 2.1, eq. 7).

    Args:
        x: ``[T, H]`` float32, bfloat16 or float16.
        weights: ``[T, K]`` float32, as :func:`moge_gating` returns them.
        expert_ids: ``[T, K]`` int32; slot s belongs to group ``s // (K / num_groups)``, and an id outside its group
            is left out.
        gate_up: ``[E, 2*I, H]``, the gate's rows first, then the up projection's.
        down: ``[E, H, I]``.
        num_groups: G.
        addend: ``[T, H]`` of the dtype of ``x``, or None; added last (the shared expert's output).

    Returns:
        ``[T, H]`` of the dtype of ``x``. Sums run in fp32, over a token's slots in a fixed order; precision between
        the two products as in :func:`moge_experts`.

    Equivalent to::

        rows, slot_rows, offsets = moge_dispatch(x, expert_ids, E, num_groups)
        moge_combine(moge_experts(rows, offsets, gate_up, down), weights, slot_rows, addend)
    """
    return torch.ops.pangu.moge_ffn(x, weights, expert_ids, gate_up, down, num_groups, addend)


def outputs(x, weights, expert_ids, gate_up, down, num_groups, addend=None):
    check(x.dim() == 2, OP, "x must be [T, H]", x)
    check_weights(OP, x, gate_up, down)
    check_routing(OP, x, expert_ids, gate_up.shape[0], num_groups)
    check(weights.shape == expert_ids.shape, OP, "weights must have the shape of expert_ids", weights)
    check(weights.dtype == accumulate_dtype(x), OP, "weights must be float32", weights.dtype)
    check_device(OP, x=x, weights=weights)
    if addend is not None:
        check(addend.shape == x.shape, OP, "addend must be [T, H]", addend)
        check_float(OP, x=x, addend=addend)
    return x.new_empty(x.shape)


def reference(x, weights, expert_ids, gate_up, down, num_groups, addend=None):
    rows, slot_rows, offsets = dispatch(x, expert_ids, gate_up.shape[0], num_groups)
    return combine(experts(rows, offsets, gate_up, down), weights, slot_rows, addend)


def setup_context(ctx, inputs, output):
    x, weights, expert_ids, gate_up, down, ctx.num_groups, addend = inputs
    ctx.has_addend = addend is not None
    ctx.save_for_backward(x, weights, expert_ids, gate_up, down)


def backward(ctx, grad):
    """The backward of the three ops that this one stands for; the rows in between are computed again."""
    x, weights, expert_ids, gate_up, down = ctx.saved_tensors
    ops = torch.ops.pangu
    rows, slot_rows, offsets = ops.moge_dispatch(x, expert_ids, gate_up.shape[0], ctx.num_groups)
    expert_rows = ops.moge_experts(rows, offsets, gate_up, down)
    grad_expert_rows, grad_weights = ops.moge_combine_backward(grad, expert_rows, weights, slot_rows)
    grad_rows, grad_gate_up, grad_down = ops.moge_experts_backward(grad_expert_rows, rows, offsets, gate_up, down)
    grad_x = ops.moge_combine(grad_rows, torch.ones_like(weights), slot_rows)
    return grad_x, grad_weights, None, grad_gate_up, grad_down, None, grad if ctx.has_addend else None


def example(T, H, E, G, k, I=24, dtype=torch.float32, seed=0, addend=True, **routing):  # noqa: E741
    x, expert_ids, _, _ = dispatch_example(T, H, E, G, k, dtype, seed, **routing)
    generator = torch.Generator().manual_seed(seed + 1)
    weights = torch.rand(expert_ids.shape, generator=generator)
    gate_up, down = expert_weights(E, H, I, dtype, seed)
    addend = torch.randn(T, H, generator=generator).to(dtype) if addend else None
    return x, weights, expert_ids, gate_up, down, G, addend


register(
    OP,
    outputs,
    reference,
    setup_context=setup_context,
    backward=backward,
    example=example,
    cases=(*EXPERT_CASES, dict(T=12, H=20, E=8, G=2, k=1, addend=False)),
)
