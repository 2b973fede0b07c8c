import pytest
import torch

from pangu_ops import add_rms_norm, rms_norm


@pytest.mark.parametrize("shape", [(5, 67), (2, 9001)], ids=["short", "long"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_add_rms_norm_is_the_two_steps_bit_for_bit(implementation, dtype, shape):
    generator = torch.Generator().manual_seed(0)
    x, residual = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    weight = torch.rand(shape[1], generator=generator).to(dtype)
    normed, total = add_rms_norm(x, residual, weight)
    assert torch.equal(total, x + residual)
    assert torch.equal(normed, rms_norm(total, weight))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_are_rounded_as_torch_rounds_them(implementation, dtype):
    """Every finite pattern of the dtype meets a random one; ties go to even, overflow to inf, NaN stays."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    finite = torch.where(every.isfinite(), every, 0)
    other = finite[torch.randint(0, 2**16, (2**16,), generator=torch.Generator().manual_seed(0))]
    _, total = add_rms_norm(other, finite, torch.ones_like(other))
    assert torch.equal(total, other + finite)
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, torch.finfo(dtype).max], dtype=dtype)
    _, total = add_rms_norm(special, special, torch.ones_like(special))
    torch.testing.assert_close(total, special + special, equal_nan=True)


X = torch.zeros(3, 8)
BAD = [
    ((X, X[1:], X[0]), "residual must have the shape of x, came [2, 8]"),
    ((X, X.half(), X[0]), "residual must have the dtype of x, came float16"),
]


@pytest.mark.parametrize("args, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused(implementation, args, message):
    with pytest.raises(RuntimeError) as error:
        add_rms_norm(*args)
    assert str(error.value).splitlines()[0] == f"add_rms_norm: {message}"
