"""silu_mul: the activation of SwiGLU."""

import torch
import torch.nn.functional as F

from pangu_ops.registry import accumulate_dtype, check, check_float, register

OP = "silu_mul"


def silu_mul(gate_up):
    """``silu(gate) * up`` of a tensor that holds both, the gate's half first, in fp32 with one rounding at the end.

    Args:
        gate_up: ``[..., 2*I]`` float32, bfloat16 or float16.

    Returns:
        ``[..., I]`` of the dtype of ``gate_up``.

    Equivalent to::

        gate, up = gate_up.float().chunk(2, dim=-1)
        F.silu(gate) * up
    """
    return torch.ops.pangu.silu_mul(gate_up)


def outputs(gate_up):
    check(gate_up.dim() >= 1 and gate_up.shape[-1] % 2 == 0, OP, "gate_up must be [..., 2*I]", gate_up)
    check_float(OP, gate_up=gate_up)
    return gate_up.new_empty(*gate_up.shape[:-1], gate_up.shape[-1] // 2)


def reference(gate_up):
    gate, up = gate_up.to(accumulate_dtype(gate_up)).chunk(2, dim=-1)
    return (F.silu(gate) * up).to(gate_up.dtype)


def setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def backward(ctx, grad):
    (gate_up,) = ctx.saved_tensors
    gate, up = gate_up.to(accumulate_dtype(gate_up)).chunk(2, dim=-1)
    sigmoid = gate.sigmoid()
    silu = gate * sigmoid
    return torch.cat((grad * up * (sigmoid + silu * (1 - sigmoid)), grad * silu), -1).to(gate_up.dtype)


def example(T, I, dtype=torch.float32, seed=0):  # noqa: E741  I is the contract's name
    return (4 * torch.randn(T, 2 * I, generator=torch.Generator().manual_seed(seed)).to(dtype),)


register(
    OP,
    outputs,
    reference,
    setup_context=setup_context,
    backward=backward,
    example=example,
    cases=(dict(T=0, I=4), dict(T=1, I=1), dict(T=3, I=21), dict(T=6, I=1344)),
)
