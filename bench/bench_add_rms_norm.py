"""add_rms_norm against an addition and F.rms_norm."""

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import add_rms_norm
from pangu_ops.testing.bench import Contest, sizes

H = 5120


def prepare(tokens):
    x, residual, weight = torch.randn(tokens, H).bfloat16(), torch.randn(tokens, H).bfloat16(), torch.rand(H).bfloat16()

    def plain_torch():
        total = x + residual
        return F.rms_norm(total, (H,), weight, 1e-5), total

    return lambda: add_rms_norm(x, residual, weight), {"torch": plain_torch}


def contests():
    for tokens in sizes((1, 64, 512), (1, 64, 4096)):
        yield Contest(f"add_rms_norm T={tokens}", lambda tokens=tokens: prepare(tokens), bytes=tokens * H * 8)


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_add_rms_norm(benchmark, contest):
    contest.benchmark(benchmark)
