"""sampling_probs against plain torch: the cuts by sorting or by topk, and without cuts softmax."""

import pytest
import torch

from pangu_ops.testing.bench import Contest

V = 153376
TEMPERATURE, TOP_K, TOP_P = 0.8, 50, 0.95


def prepare(tokens, top_k, top_p):
    # flat: a cut of top_p may fall some ids away in float32, none of which then holds much
    logits = torch.randn(tokens, V).bfloat16()
    if top_k:  # the likeliest must differ: topk ranks equal ones in no order
        likeliest = torch.arange(2 * top_k) / 8 + 16
        logits.scatter_(1, torch.rand(tokens, V).topk(2 * top_k).indices, likeliest.bfloat16().expand(tokens, -1))
    settings = (torch.full((tokens,), TEMPERATURE), torch.full((tokens,), top_k).int(), torch.full((tokens,), top_p))

    def cut(ranked, ids):
        """What follows the choice of the top_k, whose scaled logits come in order."""
        ranked = ranked.softmax(-1)
        ranked[ranked.cumsum(-1) - ranked >= top_p] = 0
        ranked /= ranked.sum(-1, keepdim=True)
        return torch.zeros(tokens, V).scatter_(-1, ids, ranked)

    def by_sort():
        ranked, ids = (logits.float() / TEMPERATURE).sort(dim=-1, descending=True, stable=True)
        if top_k:
            ranked[:, top_k:] = -torch.inf
        return cut(ranked, ids)

    def by_topk():
        ranked, ids = logits.topk(top_k, -1)
        return cut(ranked.float() / TEMPERATURE, ids)

    rivals = {"softmax": lambda: torch.softmax(logits.float() / TEMPERATURE, -1)}
    if top_p < 1:
        rivals = {"sort": by_sort}
    if top_k:
        rivals["topk"] = by_topk
    return lambda: torch.ops.pangu.sampling_probs(logits, *settings), rivals


def contests():
    for name, top_k, top_p in (("top_k, top_p", TOP_K, TOP_P), ("top_p", 0, TOP_P), ("no cut", 0, 1.0)):
        for tokens in (1, 5, 16, 64):
            yield Contest(
                f"sampling_probs {name} T={tokens}",
                lambda case=(tokens, top_k, top_p): prepare(*case),
                bytes=tokens * V * 6,
            )


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_sampling_probs(benchmark, contest):
    contest.benchmark(benchmark)
