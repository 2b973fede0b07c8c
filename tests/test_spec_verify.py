"""Verdicts worked by hand, what other samplers got wrong, and the proof that nothing is lost."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pangu_ops
from pangu_ops import spec_verify
from pangu_ops.backends import ASCEND_IMPLEMENTATIONS, GPU_IMPLEMENTATIONS, IMPLEMENTATIONS, missing
from pangu_ops.registry import PAGES

CHAIN, TREE = [-1, 0, 1, 2], [-1, -1, 0, 0, 1]
ALMOST_1 = 1 - 2**-24
HERE = [name for name in IMPLEMENTATIONS if not missing(name)]


def verify(drafts, parents, target, draft_probs, uniforms, method="rejection"):
    """One sequence: the tokens, and the nodes accepted."""
    draft_probs = None if draft_probs is None else torch.tensor([draft_probs])
    ids, tree = torch.tensor([drafts], dtype=torch.int64), torch.tensor(parents, dtype=torch.int32)
    target, uniforms = torch.tensor([target]), torch.tensor([uniforms])
    tokens, count, nodes = spec_verify(ids, tree, target, draft_probs, uniforms, method)
    if count < 0:
        assert (tokens == -1).all() and (nodes == -1).all()
        return None
    assert (tokens[0, : count + 1] >= 0).all() and (tokens[0, count + 1 :] == -1).all()
    assert (nodes[0, :count] >= 0).all() and (nodes[0, count:] == -1).all()
    return tokens[0, : count + 1].tolist(), nodes[0, :count].tolist()


def test_a_chain_by_hand(implementation):
    target = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2]]
    draft_probs = [[0.2, 0.6, 0.2], [0.5, 0.25, 0.25]]
    # 1 is accepted below 0.3 / 0.6, 0 below 0.1 / 0.5; in [0.3, 0, 0] and [0, 0, 0.55] one token is left
    assert verify([1, 0], [-1, 0], target, draft_probs, [0.49, 0.19, 0.81]) == ([1, 0, 2], [0, 1])
    assert verify([1, 0], [-1, 0], target, draft_probs, [0.49, 0.19, 0.79]) == ([1, 0, 1], [0, 1])
    assert verify([1, 0], [-1, 0], target, draft_probs, [0.51, 0.19, 0.99]) == ([0], [])
    assert verify([1, 0], [-1, 0], target, draft_probs, [0.49, 0.21, 0.0]) == ([1, 2], [0])


def test_a_tree_by_hand(implementation):
    even, target = [0.25] * 4, [[0.5, 0.25, 0.25, 0.0], *[[0.25] * 4] * 5]
    draft_probs = [[0.0, 0.5, 0.0, 0.5], [0.25] * 4, even, even, even]
    # 3 has no chance; [0.5, 0, 0.25, 0] of 0.75 is left, where 2 is accepted below (1/3) / (1/4): always
    assert verify([3, 2, 0, 0, 1], TREE, target, draft_probs, [0, ALMOST_1, 0, 0, 0, 0.3]) == ([2, 1, 1], [1, 4])
    # 1 is accepted below 1/2; after it, node 2 below 1, and the nodes under node 1 no more
    assert verify([1, 2, 3, 3, 1], TREE, target, draft_probs, [0.4, 0, 0.9, 0, 0, 0.9]) == ([1, 3, 3], [0, 2])
    # both are rejected: what is left, [2/3, 0, 1/3, 0], goes down by a quarter each
    drafts, rest = [1, 1, 0, 0, 1], (2 / 3 - 1 / 4, 1 / 3 - 1 / 4)
    for u, token in ((rest[0] / sum(rest) - 1e-6, 0), (rest[0] / sum(rest) + 1e-6, 2)):
        assert verify(drafts, TREE, target, draft_probs, [0.5, 0, 0, 0, 0, u]) == ([token], [])


def test_drafts_that_were_chosen(implementation):
    target = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2]]
    assert verify([1, 2], [-1, 0], target, None, [0.29, 0.79, 0.19]) == ([1, 2, 0], [0, 1])
    assert verify([1, 2], [-1, 0], target, None, [0.31, 0.79, 0.72]) == ([2], [])  # of [0.5, 0, 0.2]
    assert verify([1, 2], [-1, 0], target, None, [0.31, 0.79, 0.71]) == ([0], [])
    # the same one twice: after its rejection it has no chance
    assert verify([1, 1], [-1, -1], target, None, [0.31, 0.0, 0.0]) == ([0], [])


def test_a_block_by_hand(implementation):
    """Sun et al. 2025: prefixes keep 1/2 and min(1/2 * 0.8/0.4, 1) = 1, so both drafts go where one would fall."""
    target, draft_probs = [[0.4, 0.6], [0.8, 0.2], [0.5, 0.5]], [[0.8, 0.2], [0.4, 0.6]]
    assert verify([0, 0], [-1, 0], target, draft_probs, [0.99, 0.99, 0.4], "block") == ([0, 0, 0], [0, 1])
    assert verify([0, 0], [-1, 0], target, draft_probs, [0.99, 0.99, 0.4]) == ([1], [])
    # 0 then 1 keeps 1/2 * 0.2/0.6 = 1/6; of prefix 0, [1/2 * 0.8 - 0.4, 1/2 * 0.2 - 0.6] leaves nothing
    assert verify([0, 1], [-1, 0], target, draft_probs, [0.0, 0.17, 0.0], "block") == ([1], [])
    assert verify([0, 1], [-1, 0], target, draft_probs, [0.99, 0.16, 0.0], "block") == ([0, 1, 0], [0, 1])


def test_typical_acceptance_by_hand(implementation):
    """Entropy ln 4: the bound is min(0.09, 0.3 / 4); for a sure row it is 0.09."""
    target = [[0.25] * 4 + [0.0], [0.91, 0.08, 0.01, 0, 0], [0.25] * 4 + [0.0]]
    assert verify([2, 0], [-1, 0], target, None, [0, 0, 0.6], "typical") == ([2, 0, 2], [0, 1])
    assert verify([2, 1], [-1, 0], target, None, [0, 0, 0.6], "typical") == ([2, 0], [0])
    assert verify([4, 1], [-1, 0], target, None, [0, 0, 0.6], "typical") == ([2], [])


def test_greedy_by_hand(implementation):
    logits = torch.tensor([[[0.0, 5, 5, 1], [3, 0, 0, 0], [0, 0, 0, 7], [-9, -1, -9, -1], [1, 2, 3, 4], [0, 0, 9, 0]]])
    tree = torch.tensor(TREE, dtype=torch.int32)
    for target in (logits, logits.bfloat16(), logits.half(), torch.tensor([[1, 0, 3, 1, 3, 2]])):
        for drafts, tokens, nodes in (
            ([2, 1, 0, 0, 3], [1, 3, 2], [1, 4]),  # 1 of two that are equal; node 1, then node 4
            ([1, 1, 2, 0, 3], [1, 0, 3], [0, 3]),
            ([0, 3, 0, 0, 0], [1], []),
        ):
            came = spec_verify(torch.tensor([drafts]), tree, target, method="greedy")
            assert came[0][0].tolist() == tokens + [-1] * (6 - len(tokens))
            assert came[1].tolist() == [len(nodes)] and came[2][0].tolist() == nodes + [-1] * (5 - len(nodes))


def test_zeros_of_either_sign_are_equally_likely(implementation):
    target = torch.tensor([[[-1.0, -0.0, 0.0]]])
    assert spec_verify(torch.empty(1, 0).long(), torch.empty(0).int(), target, method="greedy")[0].tolist() == [[1]]


@pytest.mark.parametrize("chosen", [False, True])
def test_many_siblings_are_rejected(implementation, chosen):
    """Drafts that know one end of the vocabulary or the other, so that most walks get to the later children."""
    tree = (-1, -1, -1, 0, 1, 1, 2, 2)
    _, parents, target, draft_probs, uniforms, *_ = PAGES["spec_verify"].example(3, 8, 5000, tree=tree)
    draft_probs[:, ::2, 4096:] = 0
    draft_probs[:, 1::2, :4096] = 0
    draft_probs /= draft_probs.sum(-1, keepdim=True)
    draft_ids = draft_probs.topk(3).indices[..., 2]
    draft_ids[0, 1] = draft_ids[0, 0]
    uniforms[1, :2] = ALMOST_1
    args = draft_ids, parents, target, None if chosen else draft_probs, uniforms
    wanted = PAGES["spec_verify"].reference(*args)
    assert all(torch.equal(a, b) for a, b in zip(wanted, spec_verify(*args), strict=True))


def test_without_drafts_it_is_sampling(implementation):
    target, nothing = [0.1, 0.4, 0.2, 0.3], ([], [])
    for u, token in ((0.0, 0), (0.09, 0), (0.11, 1), (0.49, 1), (0.51, 2), (0.71, 3), (ALMOST_1, 3)):
        assert verify(*nothing, [target], None, [u]) == ([token], [])


def test_a_token_without_probability_is_never_accepted(implementation):
    """u * q < p and not <=: with p = 0 a uniform of 0 must not let it through."""
    for method in ("rejection", "block"):
        assert verify([1], [-1], [[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5]], [0.0, 0.0], method) == ([0], [])
        assert verify([1], [-1], [[1.0, 0.0], [0.5, 0.5]], None, [0.0, 0.0], method) == ([0], [])
    assert verify([1], [-1], [[1.0, 0.0], [0.5, 0.5]], None, [0.0, 0.0], "typical") == ([0], [])


def test_the_ends_of_the_unit_interval(implementation):
    p = [0.0, 0.5, 0.5, 0.0]
    for method in ("rejection", "block"):
        assert verify([1], [-1], [p, p], [p], [ALMOST_1, 0.0], method) == ([1, 1], [0])  # q = p is always accepted
        assert verify([1], [-1], [p, p], [p], [0.0, ALMOST_1], method) == ([1, 2], [0])  # never a token past the mass


def test_where_nothing_is_left_the_target_is(implementation):
    """q >= p everywhere: a rejection is a rounding error, and leaves p."""
    q = [0.75, 0.5]
    for method in ("rejection", "block"):
        assert verify([0], [-1], [[0.5, 0.5], [1.0, 0.0]], [q], [0.9, 0.9], method) == ([1], [])
    assert verify([0, 1], [-1, -1], [[0.5, 0.5], *[[1.0, 0.0]] * 2], [q, q], [0.9, 0.9, 0.0]) == ([1, 0], [1])
    assert verify([0], [-1], [[0.0, 0.0], [1.0, 0.0]], [q], [0.9, 0.9]) is None  # p has no mass either


@pytest.mark.parametrize("bad", [math.nan, -0.1, 2.0, math.inf])
def test_numbers_that_are_no_probabilities_flag_their_sequence_only(implementation, bad):
    args = list(PAGES["spec_verify"].example(T=6, N=3, V=70, seed=3))
    args[0] = args[0].clamp(min=0)
    clean = spec_verify(*args)
    args[2] = args[2].clone()
    args[2][2] = bad
    args[4] = args[4].clone()
    args[4][4] = 1.0 if bad == 2 else bad
    came = spec_verify(*args)
    assert came[1][[2, 4]].tolist() == [-1, -1] and (came[0][[2, 4]] == -1).all() and (came[2][[2, 4]] == -1).all()
    for a, b in zip(clean, came):
        assert torch.equal(a[[0, 1, 3, 5]], b[[0, 1, 3, 5]])


def test_what_a_verdict_does_not_rest_on_is_not_looked_at(implementation):
    nan = math.nan
    assert verify([1, 1], [-1, 0], [[0.5, 0.5], [nan, nan], [nan, nan]], None, [0.9, nan, 0.0]) == ([0], [])


@pytest.mark.parametrize("row", [[math.nan, 1.0], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_logits_without_a_finite_maximum_are_flagged(implementation, row):
    logits = torch.tensor([[row], [[-math.inf, 0.0]]])
    tokens, count, _ = spec_verify(torch.empty(2, 0).long(), torch.empty(0).int(), logits, method="greedy")
    assert tokens.tolist() == [[-1], [1]] and count.tolist() == [-1, 0]


def test_short_drafts_give_what_they_give_alone(implementation):
    """A draft of 2 filled up with -1, and ids past the vocabulary: neither moves another number."""
    T = 10 if implementation == "triton" else 40  # the interpreter is slow
    for method in ("rejection", "block", "typical"):
        args = list(PAGES["spec_verify"].example(T, N=2, V=50, method=method, seed=5))
        args[0] = args[0].clamp(min=0)
        alone = spec_verify(*args)
        for filler in (-1, 50, 2**31 - 1, -(2**31)):
            longer = list(PAGES["spec_verify"].example(T, N=4, V=50, method=method, seed=6))
            longer[0][:, :2], longer[0][:, 2:] = args[0], filler
            longer[2][:, :3], longer[3][:, :2] = args[2], args[3]
            longer[4][:, :2], longer[4][:, 4] = args[4][:, :2], args[4][:, 2]
            came = spec_verify(*longer)
            assert torch.equal(came[1], alone[1]) and torch.equal(came[0][:, :3], alone[0])


def test_int32_drafts_and_a_tree_for_each_sequence(implementation):
    args = list(PAGES["spec_verify"].example(T=12, N=8, V=40, tree=(-1, -1, 0, 0, 1, 2, -1, 2)))
    wanted = spec_verify(*args)
    args[1] = args[1].expand(12, 8)
    came = spec_verify(args[0].int(), *args[1:])
    assert came[0].dtype == torch.int32 and all(torch.equal(a, b.to(a.dtype)) for a, b in zip(wanted, came))
    args[1] = args[1].clone()
    args[1][3:] = torch.arange(-1, 7)
    assert torch.equal(spec_verify(*args)[0][:3], wanted[0][:3])


@st.composite
def anything(draw):
    """Arguments with all that may be in them: zeros, q = p, no mass, NaN, ids from outside."""
    seed, vocabulary = draw(st.integers(0, 2**20)), draw(st.sampled_from((1, 2, 5, 9, 2049, 4100)))
    nodes, method = draw(st.integers(0, 7)), draw(st.sampled_from(("greedy", "rejection", "block", "typical")))
    tree = [draw(st.integers(-1, node - 1)) for node in range(nodes)] if method != "block" else None
    options = dict(tree=tree, ids=draw(st.booleans()), chosen=draw(st.booleans()), seed=seed, method=method)
    args = list(PAGES["spec_verify"].example(draw(st.integers(1, 4)), nodes, vocabulary, **options))
    random = torch.Generator().manual_seed(seed)
    for index in (2, 3) if method != "greedy" else ():
        if args[index] is not None and draw(st.booleans()):
            args[index] = args[index] * (torch.rand(args[index].shape, generator=random) < 0.6)
    if args[3] is not None and draw(st.booleans()):
        args[3] = args[2][:, (args[1] + 1).long()].clone()
    if method != "greedy":
        number = draw(st.sampled_from((None, math.nan, -1.0, 2.0, 1.0, 1e-30)))
        if number is not None:
            args[2][draw(st.integers(0, len(args[2]) - 1)), draw(st.integers(0, nodes)), 0] = number
        args[2] = args[2] * draw(st.sampled_from((1.0, 1.0, 0.5, 1e-14)))
        u = draw(st.sampled_from((None, 0.0, ALMOST_1, 1.0, math.nan)))
        if u is not None:
            args[4][:, draw(st.integers(0, nodes))] = u
    if nodes:
        args[0][0, draw(st.integers(0, nodes - 1))] = draw(st.sampled_from((-1, vocabulary, 2**62, -(2**62), 0)))
    return args


@settings(max_examples=150)
@given(anything())
def test_every_kernel_gives_the_bits_of_the_reference(args):
    wanted = PAGES["spec_verify"].reference(*args)
    tokens, count, _ = wanted
    vocabulary = args[2].shape[2] if args[2].dim() == 3 else 2**62
    assert ((tokens >= -1) & (tokens < vocabulary)).all() and (count <= args[0].shape[1]).all()
    for name in HERE:
        with pangu_ops.use(name):
            assert all(torch.equal(a, b) for a, b in zip(wanted, spec_verify(*args), strict=True)), name


ARGS = dict(zip("draft_ids parents target draft_probs uniforms".split(), PAGES["spec_verify"].example(2, 3, 5)))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(draft_ids=torch.zeros(3).long()), r"draft_ids must be \[B, N\], came \[3\]"),
        (dict(draft_ids=torch.zeros(2, 3)), "draft_ids must be int32 or int64, came float32"),
        (dict(parents=torch.zeros(4).int()), r"parents must be \[N\] or \[B, N\] = \[3\] or \[2, 3\], came \[4\]"),
        (dict(parents=torch.arange(-1, 2)), "parents must be int32, came int64"),
        (dict(method="lossless"), "method must be greedy, rejection, block or typical, came lossless"),
        (dict(target=torch.ones(2, 3, 5)), r"target must be \[B, N \+ 1, V\] = \[2, 4, V\], came \[2, 3, 5\]"),
        (dict(target=torch.ones(2, 4, 5).half()), "target must be float32, came float16"),
        (dict(target=torch.ones(2, 4).long()), "target must be float32, came int64"),
        (dict(target=torch.ones(2, 5).long(), method="greedy"), r"target ids must be .* = \[2, 4\], came \[2, 5\]"),
        (dict(target=torch.ones(2, 4, 5).bool(), method="greedy"), "target must be float32, bfloat16 or float16, came"),
        (dict(target=torch.ones(2, 4, 0)), "the vocabulary must be 1 to 262144 tokens, came 0"),
        (dict(target=torch.ones(2, 4, 2**18 + 1)), "the vocabulary must be 1 to 262144 tokens, came 262145"),
        (dict(draft_probs=torch.ones(2, 4, 5)), r"draft_probs must be .* = \[2, 3, 5\], came \[2, 4, 5\]"),
        (dict(draft_probs=torch.ones(2, 3, 5).half()), "draft_probs must be float32, came float16"),
        (dict(uniforms=None), "uniforms must be given for rejection, came none"),
        (dict(uniforms=torch.ones(2, 3)), r"uniforms must be \[B, N \+ 1\] = \[2, 4\], came \[2, 3\]"),
        (dict(uniforms=torch.ones(2, 4).half()), "uniforms must be float32, came float16"),
    ],
)
def test_refusals(implementation, changes, message):
    with pytest.raises(RuntimeError, match=f"^spec_verify: .*{message}"):
        spec_verify(**ARGS | changes)


@pytest.mark.parametrize(
    "tree, method, message",
    [
        ([-1, 2, 1], "greedy", "-1 or an earlier node, came 2 for node 1"),
        ([0, 0, 1], "rejection", "-1 or an earlier node, came 0 for node 0"),
        ([-1, 0, -2], "typical", "-1 or an earlier node, came -2 for node 2"),
        ([-1, 0, 2**31 - 1], "rejection", f"-1 or an earlier node, came {2**31 - 1} for node 2"),
        ([-1, -1, 1], "block", "a chain for block verification, came -1 for node 1"),
    ],
)
def test_trees_that_are_none(implementation, tree, method, message):
    """A GPU or NPU cannot raise for a value without being waited for: there the sequence is flagged, and no other."""
    args = list(PAGES["spec_verify"].example(3, 3, 5, method=method))
    clean = spec_verify(*args)
    args[1] = args[1].repeat(3, 1)
    args[1][1] = torch.tensor(tree)
    if implementation not in (*GPU_IMPLEMENTATIONS, *ASCEND_IMPLEMENTATIONS):
        with pytest.raises(RuntimeError, match=f"^spec_verify: parents must be {message}"):
            spec_verify(*args)
        return
    came = spec_verify(*args)
    assert came[1][1] == -1 and (came[0][1] == -1).all() and (came[2][1] == -1).all()
    assert all(torch.equal(a[::2], b[::2]) for a, b in zip(clean, came))
