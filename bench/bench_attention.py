"""attention against scaled_dot_product_attention over a contiguous cache, which needs no block table."""

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import attention
from pangu_ops.testing.bench import Contest

BLOCK, D = 32, 128


def prepare(tokens, past, q_heads, kv_heads):
    length = past + tokens
    q, k, v = (torch.randn(tokens, heads, D).bfloat16() for heads in (q_heads, kv_heads, kv_heads))
    blocks = -(-length // BLOCK)
    caches = [torch.randn(blocks, kv_heads, BLOCK, D).bfloat16() for _ in range(2)]
    table = torch.randperm(blocks, dtype=torch.int32)[None]
    lens, starts = torch.tensor([length], dtype=torch.int32), torch.tensor([0, tokens], dtype=torch.int32)

    def ours():
        return attention(q, k, v, *caches, table, lens, starts)

    ours()  # the rivals read the same keys
    keys, values = (cache[table[0]].transpose(0, 1).flatten(1, 2)[None, :, :length].contiguous() for cache in caches)
    queries = q.transpose(0, 1)[None].contiguous()

    def append():
        keys[0, :, past:], values[0, :, past:] = k.transpose(0, 1), v.transpose(0, 1)

    def gqa():
        append()
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=past == 0, enable_gqa=True)[0].transpose(
            0, 1
        )

    def grouped():
        """Query heads as rows of their KV head: far faster than torch's own GQA for one token."""
        append()
        return F.scaled_dot_product_attention(q.view(1, kv_heads, -1, D), keys, values).view(q.shape)

    return ours, {"SDPA": gqa} | ({"SDPA grouped": grouped} if tokens == 1 else {})


def contests():
    for tokens, past in ((1, 512), (1, 4096), (512, 0), (2048, 0)):
        pairs = sum(range(past + 1, past + tokens + 1))
        yield Contest(
            f"attention T={tokens} past={past} heads 40/8",
            lambda shape=(tokens, past): prepare(*shape, 40, 8),
            bytes=2 * (past + tokens) * 8 * D * 2,
            flops=4 * pairs * 40 * D,
            limit="read",
        )


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_attention(benchmark, contest):
    contest.benchmark(benchmark)
