import math

import pytest
import torch

from pangu_ops import moge_experts
from pangu_ops.backends import GPU_IMPLEMENTATIONS


def offsets(*values):
    return torch.tensor(values, dtype=torch.int32)


def test_a_case_worked_by_hand(implementation):
    # H = I = 1: out = silu(gate * x) * (up * x) * down
    rows = torch.tensor([[1.0], [2.0], [3.0]])
    gate_up = torch.tensor([[[1.0], [2.0]], [[0.5], [1.0]], [[-1.0], [1.0]]])
    down = torch.tensor([[[10.0]], [[1.0]], [[1.0]]])
    wanted = []
    for x, (gate, up, scale) in zip((1, 2, 3), ((1, 2, 10), (-1, 1, 1), (-1, 1, 1))):
        wanted.append([gate * x / (1 + math.exp(-gate * x)) * up * x * scale])
    out = moge_experts(rows, offsets(0, 1, 1, 3), gate_up, down)  # expert 1 is empty
    torch.testing.assert_close(out, torch.tensor(wanted))


def test_a_rows_result_does_not_depend_on_its_neighbours(implementation):
    if implementation == "reference":
        pytest.skip("the reference's matrix products choose their order by size")
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 70, generator=generator)
    gate_up, down = torch.randn(1, 60, 70, generator=generator), torch.randn(1, 70, 30, generator=generator)
    together = moge_experts(rows, offsets(0, 40), gate_up, down)
    for row in range(40):
        assert torch.equal(moge_experts(rows[row : row + 1], offsets(0, 1), gate_up, down)[0], together[row])


def test_on_a_gpu_rows_that_no_expert_owns_are_zero(implementation):
    if implementation not in GPU_IMPLEMENTATIONS:
        pytest.skip(f"{implementation} refuses such offsets")
    generator = torch.Generator().manual_seed(0)
    rows, gate_up = torch.randn(5, 8, generator=generator), torch.randn(2, 12, 8, generator=generator)
    down = torch.randn(2, 8, 6, generator=generator)
    wanted = moge_experts(rows, offsets(0, 2, 5), gate_up, down)
    wanted[0] = wanted[4] = 0.0
    assert torch.equal(moge_experts(rows, offsets(1, 2, 4), gate_up, down), wanted)
    # Values that do not rise: no row is left out, or becomes anything else than what one of the experts makes of it.
    owners = [moge_experts(rows, offsets(*values), gate_up, down) for values in ((0, 5, 5), (0, 0, 5), (0, 0, 0))]
    for values in ((9, 2, -7), (-(2**31), 2**31 - 1, 3), (5, 0, 0), (0, 3, 2)):
        out = moge_experts(rows, offsets(*values), gate_up, down)
        assert torch.stack([(out == owner).all(1) for owner in owners]).any(0).all(), values


ROWS, GATE_UP, DOWN = torch.zeros(5, 4), torch.zeros(2, 6, 4), torch.zeros(2, 4, 3)
RISE = "expert_offsets must rise from 0 to the number of rows, 5, came other values"
BAD = [
    ((ROWS[0], offsets(0, 2, 5), GATE_UP, DOWN), "rows must be [R, H], came [4]"),
    ((ROWS, offsets(0, 2, 5), GATE_UP[:, :5], DOWN), "gate_up must be [E, 2*I, H] with the H of rows, came [2, 5, 4]"),
    ((ROWS[:, 1:], offsets(0, 2, 5), GATE_UP, DOWN), "gate_up must be [E, 2*I, H] with the H of rows, came [2, 6, 4]"),
    ((ROWS, offsets(0, 2, 5), GATE_UP, DOWN[..., :2]), "down must be [E, H, I] = [2, 4, 3], came [2, 4, 2]"),
    ((ROWS, offsets(0, 2, 5), GATE_UP.half(), DOWN), "gate_up must have the dtype of rows, came float16"),
    ((ROWS, offsets(0, 5), GATE_UP, DOWN), "expert_offsets must be [E+1] = [3], came [2]"),
    ((ROWS, offsets(0, 2, 5).long(), GATE_UP, DOWN), "expert_offsets must be int32, came int64"),
    ((ROWS, offsets(0, 2, 4), GATE_UP, DOWN), RISE),
    ((ROWS, offsets(1, 2, 5), GATE_UP, DOWN), RISE),
    ((ROWS, offsets(0, 6, 5), GATE_UP, DOWN), RISE),
    ((ROWS, offsets(0, -1, 5), GATE_UP, DOWN), RISE),
]


@pytest.mark.parametrize("number, args, message", [(i, *bad) for i, bad in enumerate(BAD)], ids=lambda v: str(v)[:50])
def test_bad_input_is_refused(implementation, number, args, message):
    if implementation in GPU_IMPLEMENTATIONS and message == RISE:
        pytest.skip("a GPU takes what offsets there are: to see them the CPU would have to wait")
    with pytest.raises(RuntimeError) as error:
        moge_experts(*args)
    assert str(error.value).splitlines()[0] == f"moge_experts: {message}"
