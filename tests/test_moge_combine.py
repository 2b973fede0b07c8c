import pytest
import torch

from pangu_ops import moge_combine, moge_dispatch
from pangu_ops.ops.moge_dispatch import expert_choice
from pangu_ops.registry import PAGES


def test_a_case_worked_by_hand(implementation):
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [torch.nan, torch.inf]])
    slot_rows = torch.tensor([[1, 0], [0, -1]], dtype=torch.int32)
    weights = torch.tensor([[2.0, 10.0], [1.0, 5.0]])
    assert moge_combine(rows, weights, slot_rows).tolist() == [[16, 28], [1, 2]]
    addend = torch.tensor([[1.0, 1.0], [0.5, 0.5]])
    assert moge_combine(rows, weights, slot_rows, addend).tolist() == [[17, 29], [1.5, 2.5]]


def test_undoes_dispatch(implementation):
    x = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))
    rows, slot_rows, _ = moge_dispatch(x, expert_choice(30, 16, 4, 2), 16, 4)
    weights = torch.full((30, 8), 1 / 8)
    torch.testing.assert_close(moge_combine(rows, weights, slot_rows), x)


def test_rows_out_of_range_count_as_masked(implementation):
    slot_rows = torch.tensor([[2, -5, 2**31 - 1, 0]], dtype=torch.int32)
    assert moge_combine(torch.tensor([[3.0], [4.0]]), torch.ones(1, 4), slot_rows).tolist() == [[3]]
    assert moge_combine(torch.empty(0, 1), torch.ones(1, 4), slot_rows).tolist() == [[0]]


def test_many_slots(implementation):
    generator = torch.Generator().manual_seed(0)
    rows, weights = torch.randn(50, 9, generator=generator), torch.randn(3, 1500, generator=generator)
    slot_rows = torch.randint(-1, 50, (3, 1500), generator=generator, dtype=torch.int32)
    picked = rows.double()[slot_rows.long()] * (slot_rows >= 0)[..., None]
    wanted = (picked * weights.double()[..., None]).sum(1)
    torch.testing.assert_close(moge_combine(rows, weights, slot_rows).double(), wanted, rtol=1e-4, atol=1e-3)


def test_two_slots_may_share_a_row(implementation):
    rows = torch.ones(1, 2, requires_grad=True)
    moge_combine(rows, torch.tensor([[2.0, 3.0]]), torch.zeros(1, 2, dtype=torch.int32)).sum().backward()
    assert rows.grad.tolist() == [[5, 5]]


def test_gradients_of_masked_slots_are_zero(implementation):
    weights = torch.ones(1, 2, requires_grad=True)
    slot_rows = torch.tensor([[0, -1]], dtype=torch.int32)
    moge_combine(torch.ones(1, 2), weights, slot_rows).mul(torch.inf).sum().backward()
    assert weights.grad.tolist() == [[torch.inf, 0]]


@pytest.mark.parametrize("num_rows", [1, 4, 90])
def test_gradients_of_rows_that_many_slots_share_or_none(implementation, num_rows):
    """What a row gets is the sum over its slots in their order, the same at every run."""
    generator = torch.Generator().manual_seed(0)
    rows, weights = torch.randn(num_rows, 5, generator=generator), torch.randn(200, 3, generator=generator)
    slot_rows = torch.randint(-1, num_rows + 1, (200, 3), generator=generator, dtype=torch.int32)
    slot_rows[:, 1] = -1
    grad = torch.randn(200, 5, generator=generator)
    came = torch.ops.pangu.moge_combine_backward(grad, rows, weights, slot_rows)
    again = torch.ops.pangu.moge_combine_backward(grad, rows, weights, slot_rows)
    assert all(map(torch.equal, came, again))
    wanted = PAGES["moge_combine_backward"].reference(grad.double(), rows.double(), weights.double(), slot_rows)
    for a, b in zip(came, wanted):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-4)
    used = torch.isin(torch.arange(num_rows), slot_rows)
    assert (came[0][~used] == 0).all() and (came[1][slot_rows == -1] == 0).all()


SLOTS = torch.zeros(2, 3, dtype=torch.int32)
BAD = [
    ((torch.zeros(3), torch.zeros(2, 3), SLOTS), "rows must be [R, H], came [3]"),
    ((torch.zeros(6, 4), torch.zeros(2, 3), SLOTS.long()), "slot_rows must be int32, came int64"),
    ((torch.zeros(6, 4), torch.zeros(2, 2), SLOTS), "weights must have the shape of slot_rows, came [2, 2]"),
    ((torch.zeros(6, 4), torch.zeros(2, 3).half(), SLOTS), "weights must be float32, came float16"),
    ((torch.zeros(6, 4), torch.zeros(2, 3), SLOTS, torch.zeros(2, 3)), "addend must be [T, H], came [2, 3]"),
    (
        (torch.zeros(6, 4), torch.zeros(2, 3), SLOTS, torch.zeros(2, 4).half()),
        "addend must have the dtype of rows, came float16",
    ),
]


@pytest.mark.parametrize("args, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused(implementation, args, message):
    with pytest.raises(RuntimeError) as error:
        moge_combine(*args)
    assert str(error.value).splitlines()[0] == f"moge_combine: {message}"


def test_rows_beyond_two_to_the_31_elements(implementation):
    """Rows so long that few of them are more than 2^31 elements; memory that nobody touches costs nothing."""
    if implementation == "reference":
        pytest.skip("the reference makes copies of all rows")
    hidden = 2**14
    rows = torch.empty(2**17 + 2, hidden, dtype=torch.bfloat16)
    rows[-1], rows[0] = 2.0, 1.0
    slot_rows = torch.tensor([[len(rows) - 1, 0]], dtype=torch.int32)
    assert torch.equal(moge_combine(rows, torch.ones(1, 2), slot_rows), torch.full((1, hidden), 3.0).bfloat16())
