"""moge_gating against plain torch, and how evenly it loads the groups beside ordinary top-k routing."""

import pytest
import torch

from pangu_ops import imbalance_score, moge_gating, topk_gating
from pangu_ops.balance import device_load
from pangu_ops.testing.bench import Contest, sizes

E, G = 64, 8


def prepare(tokens):
    logits, scale = torch.randn(tokens, E).bfloat16(), torch.rand(E)
    first = torch.arange(0, E, E // G)

    def plain_torch():
        best, index = logits.float().softmax(-1).view(tokens, G, E // G).max(-1)
        return best * scale[index + first]

    rivals = {"torch": lambda: (plain_torch(),)}
    return lambda: moge_gating(logits, G, 1, "softmax", None, scale), rivals


def contests():
    for tokens in sizes((1, 64, 512, 2048), (1, 64, 4096, 65536)):
        yield Contest(f"moge_gating T={tokens}", lambda tokens=tokens: prepare(tokens), bytes=tokens * (2 * E + 8 * G))


def report(batches=200):
    """Mean over random batches: max/mean group load and imbalance score of both routings, uniform logits."""
    lines = ["tokens   top-8: max/mean load, imbalance   MoGE: max/mean load, imbalance"]
    for tokens in (1, 16, 64, 256, 1024):
        rows = {"top-8": [], "MoGE": []}
        for _ in range(batches):
            logits = torch.randn(tokens, E)
            for name, (_, ids) in {"top-8": topk_gating(logits, G), "MoGE": moge_gating(logits, G, 1)}.items():
                load = device_load(ids, E, G).double()
                rows[name].append((load.max() / load.mean(), imbalance_score(ids, E, G)))
        means = [value for row in rows.values() for value in torch.tensor(row).mean(0).tolist()]
        lines.append(f"{tokens:6}   {means[0]:20.2f} {means[1]:10.2f} {means[2]:20.2f} {means[3]:10.2f}")
    return "\n".join(lines)


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_moge_gating(benchmark, contest):
    contest.benchmark(benchmark)


def test_group_load():
    print(f"\n{report()}")
