"""attention_ffn: a whole dense decoder block in one call."""

import torch

from pangu_ops.ops.attention import check_paging, paging_example
from pangu_ops.ops.attention import reference as attention
from pangu_ops.ops.linear import reference as linear
from pangu_ops.ops.rms_norm import reference as rms_norm
from pangu_ops.ops.rotary import check_tables, rotary_table
from pangu_ops.ops.rotary import reference as rotary
from pangu_ops.ops.silu_mul import reference as silu_mul
from pangu_ops.registry import check, check_device, check_float, register

OP = "attention_ffn"


def attention_ffn(
    x,
    input_norm,
    qkv_weight,
    qkv_bias,
    o_weight,
    o_bias,
    ffn_norm,
    gate_up,
    down,
    cos,
    sin,
    key_cache,
    value_cache,
    block_table,
    context_lens,
    query_starts,
    eps=1e-5,
):
    """One block of Pangu Embedded (openPangu Embedded, 1.2): attention and SwiGLU, each behind its norm.

    Args:
        x: ``[T, H]`` float32, bfloat16 or float16; so are all weights.
        input_norm: ``[H]``.
        qkv_weight: ``[(Hq+2*Hk)*D, H]``, the rows of q first, then those of k and of v.
        qkv_bias: ``[(Hq+2*Hk)*D]`` or None.
        o_weight: ``[H, Hq*D]``.
        o_bias: ``[H]`` or None.
        ffn_norm: ``[H]``.
        gate_up: ``[2*I, H]``, the gate's rows first, then the up projection's.
        down: ``[H, I]``.
        cos, sin: ``[T, D/2]`` float32, at each token's position.
        key_cache, value_cache, block_table, context_lens, query_starts: as for :func:`attention`; the caches are
            written, and give Hk and D.
        eps: of both norms.

    Returns:
        ``[T, H]`` of the dtype of ``x``. Sums run in fp32. In float32 a token's result does not depend on what else is
        in the call. No gradient passes.

    On a GPU no value of ``block_table``, ``context_lens`` and ``query_starts`` is refused: see :func:`attention`.

    Equivalent to::

        q, k, v = F.linear(rms_norm(x, input_norm, eps), qkv_weight, qkv_bias).view(T, -1, D).split((Hq, Hk, Hk), 1)
        q, k = rotary(q, k, cos, sin)
        attended = attention(q, k, v, key_cache, value_cache, block_table, context_lens, query_starts)
        x = x + F.linear(attended.flatten(1), o_weight, o_bias)
        return x + F.linear(silu_mul(F.linear(rms_norm(x, ffn_norm, eps), gate_up)), down)
    """
    return torch.ops.pangu.attention_ffn(
        x,
        input_norm,
        qkv_weight,
        qkv_bias,
        o_weight,
        o_bias,
        ffn_norm,
        gate_up,
        down,
        cos,
        sin,
        key_cache,
        value_cache,
        block_table,
        context_lens,
        query_starts,
        eps,
    )


def outputs(
    x,
    input_norm,
    qkv_weight,
    qkv_bias,
    o_weight,
    o_bias,
    ffn_norm,
    gate_up,
    down,
    cos,
    sin,
    key_cache,
    value_cache,
    block_table,
    context_lens,
    query_starts,
    eps=1e-5,
):
    check(x.dim() == 2 and x.shape[1] > 0, OP, "x must be [T, H]", x)
    check_float(OP, x=x)
    check_paging(OP, "x", x, key_cache, value_cache, block_table, context_lens, query_starts)
    hidden, (_, kv_heads, _, size) = x.shape[1], key_cache.shape
    check(size % 2 == 0, OP, "key_cache must be [N, Hk, block, D] with an even D", key_cache)
    check(
        o_weight.dim() == 2
        and o_weight.shape[0] == hidden
        and o_weight.shape[1] > 0
        and o_weight.shape[1] % (kv_heads * size) == 0,
        OP,
        "o_weight must be [H, Hq*D] with a multiple of the Hk heads of key_cache",
        o_weight,
    )
    check(
        gate_up.dim() == 2 and gate_up.shape[0] % 2 == 0 and gate_up.shape[1] == hidden,
        OP,
        "gate_up must be [2*I, H] with the H of x",
        gate_up,
    )
    qkv_rows = o_weight.shape[1] + 2 * kv_heads * size
    for name, shape, part, sizes in (
        ("input_norm", "[H]", input_norm, [hidden]),
        ("qkv_weight", "[(Hq+2*Hk)*D, H]", qkv_weight, [qkv_rows, hidden]),
        ("qkv_bias", "[(Hq+2*Hk)*D]", qkv_bias, [qkv_rows]),
        ("o_weight", "[H, Hq*D]", o_weight, list(o_weight.shape)),
        ("o_bias", "[H]", o_bias, [hidden]),
        ("ffn_norm", "[H]", ffn_norm, [hidden]),
        ("gate_up", "[2*I, H]", gate_up, list(gate_up.shape)),
        ("down", "[H, I]", down, [hidden, gate_up.shape[0] // 2]),
    ):
        if part is not None:
            check(list(part.shape) == sizes, OP, f"{name} must be {shape} = {sizes}", part)
            check_float(OP, x=x, **{name: part})
    check_tables(OP, x, cos, sin, size // 2)
    check_device(OP, x=x, cos=cos, sin=sin)
    return x.new_empty(x.shape)


def reference(
    x,
    input_norm,
    qkv_weight,
    qkv_bias,
    o_weight,
    o_bias,
    ffn_norm,
    gate_up,
    down,
    cos,
    sin,
    key_cache,
    value_cache,
    block_table,
    context_lens,
    query_starts,
    eps=1e-5,
):
    kv_heads, size = key_cache.shape[1], key_cache.shape[3]
    heads = linear(rms_norm(x, input_norm, eps), qkv_weight, qkv_bias).unflatten(1, (-1, size))
    q, k, v = heads.split((heads.shape[1] - 2 * kv_heads, kv_heads, kv_heads), 1)
    q, k = rotary(q, k, cos, sin)
    attended = attention(q, k, v, key_cache, value_cache, block_table, context_lens, query_starts, op=OP)
    x = x + linear(attended.flatten(1), o_weight, o_bias)
    return x + linear(silu_mul(linear(rms_norm(x, ffn_norm, eps), gate_up)), down)


def example(T, H, Hq, Hk, D, I, block=4, B=1, past=0, bias=True, dtype=torch.float32, seed=0):  # noqa: E741
    generator = torch.Generator().manual_seed(seed + 1)

    def draw(*shape):
        return (torch.randn(shape, generator=generator) * max(shape[-1], 1) ** -0.5).to(dtype)

    rows = (Hq + 2 * Hk) * D
    norms = [torch.rand(H, generator=generator).add(0.5).to(dtype) for _ in range(2)]
    paging = paging_example(T, Hk, D, block, B, past, dtype, seed)
    lens, starts = paging[3], paging[4]
    positions = torch.cat(
        [torch.arange(length)[length - n :] for length, n in zip(lens.tolist(), starts.diff().tolist())]
    )
    x = torch.randn(T, H, generator=generator).to(dtype)
    biases = (draw(rows), draw(H)) if bias else (None, None)
    return (
        x,
        norms[0],
        draw(rows, H),
        biases[0],
        draw(H, Hq * D),
        biases[1],
        norms[1],
        draw(2 * I, H),
        draw(H, I),
        *rotary_table(positions, D, 10000.0),
        *paging,
    )


register(
    OP,
    outputs,
    reference,
    example=example,
    cases=(
        dict(T=0, H=8, Hq=2, Hk=1, D=4, I=6),
        dict(T=1, H=10, Hq=2, Hk=1, D=6, I=7, past=5),
        dict(T=9, H=24, Hq=6, Hk=2, D=4, I=20, B=4, past=20, block=3, bias=False),  # prefill and decode together
        dict(T=37, H=64, Hq=4, Hk=2, D=32, I=96, B=2, past=60, block=16),  # whole tiles
    ),
)
