"""linear against F.linear: a square layer and the head of the released models."""

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import linear
from pangu_ops.testing.bench import Contest, sizes


def prepare(tokens, columns, size):
    x, weight = torch.randn(tokens, size).bfloat16(), (torch.randn(columns, size) * size**-0.5).bfloat16()
    return lambda: linear(x, weight), {"F.linear": lambda: F.linear(x, weight)}


def contests():
    cpu = (1, 4096, 4096), (8, 4096, 4096), (64, 4096, 4096), (512, 4096, 4096), (1, 153376, 4096)
    gpu = (1, 4096, 4096), (64, 4096, 4096), (1, 25600, 4096), (4096, 25600, 4096), (1, 153376, 4096)
    for tokens, columns, size in sizes(cpu, gpu):
        yield Contest(
            f"linear T={tokens} {size} to {columns}",
            lambda shape=(tokens, columns, size): prepare(*shape),
            bytes=columns * size * 2,
            flops=2 * tokens * columns * size,
            limit="read",
        )


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_linear(benchmark, contest):
    contest.benchmark(benchmark)
