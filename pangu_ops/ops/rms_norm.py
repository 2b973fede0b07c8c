"""rms_norm: root-mean-square normalisation of the last dimension."""

import torch

from pangu_ops.registry import accumulate_dtype, check, check_float, register

OP = "rms_norm"


def rms_norm(x, weight, eps=1e-5):
    """``x * rsqrt(mean(x^2) + eps) * weight`` over the last dimension, in fp32 with one rounding at the end.

    Args:
        x: ``[..., H]`` float32, bfloat16 or float16.
        weight: ``[H]`` of the dtype of ``x``.
        eps: added to the mean square.

    Returns:
        ``[..., H]`` of the dtype of ``x``.

    Equivalent to ``F.rms_norm(x, (H,), weight, eps)``.
    """
    return torch.ops.pangu.rms_norm(x, weight, eps)


def check_norm(op, x, weight):
    """What rms_norm and add_rms_norm ask of their input."""
    check(x.dim() >= 1 and x.shape[-1] >= 1, op, "x must be [..., H] with H at least 1", x)
    check(weight.shape == x.shape[-1:], op, "weight must be [H] with the H of x", weight)
    check_float(op, x=x, weight=weight)


def outputs(x, weight, eps=1e-5):
    check_norm(OP, x, weight)
    return x.new_empty(x.shape)


def reference(x, weight, eps=1e-5):
    wide = x.to(accumulate_dtype(x))
    return (wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt() * weight).to(x.dtype)


def setup_context(ctx, inputs, output):
    x, weight, ctx.eps = inputs
    ctx.save_for_backward(x, weight)


def norm_backward(grad, x, weight, eps):
    wide, grad = x.to(accumulate_dtype(x)), grad.to(accumulate_dtype(x))
    scale = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    unit = wide * scale
    grad_unit = grad * weight
    grad_x = scale * (grad_unit - unit * (grad_unit * unit).mean(-1, keepdim=True))
    grad_weight = (grad * unit).flatten(0, -2).sum(0) if x.dim() > 1 else grad * unit
    return grad_x.to(x.dtype), grad_weight.to(weight.dtype)


def backward(ctx, grad):
    return *norm_backward(grad, *ctx.saved_tensors, ctx.eps), None


def example(T, H, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(T, H, generator=generator).to(dtype), torch.rand(H, generator=generator).to(dtype), 1e-5


NORM_CASES = (
    dict(T=0, H=8),
    dict(T=1, H=1),
    dict(T=3, H=7),  # shorter than a vector
    dict(T=5, H=67),  # odd tail
    dict(T=2, H=5120),  # the released model
)

register(OP, outputs, reference, setup_context=setup_context, backward=backward, example=example, cases=NORM_CASES)
