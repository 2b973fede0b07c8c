"""rms_norm against F.rms_norm."""

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import rms_norm
from pangu_ops.testing.bench import Contest, sizes

H = 5120


def prepare(tokens):
    x, weight = torch.randn(tokens, H).bfloat16(), torch.rand(H).bfloat16()
    return lambda: rms_norm(x, weight), {"torch": lambda: F.rms_norm(x, (H,), weight, 1e-5)}


def contests():
    for tokens in sizes((1, 64, 512), (1, 64, 4096)):
        yield Contest(f"rms_norm T={tokens}", lambda tokens=tokens: prepare(tokens), bytes=tokens * H * 4)


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_rms_norm(benchmark, contest):
    contest.benchmark(benchmark)
