"""rotary against plain torch on the halves."""

import pytest
import torch

from pangu_ops import rotary
from pangu_ops.ops.rotary import rotary_table
from pangu_ops.testing.bench import Contest, sizes

Q_HEADS, K_HEADS, D = 40, 8, 128


def prepare(tokens):
    q, k = torch.randn(tokens, Q_HEADS, D).bfloat16(), torch.randn(tokens, K_HEADS, D).bfloat16()
    cos, sin = rotary_table(torch.arange(tokens), D, 16e6)
    cosines, sines = (torch.cat((table, table), -1)[:, None].bfloat16() for table in (cos, sin))

    def turn(x):
        a, b = x.chunk(2, dim=-1)
        return x * cosines + torch.cat((-b, a), -1) * sines

    return lambda: rotary(q, k, cos, sin), {"torch": lambda: (turn(q), turn(k))}


def contests():
    for tokens in sizes((1, 64, 512), (1, 64, 4096)):
        moved = tokens * (Q_HEADS + K_HEADS) * D * 4
        yield Contest(f"rotary T={tokens}", lambda tokens=tokens: prepare(tokens), bytes=moved)


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_rotary(benchmark, contest):
    contest.benchmark(benchmark)
