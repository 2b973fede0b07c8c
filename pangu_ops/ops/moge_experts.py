"""moge_experts: the SwiGLU feed-forward of every expert, each on its own range of rows."""

import torch
import torch.nn.functional as F

from pangu_ops.ops.moge_dispatch import ROUTING_CASES, moge_dispatch
from pangu_ops.ops.moge_dispatch import example as dispatch_example
from pangu_ops.registry import accumulate_dtype, check, check_device, check_float, check_int32, register

OP = "moge_experts"


def moge_experts(rows, expert_offsets, gate_up, down):
    """Grouped SwiGLU feed-forward, without biases (Pangu Pro MoE report, section 2.1; openPangu Pro MoE, 3.2).

    Args:
        rows: ``[R, H]`` float32, bfloat16 or float16, sorted by expert as :func:`moge_dispatch` returns them.
        expert_offsets: ``[E+1]`` int32, rising from 0 to R; expert e owns ``rows[offsets[e]:offsets[e+1]]``.
        gate_up: ``[E, 2*I, H]``, the gate's rows first, then the up projection's.
        down: ``[E, H, I]``.

    Returns:
        ``[R, H]`` of the dtype of ``rows``. Sums run in fp32. What the first product gives the second is fp32 too,
        but of the dtype of ``rows`` on a GPU, and bfloat16 where AMX tiles multiply bfloat16 experts. On a GPU no
        ``expert_offsets`` are refused: a row whose expert they leave open becomes that of one of them or 0.

    Equivalent to, for each expert e and its range::

        gate, up = (rows[range] @ gate_up[e].T).chunk(2, dim=-1)
        out[range] = (F.silu(gate) * up) @ down[e].T
    """
    return torch.ops.pangu.moge_experts(rows, expert_offsets, gate_up, down)


def check_weights(op, x, gate_up, down, name="x"):
    """What moge_experts and moge_ffn ask of the experts' weights."""
    check(
        gate_up.dim() == 3 and gate_up.shape[1] % 2 == 0 and gate_up.shape[2] == x.shape[1],
        op,
        f"gate_up must be [E, 2*I, H] with the H of {name}",
        gate_up,
    )
    num_experts, intermediate = gate_up.shape[0], gate_up.shape[1] // 2
    check(
        down.dim() == 3 and down.shape == (num_experts, x.shape[1], intermediate),
        op,
        f"down must be [E, H, I] = {[num_experts, x.shape[1], intermediate]}",
        down,
    )
    check_float(op, **{name: x}, gate_up=gate_up, down=down)


def outputs(rows, expert_offsets, gate_up, down):
    check(rows.dim() == 2, OP, "rows must be [R, H]", rows)
    check_weights(OP, rows, gate_up, down, "rows")
    num_offsets = gate_up.shape[0] + 1
    check(expert_offsets.shape == (num_offsets,), OP, f"expert_offsets must be [E+1] = [{num_offsets}]", expert_offsets)
    check_int32(OP, expert_offsets=expert_offsets)
    check_device(OP, rows=rows, expert_offsets=expert_offsets)
    return rows.new_empty(rows.shape)


def ranges(rows, expert_offsets):
    offsets = expert_offsets.tolist()
    check(
        offsets[0] == 0 and offsets[-1] == rows.shape[0] and offsets == sorted(offsets),
        OP,
        f"expert_offsets must rise from 0 to the number of rows, {rows.shape[0]}",
        "other values",
    )
    bounds = enumerate(zip(offsets, offsets[1:]))
    return [(expert, slice(begin, end)) for expert, (begin, end) in bounds if begin < end]


def reference(rows, expert_offsets, gate_up, down):
    dtype = accumulate_dtype(rows)
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    for expert, own in ranges(rows, expert_offsets):
        gate, up = (rows[own].to(dtype) @ gate_up[expert].to(dtype).T).chunk(2, dim=-1)
        out[own] = ((F.silu(gate) * up) @ down[expert].to(dtype).T).to(rows.dtype)
    return out


def setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def backward(ctx, grad):
    rows, expert_offsets, gate_up, down = ctx.saved_tensors
    grad_rows, grad_gate_up, grad_down = torch.ops.pangu.moge_experts_backward(
        grad, rows, expert_offsets, gate_up, down
    )
    return grad_rows, None, grad_gate_up, grad_down


def backward_outputs(grad, rows, expert_offsets, gate_up, down):
    wanted = outputs(rows, expert_offsets, gate_up, down)
    check(grad.shape == wanted.shape, f"{OP}_backward", "grad must have the shape of rows", grad)
    return rows.new_empty(rows.shape), gate_up.new_empty(gate_up.shape), down.new_empty(down.shape)


def backward_reference(grad, rows, expert_offsets, gate_up, down):
    dtype = accumulate_dtype(rows)
    grad_rows = torch.empty_like(rows, memory_format=torch.contiguous_format)
    grad_gate_up = torch.zeros_like(gate_up, memory_format=torch.contiguous_format)
    grad_down = torch.zeros_like(down, memory_format=torch.contiguous_format)
    for expert, own in ranges(rows, expert_offsets):
        x, dy = rows[own].to(dtype), grad[own].to(dtype)
        gate, up = (x @ gate_up[expert].to(dtype).T).chunk(2, dim=-1)
        sigmoid = gate.sigmoid()
        silu = gate * sigmoid
        grad_down[expert] = (dy.T @ (silu * up)).to(down.dtype)
        dh = dy @ down[expert].to(dtype)
        d_gate_up = torch.cat((dh * up * (sigmoid + silu * (1 - sigmoid)), dh * silu), -1)
        grad_gate_up[expert] = (d_gate_up.T @ x).to(gate_up.dtype)
        grad_rows[own] = (d_gate_up @ gate_up[expert].to(dtype)).to(rows.dtype)
    return grad_rows, grad_gate_up, grad_down


def expert_weights(E, H, I, dtype=torch.float32, seed=0):  # noqa: E741  I is the contract's name
    generator = torch.Generator().manual_seed(seed)
    gate_up = torch.randn(E, 2 * I, H, generator=generator) * max(1, H) ** -0.5
    down = torch.randn(E, H, I, generator=generator) * max(1, I) ** -0.5
    return gate_up.to(dtype), down.to(dtype)


def example(T, H, E, G, k, I=24, dtype=torch.float32, seed=0, **routing):  # noqa: E741
    rows, _, expert_offsets = moge_dispatch(*dispatch_example(T, H, E, G, k, dtype, seed, **routing))
    return rows, expert_offsets, *expert_weights(E, H, I, dtype, seed)


def backward_example(T, H, E, G, k, I=24, dtype=torch.float32, seed=0, **routing):  # noqa: E741
    args = example(T, H, E, G, k, I, dtype, seed, **routing)
    return torch.randn(args[0].shape, generator=torch.Generator().manual_seed(seed)).to(dtype), *args


EXPERT_CASES = (
    *ROUTING_CASES,
    dict(T=5, H=37, E=4, G=2, k=1, I=19),  # nothing is a multiple of a tile
    dict(T=150, H=96, E=4, G=2, k=1, I=64),  # whole tiles, an odd number of them
    dict(T=300, H=64, E=2, G=1, k=1, I=96, skew=0.3),  # more rows than stay in cache together
    dict(T=70, H=1100, E=2, G=2, k=1, I=40),  # more columns than one block takes
)

register(
    OP,
    outputs,
    reference,
    setup_context=setup_context,
    backward=backward,
    example=example,
    cases=EXPERT_CASES,
)
register("moge_experts_backward", backward_outputs, backward_reference, example=backward_example, cases=ROUTING_CASES)
