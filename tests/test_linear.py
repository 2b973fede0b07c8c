import pytest
import torch

from pangu_ops import linear


def test_linear_by_hand(implementation):
    x, weight = torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.tensor([[1.0, 0.0], [2.0, 5.0], [0.0, -1.0]])
    wanted = torch.tensor([[1.5, 12.5, -1.5], [3.5, 1.5, 1.5]])
    assert torch.equal(linear(x, weight, torch.full((3,), 0.5)), wanted)
    assert torch.equal(linear(x, weight), wanted - 0.5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17])
def test_in_float32_a_token_does_not_see_its_batch_mates(implementation, count):
    if implementation == "reference":
        pytest.skip("reference: torch's own product sums in another order for one row than for many")
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(40, 133, generator=generator), torch.randn(37, 133, generator=generator)
    alone = torch.cat([linear(part, weight) for part in x.split(count)])
    assert torch.equal(linear(x, weight), alone)


X, WEIGHT = torch.zeros(3, 8), torch.zeros(5, 8)
BAD = [
    ((X[0], WEIGHT), "x must be [T, H], came [8]"),
    ((X, WEIGHT[:, :7]), "weight must be [N, H] with the H of x, came [5, 7]"),
    ((X.double(), WEIGHT), "x must be float32, bfloat16 or float16, came float64"),
    ((X, WEIGHT.half()), "weight must have the dtype of x, came float16"),
    ((X, WEIGHT, torch.zeros(4)), "bias must be [N] = [5], came [4]"),
    ((X, WEIGHT, torch.zeros(5).bfloat16()), "bias must have the dtype of x, came bfloat16"),
]


@pytest.mark.parametrize("args, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused(implementation, args, message):
    if implementation == "reference" and "came float64" in message:
        pytest.skip("reference: float64 is what it is for")
    with pytest.raises(RuntimeError) as error:
        linear(*args)
    assert str(error.value).splitlines()[0] == f"linear: {message}"
