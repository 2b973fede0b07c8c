"""Verification is lossless: what comes out is distributed as what the target model would have drawn itself.

The op is a black box here. For every draft that can be drawn, the uniforms at which its verdict turns are found by
bisection, to the last bits of a float64, so that every verdict's probability is known and can be added up.
"""

import itertools
import math
import zlib

import pytest
import torch

import pangu_ops
from pangu_ops import spec_verify

CHAIN, SIBLINGS, TREE = (-1, 0), (-1, -1, -1), (-1, -1, 0)
LAST = 1 - 2**-53  # the largest float64 below 1


def distribution(size, key):
    """A random distribution for every context, the same whenever it is asked for."""
    generator = torch.Generator().manual_seed(zlib.crc32(repr((key, size)).encode()))
    return torch.rand(size, generator=generator, dtype=torch.float64).softmax(-1)


class Models:
    """Target and drafter over a small vocabulary; each context has a distribution of its own."""

    def __init__(self, size, kind):
        self.size, self.kind = size, kind

    def p(self, context):
        p = distribution(self.size, context)
        if self.kind == "disjoint":
            p = p * (torch.arange(self.size) % 2 == 0)
        return p / p.sum()

    def q(self, context, siblings):
        """What is drafted after ``context``, where ``siblings`` were already."""
        p, q = self.p(context), distribution(self.size, (*context, "draft", len(siblings)))
        if self.kind == "equal":
            q = p
        elif self.kind == "one-hot":
            q = (torch.arange(self.size) == (len(context) + len(siblings)) % self.size).double()
        elif self.kind == "disjoint":
            q = q * (torch.arange(self.size) % 2 == 1)
        elif self.kind == "distinct":  # siblings are drawn without putting back
            q[list(siblings)] = 0
        return q / q.sum()


def drafts(models, parents):
    """Every draft that can be drawn: its probability, tokens, and what the op takes."""
    for tokens in itertools.product(range(models.size), repeat=len(parents)):
        paths, rows, probability = [()], [], 1.0
        for node, parent in enumerate(parents):
            siblings = tuple(tokens[other] for other in range(node) if parents[other] == parent)
            rows.append(models.q(paths[parent + 1], siblings))
            probability *= rows[-1][tokens[node]].item()
            paths.append((*paths[parent + 1], tokens[node]))
        if probability > 0:
            yield probability, tokens, torch.stack([models.p(path) for path in paths]), torch.stack(rows)


def turn(low, high, verdict):
    """The uniform in (low, high] where ``verdict`` changes, which differs at both ends."""
    first = verdict(low)
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if verdict(middle) == first else (low, middle)
    return high


def outcomes(parents, tokens, target, draft_probs, method):
    """``(probability, tokens that come out)`` of every verdict on one draft."""
    tree, ids = torch.tensor(parents, dtype=torch.int32), torch.tensor([tokens])

    def verdict(uniforms):
        uniforms = torch.tensor([[*uniforms, *[LAST] * (len(parents) + 1 - len(uniforms))]], dtype=torch.float64)
        out, count, nodes = spec_verify(ids, tree, target[None], draft_probs, uniforms, method)
        return out[0, : count + 1].tolist(), nodes[0, :count].tolist()

    def branch(uniforms, probability):
        if len(uniforms) == len(parents):  # the last token rises with its uniform
            start, token = 0.0, verdict([*uniforms, 0.0])[0]
            while token != verdict([*uniforms, LAST])[0]:
                end = turn(start, LAST, lambda u: verdict([*uniforms, u])[0])
                yield probability * (end - start), token
                start, token = end, verdict([*uniforms, end])[0]
            yield probability * (1 - start), token
        elif verdict([*uniforms, 0.0])[1] == verdict([*uniforms, LAST])[1]:
            yield from branch([*uniforms, 0.0], probability)
        else:
            end = turn(0.0, LAST, lambda u: verdict([*uniforms, u])[1])
            yield from branch([*uniforms, 0.0], probability * end)
            yield from branch([*uniforms, LAST], probability * (1 - end))

    return branch([], 1.0)


def sequences(models, context, length):
    """Every continuation of ``context`` to ``length`` tokens, and the target's probability of it."""
    if len(context) == length:
        return [(context, 1.0)]
    p = models.p(context).tolist()
    return [
        (whole, p[token] * rest)
        for token in range(models.size)
        for whole, rest in sequences(models, (*context, token), length)
    ]


@pytest.mark.parametrize("kind", ["random", "equal", "one-hot", "disjoint", "distinct", "chosen"])
@pytest.mark.parametrize(
    "method, parents, size",
    [
        ("rejection", CHAIN, 3),
        ("rejection", SIBLINGS, 3),
        ("rejection", TREE, 2),
        ("block", CHAIN, 3),
        ("block", (-1, 0, 1), 2),
    ],
)
def test_the_targets_distribution_comes_out(method, parents, size, kind):
    models = Models(size, "one-hot" if kind == "chosen" else kind)
    length = 1 + max(len(path) for path in paths_of(parents))
    came = dict.fromkeys((whole for whole, _ in sequences(models, (), length)), 0.0)
    with pangu_ops.use("reference"):  # which takes float64
        for drawn, tokens, target, draft_probs in drafts(models, parents):
            draft_probs = None if kind == "chosen" else draft_probs[None]
            for probability, out in outcomes(parents, tokens, target, draft_probs, method):
                for whole, rest in sequences(models, tuple(out), length):
                    came[whole] += drawn * probability * rest
    for whole, wanted in sequences(models, (), length):
        assert abs(came[whole] - wanted) < 1e-12, (whole, came[whole], wanted)


def paths_of(parents):
    paths = [()]
    for node, parent in enumerate(parents):
        paths.append((*paths[parent + 1], node))
    return paths


def test_typical_acceptance_is_not():
    """The proof can fail: of a method that does not claim to be lossless it says so."""
    models, came = Models(3, "random"), [0.0] * 3
    with pangu_ops.use("reference"):
        for drawn, tokens, target, draft_probs in drafts(models, (-1,)):
            for probability, out in outcomes((-1,), tokens, target, draft_probs[None], "typical"):
                came[out[0]] += drawn * probability
    assert max(abs(a - b) for a, b in zip(came, models.p(()).tolist())) > 1e-3


def drawer(p):
    cumulative = p.double().cumsum(-1)
    cumulative /= cumulative[-1].clone()
    return lambda uniforms: torch.searchsorted(cumulative, uniforms.double())


@pytest.mark.parametrize("method, parents", [("rejection", CHAIN), ("rejection", (-1, -1)), ("block", CHAIN)])
def test_chi_square_over_a_real_vocabulary(method, parents):
    """The first token of 9600 verdicts, in 60 bins of like probability: within five deviations of the mean."""
    B, N, V, rounds, bins = 64, 2, 153376, 150, 60
    generator, tree = torch.Generator().manual_seed(0), torch.tensor(parents, dtype=torch.int32)
    logits = 2 * torch.randn(1, N + 1, V, generator=generator)
    logits[:, 1] = logits[:, tree[1] + 1]
    p, q = logits.softmax(-1), (logits[:, :N] + torch.randn(1, N, V, generator=generator)).softmax(-1)
    drawers = [drawer(row) for row in q[0]]
    bin_of = torch.bucketize(torch.arange(V), drawer(p[0, 0])(torch.linspace(0, 1, bins + 1)[1:-1]), right=True)
    p, q = p.expand(B, N + 1, V).contiguous(), q.expand(B, N, V).contiguous()
    counts = torch.zeros(bins, dtype=torch.float64)
    for _ in range(rounds):
        ids = torch.stack([draw(torch.rand(B, generator=generator)) for draw in drawers], 1)
        tokens, _, _ = spec_verify(ids, tree, p, q, torch.rand(B, N + 1, generator=generator), method)
        counts += torch.bincount(bin_of[tokens[:, 0]], minlength=bins)
    expected = torch.zeros(bins, dtype=torch.float64).index_add(0, bin_of, p[0, 0].double()) * B * rounds
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < bins - 1 + 5 * math.sqrt(2 * (bins - 1)), chi_square


def test_block_verification_accepts_at_least_as_much():
    generator = torch.Generator().manual_seed(0)
    B, N, V = 3000, 4, 30
    logits = torch.randn(1, N + 1, V, generator=generator)
    p = logits.softmax(-1).expand(B, N + 1, V).contiguous()
    q = (logits[:, :N] + torch.randn(1, N, V, generator=generator)).softmax(-1).expand(B, N, V).contiguous()
    ids = torch.stack([drawer(row)(torch.rand(B, generator=generator)) for row in q[0]], 1)
    uniforms, chain = torch.rand(B, N + 1, generator=generator), torch.arange(-1, N - 1, dtype=torch.int32)
    token_wise, block = (spec_verify(ids, chain, p, q, uniforms, m)[1].double().mean() for m in ("rejection", "block"))
    assert block > token_wise + 0.05
