"""linear: a dense layer that reads its weights as fast as the memory gives them."""

import torch

from pangu_ops.registry import accumulate_dtype, check, check_float, register

OP = "linear"


def linear(x, weight, bias=None):
    """A dense layer for few tokens or many; in float32 a token's result does not depend on its batch mates.

    In bfloat16 it does not either within :func:`pangu_ops.batch_invariant`.

    Args:
        x: ``[T, H]`` float32, bfloat16 or float16.
        weight: ``[N, H]`` of the dtype of ``x``.
        bias: ``[N]`` of the dtype of ``x``, or None.

    Returns:
        ``[T, N]`` of the dtype of ``x``; sums run in fp32.

    Equivalent to::

        F.linear(x, weight, bias)
    """
    return torch.ops.pangu.linear(x, weight, bias)


def outputs(x, weight, bias=None):
    check(x.dim() == 2, OP, "x must be [T, H]", x)
    check(weight.dim() == 2 and weight.shape[1] == x.shape[1], OP, "weight must be [N, H] with the H of x", weight)
    check_float(OP, x=x, weight=weight)
    if bias is not None:
        check(bias.shape == weight.shape[:1], OP, f"bias must be [N] = [{weight.shape[0]}]", bias)
        check_float(OP, x=x, bias=bias)
    return x.new_empty(x.shape[0], weight.shape[0])


def reference(x, weight, bias=None):
    dtype = accumulate_dtype(x)
    out = x.to(dtype) @ weight.to(dtype).T
    return (out if bias is None else out + bias).to(x.dtype)


def setup_context(ctx, inputs, output):
    x, weight, bias = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, weight)


def backward(ctx, grad):
    x, weight = ctx.saved_tensors
    return grad @ weight, grad.T @ x, grad.sum(0) if ctx.has_bias else None


def example(T, H, N, bias=True, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(T, H, generator=generator), torch.randn(N, H, generator=generator) * max(H, 1) ** -0.5
    return x.to(dtype), weight.to(dtype), torch.randn(N, generator=generator).to(dtype) if bias else None


register(
    OP,
    outputs,
    reference,
    setup_context=setup_context,
    backward=backward,
    example=example,
    cases=(
        dict(T=0, H=8, N=5),
        dict(T=1, H=1, N=1),
        dict(T=3, H=37, N=13),  # just past vectors and panels
        dict(T=4, H=40, N=24, bias=False),
        dict(T=19, H=64, N=96),  # whole tiles, and a block of tokens that is not
        dict(T=150, H=96, N=64, bias=False),  # more blocks of tokens than are taken at once
    ),
)
