import pytest
import torch

from pangu_ops import moge_combine, moge_dispatch, moge_experts, moge_ffn, moge_gating
from pangu_ops.ops.moge_experts import expert_weights
from pangu_ops.ops.moge_ffn import example


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 100])
def test_equals_dispatch_experts_and_combine(implementation, tokens):
    """The three ops that this one stands for; bfloat16 rows are rounded in between there, so float32 here."""
    x, weights, ids, gate_up, down, groups, addend = example(tokens, 64, 16, 4, 2, I=40, masked=True)
    rows, slot_rows, offsets = moge_dispatch(x, ids, 16, groups)
    wanted = moge_combine(moge_experts(rows, offsets, gate_up, down), weights, slot_rows, addend)
    torch.testing.assert_close(moge_ffn(x, weights, ids, gate_up, down, groups, addend), wanted, rtol=1e-5, atol=1e-5)


def test_equals_a_loop_over_tokens(implementation):
    """The layer as the report writes it: a weighted sum of the chosen experts' outputs."""
    generator = torch.Generator().manual_seed(0)
    gate_up, down = expert_weights(16, 24, 20)
    x = torch.randn(7, 24, generator=generator)
    weights, ids = moge_gating(torch.randn(7, 16, generator=generator), 4, 1)
    wanted = torch.zeros(7, 24)
    for token in range(7):
        for weight, expert in zip(weights[token], ids[token]):
            gate, up = (gate_up[expert] @ x[token]).chunk(2)
            wanted[token] += weight * (down[expert] @ (torch.nn.functional.silu(gate) * up))
    torch.testing.assert_close(moge_ffn(x, weights, ids, gate_up, down, 4), wanted)


def test_all_masked_leaves_the_addend(implementation):
    x, weights, ids, gate_up, down, groups, addend = example(6, 16, 8, 4, 1)
    out = moge_ffn(torch.full_like(x, torch.nan), weights, torch.full_like(ids, -1), gate_up, down, groups, addend)
    assert torch.equal(out, addend)


def test_a_tokens_result_does_not_depend_on_its_batch_mates(implementation):
    if implementation in ("reference", "amx"):
        pytest.skip(f"{implementation} orders its sums by the number of rows")
    x, weights, ids, gate_up, down, groups, addend = example(50, 64, 8, 4, 1, I=40, dtype=torch.bfloat16)
    together = moge_ffn(x, weights, ids, gate_up, down, groups, addend)
    for t in range(50):
        one = slice(t, t + 1)
        alone = moge_ffn(x[one], weights[one], ids[one], gate_up, down, groups, addend[one])
        assert torch.equal(alone[0], together[t])


X, IDS = torch.zeros(3, 4), torch.zeros(3, 2, dtype=torch.int32)
WEIGHTS, GATE_UP, DOWN = torch.zeros(3, 2), torch.zeros(2, 6, 4), torch.zeros(2, 4, 3)
BAD = [
    ((X[0], WEIGHTS, IDS, GATE_UP, DOWN, 2), "x must be [T, H], came [4]"),
    ((X, WEIGHTS, IDS, GATE_UP[..., 1:], DOWN, 2), "gate_up must be [E, 2*I, H] with the H of x, came [2, 6, 3]"),
    ((X, WEIGHTS, IDS, GATE_UP, DOWN[1:], 2), "down must be [E, H, I] = [2, 4, 3], came [1, 4, 3]"),
    ((X, WEIGHTS, IDS, GATE_UP, DOWN, 3), "num_groups must divide num_experts, came 3 for 2 experts"),
    ((X, WEIGHTS[1:], IDS, GATE_UP, DOWN, 2), "weights must have the shape of expert_ids, came [2, 2]"),
    ((X, WEIGHTS, IDS.long(), GATE_UP, DOWN, 2), "expert_ids must be int32, came int64"),
    ((X, WEIGHTS, IDS, GATE_UP, DOWN, 2, X[1:]), "addend must be [T, H], came [2, 4]"),
    ((X, WEIGHTS, IDS, GATE_UP, DOWN, 2, X.half()), "addend must have the dtype of x, came float16"),
]


@pytest.mark.parametrize("args, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused(implementation, args, message):
    with pytest.raises(RuntimeError) as error:
        moge_ffn(*args)
    assert str(error.value).splitlines()[0] == f"moge_ffn: {message}"
