"""attention_ffn against the same block in plain torch, with Pangu Embedded's shapes and a contiguous KV cache."""

import functools

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import attention_ffn
from pangu_ops.ops.rotary import rotary_table
from pangu_ops.testing.bench import Contest, sizes

BLOCK, D, EPS = sizes(32, 128), 128, 1e-5
SHAPES = {"7B": (4096, 12800, 32, 8), "1B": (1536, 6144, 12, 6)}  # H, I, Hq, Hk


@functools.cache
def weights(name):
    H, I, Hq, Hk = SHAPES[name]  # noqa: E741
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        numbers = torch.randn(shape, generator=generator, device="cpu") * shape[-1] ** -0.5
        return numbers.bfloat16().to(torch.get_default_device())

    rows = (Hq + 2 * Hk) * D
    ones = torch.ones(H).bfloat16()
    return ones, draw(rows, H), draw(rows), draw(H, Hq * D), draw(H), ones, draw(2 * I, H), draw(H, I)


def rotated(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def prepare(name, tokens, past):
    H, _, Hq, Hk = SHAPES[name]
    input_norm, qkv_weight, qkv_bias, o_weight, o_bias, ffn_norm, gate_up, down = block = weights(name)
    length = past + tokens
    x = torch.randn(tokens, H).bfloat16()
    cos, sin = rotary_table(torch.arange(past, length), D, 16e6)
    blocks = -(-length // BLOCK)
    caches = [torch.randn(blocks, Hk, BLOCK, D).bfloat16() for _ in range(2)]
    table = torch.arange(blocks, dtype=torch.int32)[None]
    lens, starts = torch.tensor([length], dtype=torch.int32), torch.tensor([0, tokens], dtype=torch.int32)
    keys, values = (cache.transpose(0, 1).flatten(1, 2)[None, :, :length].clone() for cache in caches)
    cos_16, sin_16 = cos[:, None].bfloat16(), sin[:, None].bfloat16()

    def plain():
        qkv = F.linear(F.rms_norm(x, (H,), input_norm, EPS), qkv_weight, qkv_bias).view(tokens, -1, D)
        q, k, v = qkv.split((Hq, Hk, Hk), 1)
        q, k = rotated(q, cos_16, sin_16), rotated(k, cos_16, sin_16)
        keys[0, :, past:], values[0, :, past:] = k.transpose(0, 1), v.transpose(0, 1)
        if tokens == 1:  # torch's own GQA is far slower
            out = F.scaled_dot_product_attention(q.view(1, Hk, -1, D), keys, values).view(1, -1)
        else:
            q = q.transpose(0, 1)[None]
            out = F.scaled_dot_product_attention(q, keys, values, is_causal=past == 0, enable_gqa=True)
            out = out[0].transpose(0, 1).reshape(tokens, -1)
        middle = x + F.linear(out, o_weight, o_bias)
        gate, up = F.linear(F.rms_norm(middle, (H,), ffn_norm, EPS), gate_up).chunk(2, -1)
        return middle + F.linear(F.silu(gate) * up, down)

    return lambda: attention_ffn(x, *block, cos, sin, *caches, table, lens, starts, EPS), {"torch": plain}


def contests():
    cpu = ("7B", 1, 512), ("7B", 8, 0), ("7B", 64, 0), ("7B", 512, 0), ("1B", 1, 512), ("1B", 512, 0)
    gpu = ("7B", 1, 512), ("7B", 8, 0), ("7B", 64, 0), ("7B", 4096, 0), ("1B", 1, 512), ("1B", 4096, 0)
    for name, tokens, past in sizes(cpu, gpu):
        H, I, Hq, Hk = SHAPES[name]  # noqa: E741
        matrices = H * D * (2 * Hq + 2 * Hk) + 3 * H * I
        pairs = sum(range(past + 1, past + tokens + 1))
        yield Contest(
            f"attention_ffn {name} T={tokens} past={past}",
            lambda shape=(name, tokens, past): prepare(*shape),
            bytes=2 * matrices,
            flops=2 * tokens * matrices + 4 * pairs * Hq * D,
            budget=6.0,
            limit="read",
        )


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_attention_ffn(benchmark, contest):
    contest.benchmark(benchmark)
