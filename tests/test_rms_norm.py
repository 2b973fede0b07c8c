import math

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import rms_norm
from pangu_ops.registry import PAGES
from pangu_ops.testing.compare import mismatch


def test_rms_norm_by_hand(implementation):
    out = rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0]), 0.0)  # root mean square sqrt(12.5)
    torch.testing.assert_close(out, torch.tensor([[3.0, 8.0]]) / math.sqrt(12.5))
    assert torch.equal(rms_norm(torch.zeros(1, 3), torch.ones(3)), torch.zeros(1, 3))


def test_rms_norm_equals_torch_for_any_leading_shape(implementation):
    x = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(50)
    torch.testing.assert_close(rms_norm(x, weight, 1e-6), F.rms_norm(x, (50,), weight, 1e-6))
    torch.testing.assert_close(rms_norm(x[0, 0], weight), F.rms_norm(x[0, 0], (50,), weight, 1e-5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_of_any_number_and_length(implementation, dtype):
    for tokens, hidden in ((2, 20011), (45, 9000), (300, 44)):  # longer than a core's memory, few, many
        args = PAGES["rms_norm"].example(tokens, hidden, dtype)
        assert not mismatch(PAGES["rms_norm"], args, rms_norm(*args)), (tokens, hidden)


X = torch.zeros(3, 8)
BAD = [
    ((torch.zeros(()), X[0]), "x must be [..., H] with H at least 1, came []"),
    ((X, X[0, :7]), "weight must be [H] with the H of x, came [7]"),
    ((X.int(), X[0]), "x must be float32, bfloat16 or float16, came int32"),
    ((X, X[0].half()), "weight must have the dtype of x, came float16"),
]


@pytest.mark.parametrize("args, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused(implementation, args, message):
    with pytest.raises(RuntimeError) as error:
        rms_norm(*args)
    assert str(error.value).splitlines()[0] == f"rms_norm: {message}"
