import math

import pytest
import torch

from pangu_ops import rotary
from pangu_ops.ops.rotary import rotary_table


def test_rotary_by_hand(implementation):
    cos, sin = rotary_table(torch.tensor([0, 1]), 4, 10000.0)  # angles 0, 0 and 1, 0.01
    q = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(2, 1, 4)
    out, _ = rotary(q, q, cos, sin)
    c, s, d, e = math.cos(1), math.sin(1), math.cos(0.01), math.sin(0.01)
    turned = [1 * c - 3 * s, 2 * d - 4 * e, 3 * c + 1 * s, 4 * d + 2 * e]
    torch.testing.assert_close(out[:, 0], torch.tensor([[1.0, 2.0, 3.0, 4.0], turned]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("size", [16, 22, 128])
def test_rotary_reads_slices_of_a_fused_projection(implementation, size, dtype):
    qkv = torch.randn(6, 9, size, generator=torch.Generator().manual_seed(0)).to(dtype)
    queries, keys, _ = qkv.split((4, 2, 3), dim=1)
    same = queries[:1].expand(6, 4, size), keys[:, :1].expand(6, 3, size)
    cos, sin = rotary_table(torch.arange(6), size, 10000.0)
    for q, k in ((queries, keys), (queries[:, ::2], keys[:, 1:]), same):
        for came, wanted in zip(rotary(q, k, cos, sin), rotary(q.contiguous(), k.contiguous(), cos, sin)):
            assert torch.equal(came, wanted) and came.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_half_precision_number_survives_the_way_through(implementation, dtype):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    heads = torch.where(every.isfinite(), every, 0).view(1, 1, -1)
    out, _ = rotary(heads, heads, torch.ones(1, 2**15), torch.zeros(1, 2**15))
    assert torch.equal(out, heads)


X = torch.zeros(3, 8)
TABLE = torch.zeros(3, 2)
HEADS = torch.zeros(3, 2, 4)
BAD = [
    ((HEADS[..., :3], HEADS, TABLE, TABLE), "q must be [T, Hq, D] with an even D, came [3, 2, 3]"),
    ((HEADS, HEADS[1:], TABLE, TABLE), "k must be [T, Hk, D] with the T and D of q, came [2, 2, 4]"),
    ((HEADS, HEADS.half(), TABLE, TABLE), "k must have the dtype of q, came float16"),
    ((HEADS, HEADS, X, TABLE), "cos must be [T, D/2] = [3, 2], came [3, 8]"),
    ((HEADS, HEADS, TABLE, TABLE.half()), "sin must be float32, came float16"),
]


@pytest.mark.parametrize("args, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused(implementation, args, message):
    with pytest.raises(RuntimeError) as error:
        rotary(*args)
    assert str(error.value).splitlines()[0] == f"rotary: {message}"
