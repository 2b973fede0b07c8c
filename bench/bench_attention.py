"""attention against scaled_dot_product_attention over a contiguous cache, which needs no block table."""

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import attention
from pangu_ops.testing.bench import Contest, sizes

BLOCK, D = sizes(32, 128), 128


def prepare(batch, tokens, past, q_heads, kv_heads):
    """``tokens`` of each sequence behind ``past``."""
    length = past + tokens
    q, k, v = (torch.randn(batch * tokens, heads, D).bfloat16() for heads in (q_heads, kv_heads, kv_heads))
    blocks = -(-length // BLOCK)
    caches = [torch.randn(batch * blocks, kv_heads, BLOCK, D).bfloat16() for _ in range(2)]
    table = torch.randperm(batch * blocks, dtype=torch.int32).view(batch, blocks)
    lens = torch.full((batch,), length, dtype=torch.int32)
    starts = tokens * torch.arange(batch + 1, dtype=torch.int32)

    def ours():
        return attention(q, k, v, *caches, table, lens, starts)

    def by_sequence(rows):
        return rows.view(batch, tokens, -1, D).transpose(1, 2)

    ours()  # the rivals read the same keys
    keys, values = (cache[table].transpose(1, 2).flatten(2, 3)[:, :, :length].contiguous() for cache in caches)
    queries = by_sequence(q).contiguous()

    def append():
        keys[:, :, past:], values[:, :, past:] = by_sequence(k), by_sequence(v)

    def gqa():
        append()
        out = F.scaled_dot_product_attention(queries, keys, values, is_causal=past == 0, enable_gqa=True)
        return out.transpose(1, 2).flatten(0, 1)

    def grouped():
        """Query heads as rows of their KV head: far faster than torch's own GQA for one token."""
        append()
        return F.scaled_dot_product_attention(q.view(batch, kv_heads, -1, D), keys, values).view(q.shape)

    return ours, {"SDPA": gqa} | ({"SDPA grouped": grouped} if tokens == 1 else {})


def contests():
    cpu = (1, 1, 512), (1, 1, 4096), (1, 512, 0), (1, 2048, 0)
    gpu = (1, 1, 4096), (1, 1, 32768), (8, 1, 4096), (64, 1, 4096), (1, 2048, 0), (1, 8192, 0)
    for batch, tokens, past in sizes(cpu, gpu):
        pairs = batch * sum(range(past + 1, past + tokens + 1))
        yield Contest(
            f"attention B={batch} T={batch * tokens} past={past} heads 40/8",
            lambda shape=(batch, tokens, past): prepare(*shape, 40, 8),
            bytes=2 * batch * (past + tokens) * 8 * D * 2,
            flops=4 * pairs * 40 * D,
            limit="read",
        )


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_attention(benchmark, contest):
    contest.benchmark(benchmark)
