"""spec_verify against plain torch, over Pangu's vocabulary: a chain of four drafts, and the likeliest token alone."""

import pytest
import torch

from pangu_ops import spec_verify
from pangu_ops.testing.bench import Contest

V, N = 153376, 4


def count_accepted(draft_ids, p, q, uniforms):
    index = draft_ids[..., None]
    p_drafted, q_drafted = p[:, :N].gather(2, index)[..., 0], q.gather(2, index)[..., 0]
    return (uniforms[:, :N] * q_drafted < p_drafted).long().cumprod(1).sum(1)


def draw(weights, uniforms):
    """A token of each row of ``weights [B, V]``; the sums are float32."""
    cumulative = weights.cumsum(-1)
    return torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True).clamp(max=V - 1)


def one_row(draft_ids, p, q, uniforms):
    """Plain torch that looks for the last token in the one row that each sequence needs."""
    accepted = count_accepted(draft_ids, p, q, uniforms)
    batch = torch.arange(len(p))
    row = p[batch, accepted]
    left = (row - q[batch, accepted.clamp(max=N - 1)]).clamp(min=0)
    last = draw(torch.where((accepted < N)[:, None], left, row), uniforms[:, N:])
    return torch.cat([draft_ids, last], 1), accepted.int()


def every_row(draft_ids, p, q, uniforms):
    """Plain torch as servers have it: a token of every row, of which one is taken."""
    accepted = count_accepted(draft_ids, p, q, uniforms)
    left = (p[:, :N] - q).clamp(min=0)
    rows = torch.cat([left / left.sum(-1, keepdim=True), p[:, N:]], 1).flatten(0, 1)
    last = draw(rows, uniforms[:, N:].repeat_interleave(N + 1, 0)).view(-1, N + 1)
    return torch.cat([draft_ids, last.gather(1, accepted[:, None])], 1), accepted.int()


def rejection(batch_size):
    """Half of the drafts are accepted and the last one never, so that every verdict rests on a rejection's two rows."""
    torch.manual_seed(0)
    p = torch.empty(batch_size, N + 1, V).exponential_()
    p /= p.sum(-1, keepdim=True)
    q = torch.empty(batch_size, N, V).exponential_()
    q /= q.sum(-1, keepdim=True)
    draft_ids = torch.randint(V, (batch_size, N))
    p[torch.arange(batch_size), N - 1, draft_ids[:, -1]] = 0
    uniforms = torch.rand(batch_size, N + 1)
    # what is left of two such rows is spread over half of the vocabulary, so only the count must agree
    args = draft_ids, p, q, uniforms
    rivals = {"torch": lambda: one_row(*args)[1:], "torch, every row": lambda: every_row(*args)[1:]}
    chain = torch.arange(-1, N - 1, dtype=torch.int32)
    return lambda: spec_verify(draft_ids, chain, p, q, uniforms)[1:2], rivals


def greedy(batch_size):
    nothing, no_node = torch.empty(batch_size, 0, dtype=torch.int64), torch.empty(0, dtype=torch.int32)
    logits = torch.randn(batch_size, 1, V).bfloat16()
    rivals = {"argmax": lambda: (logits.argmax(-1),)}
    return lambda: spec_verify(nothing, no_node, logits, method="greedy")[:1], rivals


def contests():
    for batch_size in (1, 16, 64):
        read = batch_size * 2 * 4 * V
        prepare = lambda batch_size=batch_size: rejection(batch_size)  # noqa: E731
        yield Contest(f"spec_verify B={batch_size}", prepare, bytes=read, exact=True, limit="read")
    for batch_size in (1, 16, 64):
        prepare = lambda batch_size=batch_size: greedy(batch_size)  # noqa: E731
        yield Contest(f"likeliest token B={batch_size}", prepare, bytes=batch_size * 2 * V, exact=True, limit="read")


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_spec_verify(benchmark, contest):
    contest.benchmark(benchmark)
