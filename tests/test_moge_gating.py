import pytest
import torch

import pangu_ops
from pangu_ops import moge_gating, topk_gating
from pangu_ops.balance import device_load


def test_a_case_worked_by_hand(implementation):
    # softmax of ln(1, 2, 3, 4) is 0.1, 0.2, 0.3, 0.4; groups are experts 0-1 and 2-3
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 1.0, 2.0, 3.0]]).log()
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0])
    weights, ids = moge_gating(logits, 2, 1, expert_scale=scale, scaling_factor=10.0)
    assert ids.tolist() == [[1, 3], [0, 3]]
    torch.testing.assert_close(weights, torch.tensor([[4.0, 16.0], [4.0, 12.0]]))
    weights, ids = moge_gating(logits, 2, 2, renormalize=True)
    assert ids.tolist() == [[1, 0, 3, 2], [0, 1, 3, 2]]
    torch.testing.assert_close(weights[0], torch.tensor([0.2, 0.1, 0.4, 0.3]))


def test_the_bias_moves_the_choice_and_not_the_weight(implementation):
    logits = torch.zeros(1, 4)
    weights, ids = moge_gating(logits, 2, 1, "sigmoid", correction_bias=torch.tensor([0.0, 9.0, 0.0, -9.0]))
    assert ids.tolist() == [[1, 2]]
    torch.testing.assert_close(weights, torch.full((1, 2), 0.5))


def test_ties_go_to_the_lower_id(implementation):
    for k in (1, 3):
        _, ids = moge_gating(torch.tensor([-0.0, 0.0]).repeat(2, 8), 2, k)
        assert ids.tolist() == [[*range(k), *range(8, 8 + k)]] * 2


def test_nan_counts_as_minus_infinity(implementation):
    nan, inf = torch.nan, torch.inf
    logits = torch.tensor([[nan, 0.0, nan, nan], [nan, nan, nan, nan], [-inf, -inf, 1.0, inf], [nan, -inf, 0.0, nan]])
    weights, ids = moge_gating(logits, 2, 2)
    assert ids.tolist() == [[1, 0, 2, 3], [0, 1, 2, 3], [0, 1, 3, 2], [0, 1, 2, 3]]
    assert weights.tolist() == [[1, 0, 0, 0], [0] * 4, [0] * 4, [0, 0, 1, 0]]
    biased = moge_gating(logits, 2, 2, correction_bias=torch.tensor([9.0, 0.0, 0.0, 9.0]))
    assert biased[1].tolist() == [[1, 0, 2, 3], [0, 1, 2, 3], [0, 1, 3, 2], [0, 1, 2, 3]]


@pytest.mark.parametrize("score_function", ["softmax", "sigmoid"])
def test_weights_are_the_scores_of_the_chosen(implementation, score_function):
    """Of those chosen last too, where nothing but the logits ranks."""
    logits = torch.randn(20, 96, generator=torch.Generator().manual_seed(3))
    scores = logits.softmax(-1) if score_function == "softmax" else logits.sigmoid()
    weights, ids = moge_gating(logits, 4, 3, score_function)
    torch.testing.assert_close(weights, scores.gather(1, ids.long()))


def test_infinity_leaves_no_weight_to_share(implementation):
    logits = torch.zeros(1, 8)
    logits[0, 5] = torch.inf
    bias = torch.tensor([0.0, 0.0, 1.0, 2.0, 0.0, 9.0, 0.0, 0.0])
    weights, ids = moge_gating(logits, 2, 2, correction_bias=bias, renormalize=True)
    assert ids.tolist() == [[3, 2, 5, 4]]
    assert weights.tolist() == [[0] * 4]


SIZES = [(12, 4, 3), (72, 8, 2), (80, 8, 1), (96, 6, 5), (160, 8, 4), (400, 2, 3), (512, 1, 8)]


@pytest.mark.parametrize("experts, groups, k", SIZES)
def test_ids_are_distinct_and_inside_their_group(implementation, experts, groups, k):
    logits = torch.randn(50, experts, generator=torch.Generator().manual_seed(0))
    logits[::7] = torch.nan
    logits[1::7] = torch.inf
    _, ids = moge_gating(logits, groups, k)
    slots = torch.arange(groups * k) // k
    assert torch.equal(ids // (experts // groups), slots.expand_as(ids).int())
    assert (ids.sort(1).values.diff(dim=1) > 0).all()


def test_equals_the_released_models_routing(implementation):
    """Groups of eight, one of each, as the released modelling code computes it; E/G != k."""
    logits = torch.randn(64, 96, generator=torch.Generator().manual_seed(1))
    best, index = logits.softmax(-1).view(64, 8, 12).max(-1)
    weights, ids = moge_gating(logits, 8, 1)
    assert torch.equal(ids, (index + torch.arange(0, 96, 12)).int())
    torch.testing.assert_close(weights, best)


def test_topk_gating_is_ordinary_routing(implementation):
    logits = torch.randn(40, 64, generator=torch.Generator().manual_seed(2))
    best, index = logits.topk(8)
    weights, ids = topk_gating(logits, 8, renormalize=True)
    assert torch.equal(ids, index.int())
    torch.testing.assert_close(weights, best.softmax(-1))


def test_imbalance_meets_the_monte_carlo_oracle():
    """Uniform routing of 64 experts, 8 of each token, on 8 devices: mean IS and max/mean load by batch size."""
    oracle = {1: (2.45, 2.46), 16: (0.67, 1.35), 64: (0.34, 1.17), 256: (0.17, 1.08)}
    generator = torch.Generator().manual_seed(0)
    for tokens, (wanted_score, wanted_load) in oracle.items():
        scores, loads = [], []
        for _ in range(400):
            logits = torch.randn(tokens, 64, generator=generator)
            _, ids = topk_gating(logits, 8)
            scores.append(pangu_ops.imbalance_score(ids, 64, 8))
            load = device_load(ids, 64, 8).double()
            loads.append((load.max() / load.mean()).item())
            assert pangu_ops.imbalance_score(moge_gating(logits, 8, 1)[1], 64, 8) == 0
        assert sum(scores) / 400 == pytest.approx(wanted_score, rel=0.05)
        assert sum(loads) / 400 == pytest.approx(wanted_load, rel=0.03)


def test_load_balance_loss_by_hand():
    # two tokens, four experts, one choice each: f = 4/(1*2) * counts, p = mean score
    scores = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]], requires_grad=True)
    ids = torch.tensor([[0], [3]])
    loss = pangu_ops.load_balance_loss(scores, ids, alpha=0.1)
    assert loss.item() == pytest.approx(0.1 * 2 * (0.375 + 0.125))
    loss.backward()
    assert scores.grad[0].tolist() == pytest.approx([0.1, 0, 0, 0.1])
    even = torch.full((8, 8), 1 / 8)
    assert pangu_ops.load_balance_loss(even, torch.arange(8)[:, None]).item() == pytest.approx(1.0)


BAD = [
    ((torch.zeros(3), 1, 1), "logits must be [T, E], came [3]"),
    ((torch.zeros(2, 8, dtype=torch.int64), 2, 1), "logits must be float32, bfloat16 or float16, came int64"),
    ((torch.zeros(2, 1026), 2, 1), "the number of experts must be 1 to 1024, came 1026"),
    ((torch.zeros(2, 0), 1, 1), "the number of experts must be 1 to 1024, came 0"),
    ((torch.zeros(2, 8), 3, 1), "num_groups must divide the number of experts, came 3 for 8 experts"),
    ((torch.zeros(2, 8), 0, 1), "num_groups must divide the number of experts, came 0 for 8 experts"),
    ((torch.zeros(2, 8), 2, 5), "topk_per_group must be 1 to the experts of a group, came 5 for groups of 4"),
    ((torch.zeros(2, 8), 2, 0), "topk_per_group must be 1 to the experts of a group, came 0 for groups of 4"),
    ((torch.zeros(2, 8), 2, 1, "tanh"), "score_function must be softmax or sigmoid, came tanh"),
    ((torch.zeros(2, 8), 2, 1, "softmax", torch.zeros(7)), "correction_bias must be [E] = [8], came [7]"),
    ((torch.zeros(2, 8), 2, 1, "softmax", None, torch.zeros(8).half()), "expert_scale must be float32, came float16"),
]


@pytest.mark.parametrize("args, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused(implementation, args, message):
    with pytest.raises(RuntimeError) as error:
        moge_gating(*args)
    assert str(error.value).splitlines()[0] == f"moge_gating: {message}"
