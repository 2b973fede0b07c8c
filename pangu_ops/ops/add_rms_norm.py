"""add_rms_norm: the residual addition and the normalisation that always follows it."""

import torch

from pangu_ops.ops.rms_norm import NORM_CASES, check_norm, norm_backward
from pangu_ops.ops.rms_norm import example as norm_example
from pangu_ops.ops.rms_norm import reference as norm
from pangu_ops.registry import check, check_float, register

OP = "add_rms_norm"


def add_rms_norm(x, residual, weight, eps=1e-5):
    """Add ``x`` to the residual stream and normalise the sum.

    Args:
        x: ``[..., H]`` float32, bfloat16 or float16.
        residual: like ``x``.
        weight: ``[H]`` of the dtype of ``x``.
        eps: added to the mean square.

    Returns:
        ``normed`` and ``sum``, both ``[..., H]`` of the dtype of ``x``. The norm reads the rounded sum, so the result
        equals :func:`rms_norm` of ``x + residual``.

    Equivalent to::

        sum = x + residual
        normed = rms_norm(sum, weight, eps)
    """
    return torch.ops.pangu.add_rms_norm(x, residual, weight, eps)


def outputs(x, residual, weight, eps=1e-5):
    check_norm(OP, x, weight)
    check(residual.shape == x.shape, OP, "residual must have the shape of x", residual)
    check_float(OP, x=x, residual=residual)
    return x.new_empty(x.shape), x.new_empty(x.shape)


def reference(x, residual, weight, eps=1e-5):
    total = x + residual
    return norm(total, weight, eps), total


def setup_context(ctx, inputs, output):
    _, _, weight, ctx.eps = inputs
    ctx.save_for_backward(output[1], weight)


def backward(ctx, grad_normed, grad_sum):
    total, weight = ctx.saved_tensors
    grad_x, grad_weight = norm_backward(grad_normed, total, weight, ctx.eps)
    grad_x = grad_x + grad_sum
    return grad_x, grad_x, grad_weight, None


def example(T, H, dtype=torch.float32, seed=0):
    x, weight, eps = norm_example(T, H, dtype, seed)
    return x, norm_example(T, H, dtype, seed + 1)[0], weight, eps


register(
    OP,
    outputs,
    reference,
    setup_context=setup_context,
    backward=backward,
    example=example,
    exact=(1,),
    cases=NORM_CASES,
)
