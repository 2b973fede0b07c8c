"""rms_norm, add_rms_norm, rotary and silu_mul: worked by hand, against torch, and refusing bad input."""

import math

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import add_rms_norm, rms_norm, rotary, silu_mul
from pangu_ops.ops.rotary import rotary_table


def test_rms_norm_by_hand(implementation):
    out = rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0]), 0.0)  # root mean square sqrt(12.5)
    torch.testing.assert_close(out, torch.tensor([[3.0, 8.0]]) / math.sqrt(12.5))
    assert torch.equal(rms_norm(torch.zeros(1, 3), torch.ones(3)), torch.zeros(1, 3))


def test_rms_norm_equals_torch_for_any_leading_shape(implementation):
    x = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(50)
    torch.testing.assert_close(rms_norm(x, weight, 1e-6), F.rms_norm(x, (50,), weight, 1e-6))
    torch.testing.assert_close(rms_norm(x[0, 0], weight), F.rms_norm(x[0, 0], (50,), weight, 1e-5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_add_rms_norm_is_the_two_steps_bit_for_bit(implementation, dtype):
    generator = torch.Generator().manual_seed(0)
    x, residual = (torch.randn(5, 67, generator=generator).to(dtype) for _ in range(2))
    weight = torch.rand(67, generator=generator).to(dtype)
    normed, total = add_rms_norm(x, residual, weight)
    assert torch.equal(total, x + residual)
    assert torch.equal(normed, rms_norm(total, weight))


def test_rotary_by_hand(implementation):
    cos, sin = rotary_table(torch.tensor([0, 1]), 4, 10000.0)  # angles 0, 0 and 1, 0.01
    q = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(2, 1, 4)
    out, _ = rotary(q, q, cos, sin)
    c, s, d, e = math.cos(1), math.sin(1), math.cos(0.01), math.sin(0.01)
    turned = [1 * c - 3 * s, 2 * d - 4 * e, 3 * c + 1 * s, 4 * d + 2 * e]
    torch.testing.assert_close(out[:, 0], torch.tensor([[1.0, 2.0, 3.0, 4.0], turned]))


def test_rotary_reads_slices_of_a_fused_projection(implementation):
    qkv = torch.randn(6, 5, 16, generator=torch.Generator().manual_seed(0))
    q, k, _ = qkv.split((2, 2, 1), dim=1)
    cos, sin = rotary_table(torch.arange(6), 16, 10000.0)
    for came, wanted in zip(rotary(q, k, cos, sin), rotary(q.contiguous(), k.contiguous(), cos, sin)):
        assert torch.equal(came, wanted) and came.is_contiguous()


def test_silu_mul_by_hand(implementation):
    out = silu_mul(torch.tensor([[0.0, 1.0, -200.0, 5.0, 2.0, 3.0]]))
    torch.testing.assert_close(out, torch.tensor([[0.0, 2 / (1 + math.exp(-1)), 0.0]]))


def test_silu_mul_at_the_ends_of_the_range(implementation):
    gate = torch.tensor([-torch.inf, -1e4, -88.0, -87.0, -1e-30, 0.0, 1e-30, 87.0, 1e4, torch.nan])
    wanted = F.silu(gate)
    wanted[0] = torch.nan  # -inf * 0
    torch.testing.assert_close(silu_mul(torch.cat((gate, torch.ones(10)))), wanted, equal_nan=True, atol=1e-36, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_to_half_precision_is_torchs(implementation, dtype):
    """Every pattern of the dtype goes through a load and a store; sums next to a tie round to even."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    cos, sin = torch.ones(1, 2**15), torch.zeros(1, 2**15)
    finite = torch.where(every.isfinite(), every, 0)
    out, _ = rotary(finite.view(1, 1, -1), finite.view(1, 1, -1), cos, sin)
    assert torch.equal(out.flatten(), finite)
    generator = torch.Generator().manual_seed(0)
    a = finite[torch.randint(0, 2**16, (2**16,), generator=generator)]
    _, total = add_rms_norm(a, finite, torch.ones_like(a))
    assert torch.equal(total, a + finite)
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, torch.finfo(dtype).max], dtype=dtype)
    _, total = add_rms_norm(special, special, torch.ones_like(special))
    torch.testing.assert_close(total, special + special, equal_nan=True)


X = torch.zeros(3, 8)
TABLE = torch.zeros(3, 2)
HEADS = torch.zeros(3, 2, 4)
BAD = [
    (rms_norm, (torch.zeros(()), X[0]), "rms_norm: x must be [..., H] with H at least 1, came []"),
    (rms_norm, (X, X[0, :7]), "rms_norm: weight must be [H] with the H of x, came [7]"),
    (rms_norm, (X.int(), X[0]), "rms_norm: x must be float32, bfloat16 or float16, came int32"),
    (rms_norm, (X, X[0].half()), "rms_norm: weight must have the dtype of x, came float16"),
    (add_rms_norm, (X, X[1:], X[0]), "add_rms_norm: residual must have the shape of x, came [2, 8]"),
    (add_rms_norm, (X, X.half(), X[0]), "add_rms_norm: residual must have the dtype of x, came float16"),
    (rotary, (HEADS[..., :3], HEADS, TABLE, TABLE), "rotary: q must be [T, Hq, D] with an even D, came [3, 2, 3]"),
    (rotary, (HEADS, HEADS[1:], TABLE, TABLE), "rotary: k must be [T, Hk, D] with the T and D of q, came [2, 2, 4]"),
    (rotary, (HEADS, HEADS.half(), TABLE, TABLE), "rotary: k must have the dtype of q, came float16"),
    (rotary, (HEADS, HEADS, X, TABLE), "rotary: cos must be [T, D/2] = [3, 2], came [3, 8]"),
    (rotary, (HEADS, HEADS, TABLE, TABLE.half()), "rotary: sin must be float32, came float16"),
    (silu_mul, (X[:, 1:],), "silu_mul: gate_up must be [..., 2*I], came [3, 7]"),
    (silu_mul, (X.bool(),), "silu_mul: gate_up must be float32, bfloat16 or float16, came bool"),
]


@pytest.mark.parametrize("op, args, message", BAD, ids=[message for _, _, message in BAD])
def test_bad_input_is_refused(implementation, op, args, message):
    with pytest.raises(RuntimeError) as error:
        op(*args)
    assert str(error.value).splitlines()[0] == message
