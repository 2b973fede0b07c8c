"""rotary: rotary position embedding of queries and keys together."""

import torch

from pangu_ops.registry import accumulate_dtype, check, check_device, check_float, register

OP = "rotary"


def rotary(q, k, cos, sin):
    """Rotate the halves of every head (the "neox" layout of the released models; openPangu Embedded, 1.2).

    Args:
        q: ``[T, Hq, D]`` float32, bfloat16 or float16, D even.
        k: ``[T, Hk, D]`` of the dtype of ``q``.
        cos: ``[T, D/2]`` float32, the cosines at each token's position.
        sin: ``[T, D/2]`` float32.

    Returns:
        ``q`` and ``k`` rotated, fresh and contiguous. The tables get no gradient.

    Equivalent to, for each of q and k::

        a, b = x.float().chunk(2, dim=-1)
        torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
    """
    return torch.ops.pangu.rotary(q, k, cos, sin)


def check_tables(op, x, cos, sin, half):
    """What rotary and attention_ffn ask of the tables for the tokens of ``x``."""
    sizes = [x.shape[0], half]
    for name, table in (("cos", cos), ("sin", sin)):
        check(list(table.shape) == sizes, op, f"{name} must be [T, D/2] = {sizes}", table)
        check(table.dtype == accumulate_dtype(x), op, f"{name} must be float32", table.dtype)


def outputs(q, k, cos, sin):
    check(q.dim() == 3 and q.shape[2] % 2 == 0 and q.shape[2] >= 2, OP, "q must be [T, Hq, D] with an even D", q)
    check(
        k.dim() == 3 and k.shape[0] == q.shape[0] and k.shape[2] == q.shape[2],
        OP,
        "k must be [T, Hk, D] with the T and D of q",
        k,
    )
    check_float(OP, q=q, k=k)
    check_tables(OP, q, cos, sin, q.shape[2] // 2)
    check_device(OP, q=q, cos=cos, sin=sin)
    return q.new_empty(q.shape), k.new_empty(k.shape)


def rotate(x, cos, sin):
    a, b = x.to(cos.dtype).chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def reference(q, k, cos, sin):
    return rotate(q, cos, sin), rotate(k, cos, sin)


def setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[2:])


def backward(ctx, grad_q, grad_k):
    cos, sin = ctx.saved_tensors
    return *torch.ops.pangu.rotary(grad_q, grad_k, cos, -sin), None, None


def rotary_table(positions, head_dim, theta):
    """``cos`` and ``sin`` ``[T, D/2]`` float32 for ``positions [T]``: angles ``position * theta^(-2i/D)``."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angles = positions.to(torch.float32)[:, None] * theta**-exponents
    return angles.cos(), angles.sin()


def example(T, Hq, Hk, D, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(T, Hq, D, generator=generator).to(dtype)
    k = torch.randn(T, Hk, D, generator=generator).to(dtype)
    return q, k, *rotary_table(torch.arange(T), D, 10000.0)


register(
    OP,
    outputs,
    reference,
    setup_context=setup_context,
    backward=backward,
    example=example,
    cases=(
        dict(T=0, Hq=2, Hk=1, D=4),
        dict(T=1, Hq=1, Hk=1, D=2),
        dict(T=7, Hq=3, Hk=1, D=22),  # odd half
        dict(T=9, Hq=40, Hk=8, D=128),  # the released model
    ),
)
