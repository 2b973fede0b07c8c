import math

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import silu_mul
from pangu_ops.registry import PAGES
from pangu_ops.testing.compare import mismatch


def test_silu_mul_by_hand(implementation):
    out = silu_mul(torch.tensor([[0.0, 1.0, -200.0, 5.0, 2.0, 3.0]]))
    torch.testing.assert_close(out, torch.tensor([[0.0, 2 / (1 + math.exp(-1)), 0.0]]))


def test_silu_mul_at_the_ends_of_the_range(implementation):
    gate = torch.tensor([-torch.inf, -1e4, -88.0, -87.0, -1e-30, 0.0, 1e-30, 87.0, 1e4, torch.nan])
    wanted = F.silu(gate)
    wanted[0] = torch.nan  # -inf * 0
    out = silu_mul(torch.cat((gate, torch.ones(10))))
    torch.testing.assert_close(out, wanted, equal_nan=True, atol=1e-36, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_of_any_number_and_length(implementation, dtype):
    for tokens, intermediate in ((2, 20011), (45, 1344), (300, 44)):  # longer than a core's memory, few, many
        args = PAGES["silu_mul"].example(tokens, intermediate, dtype)
        assert not mismatch(PAGES["silu_mul"], args, silu_mul(*args)), (tokens, intermediate)


X = torch.zeros(3, 8)
BAD = [
    ((X[:, 1:],), "gate_up must be [..., 2*I], came [3, 7]"),
    ((X.bool(),), "gate_up must be float32, bfloat16 or float16, came bool"),
]


@pytest.mark.parametrize("args, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused(implementation, args, message):
    with pytest.raises(RuntimeError) as error:
        silu_mul(*args)
    assert str(error.value).splitlines()[0] == f"silu_mul: {message}"
