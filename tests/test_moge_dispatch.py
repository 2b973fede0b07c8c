import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pangu_ops
from pangu_ops import moge_dispatch
from pangu_ops.backends import missing
from pangu_ops.nvidia import INTERPRETED
from pangu_ops.ops.moge_dispatch import expert_choice, reference


def test_a_case_worked_by_hand(implementation):
    # experts 0-1 are group 0, experts 2-3 group 1; token 1's second slot is masked
    x = torch.tensor([[1.0], [2.0], [3.0]])
    ids = torch.tensor([[1, 2], [0, -1], [1, 2]], dtype=torch.int32)
    rows, slot_rows, offsets = moge_dispatch(x, ids, 4, 2)
    assert rows.flatten().tolist() == [2, 1, 3, 1, 3, 0]
    assert slot_rows.tolist() == [[1, 3], [0, -1], [2, 4]]
    assert offsets.tolist() == [0, 1, 3, 5, 6]


def naive(x, ids, num_experts, num_groups):
    """The contract, slot by slot."""
    tokens, slots = ids.shape
    size, k = num_experts // num_groups, slots // num_groups
    rows, slot_rows, offsets = [], [[-1] * slots for _ in range(tokens)], []
    for group in range(num_groups):
        for expert in range(group * size, (group + 1) * size):
            offsets.append(len(rows))
            for token in range(tokens):
                for slot in range(group * k, (group + 1) * k):
                    if ids[token, slot] == expert:
                        slot_rows[token][slot] = len(rows)
                        rows.append(x[token].tolist())
        rows += [[0.0] * x.shape[1]] * ((group + 1) * tokens * k - len(rows))
    return rows, slot_rows, [*offsets, len(rows)]


@given(st.data())
def test_any_ids_obey_the_contract(data):
    groups, size, k, tokens = (data.draw(st.integers(low, high)) for low, high in ((1, 4), (1, 4), (1, 3), (0, 5)))
    experts = groups * size
    values = st.integers(-2, experts + 1) | st.sampled_from([-(2**31), 2**31 - 1])
    ids = [[data.draw(values) for _ in range(groups * k)] for _ in range(tokens)]
    ids = torch.tensor(ids, dtype=torch.int32).view(tokens, groups * k)
    x = torch.arange(1.0, 1 + tokens * 2).view(tokens, 2)
    wanted = naive(x, ids, experts, groups)
    for implementation in ("reference", pangu_ops.backends.current()):
        with pangu_ops.use(implementation):
            rows, slot_rows, offsets = moge_dispatch(x, ids, experts, groups)
        assert (rows.tolist(), slot_rows.tolist(), offsets.tolist()) == wanted


def test_groups_own_constant_rows_whatever_the_data(implementation):
    for seed in range(5):
        ids = torch.randint(-3, 40, (11, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
        _, _, offsets = moge_dispatch(torch.zeros(11, 4), ids, 32, 4)
        assert offsets[::8].tolist() == [0, 22, 44, 66, 88]


@pytest.mark.parametrize(
    "tokens, experts, groups, k",
    [(1100, 4, 2, 2), (20, 40, 1, 3), (70, 60, 2, 5), (300, 128, 2, 2), (90, 5000, 1, 3)],
)
def test_many_slots_and_large_groups(implementation, tokens, experts, groups, k):
    if implementation == "triton" and INTERPRETED and experts > 1000:
        pytest.skip("takes the interpreter half a minute")
    x = torch.arange(tokens)[:, None].float()
    ids = torch.randint(-1, experts, (tokens, groups * k), generator=torch.Generator().manual_seed(0)).int()
    for came, wanted in zip(moge_dispatch(x, ids, experts, groups), reference(x, ids, experts, groups)):
        assert torch.equal(came, wanted)


@pytest.mark.skipif(bool(missing("triton")), reason=missing("triton"))
def test_placing_tells_the_token_of_every_row():
    from pangu_ops.triton_kernels.moge_dispatch import place

    ids = expert_choice(40, 12, 3, 2, masked=True).to("cpu" if INTERPRETED else "cuda")
    slot_rows, expert_offsets, row_tokens = (result.cpu() for result in place(ids, 12, 3))
    _, *wanted = reference(torch.zeros(40, 1), ids.cpu(), 12, 3)
    assert torch.equal(slot_rows, wanted[0]) and torch.equal(expert_offsets, wanted[1])
    tokens = [-1] * 240
    for token, rows in enumerate(slot_rows.tolist()):
        for row in rows:
            if row >= 0:
                tokens[row] = token
    assert row_tokens.tolist() == tokens


def test_masked_rows_are_zero_even_for_infinite_tokens(implementation):
    rows, _, _ = moge_dispatch(torch.full((2, 3), torch.inf), torch.full((2, 2), -1, dtype=torch.int32), 4, 2)
    assert torch.equal(rows, torch.zeros(4, 3))


def test_large_copies_that_bypass_the_cache(implementation):
    """More than the cache is asked to hold, with rows that start at odd addresses."""
    x = torch.randn(900, 1001, generator=torch.Generator().manual_seed(0)).bfloat16()
    ids = torch.randint(0, 4, (900, 4), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    ids += torch.arange(0, 16, 4, dtype=torch.int32)
    rows, slot_rows, _ = moge_dispatch(x, ids, 16, 4)
    for slot in range(4):
        assert torch.equal(rows[slot_rows[:, slot].long()], x)


def ids(*shape):
    return torch.zeros(shape, dtype=torch.int32)


BAD = [
    ((torch.zeros(3), ids(3, 2), 4, 2), "x must be [T, H], came [3]"),
    ((torch.zeros(3, 4), ids(2, 2), 4, 2), "expert_ids must be [T, K] with the T of x, came [2, 2]"),
    ((torch.zeros(3, 4), ids(3, 2).long(), 4, 2), "expert_ids must be int32, came int64"),
    ((torch.zeros(3, 4), ids(3, 2), 5, 2), "num_groups must divide num_experts, came 2 for 5 experts"),
    ((torch.zeros(3, 4), ids(3, 3), 4, 2), "num_groups must divide the slots of a token, came 2 for 3 slots"),
    ((torch.zeros(3, 4), ids(3, 0), 4, 2), "num_groups must divide the slots of a token, came 2 for 0 slots"),
    ((torch.zeros(3, 4), ids(3, 2), 2**40, 2), "num_experts must be below 2^31, came 1099511627776"),
    ((torch.zeros(3, 4), ids(1, 1).expand(3, 2**30), 2, 1), "T*K must be below 2^31, came 3221225472"),
    (
        (torch.zeros(3, 4, dtype=torch.complex64), ids(3, 2), 4, 2),
        "x must be float32, bfloat16 or float16, came another dtype",
    ),
    ((torch.zeros(3, 4).int(), ids(3, 2), 4, 2), "x must be float32, bfloat16 or float16, came int32"),
]


@pytest.mark.parametrize("args, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused(implementation, args, message):
    with pytest.raises(RuntimeError) as error:
        moge_dispatch(*args)
    assert str(error.value).splitlines()[0] == f"moge_dispatch: {message}"
