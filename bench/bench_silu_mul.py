"""silu_mul against F.silu and a product."""

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import silu_mul
from pangu_ops.testing.bench import Contest, sizes

I = 1344  # noqa: E741


def prepare(tokens):
    gate_up = torch.randn(tokens, 2 * I).bfloat16()

    def plain_torch():
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    return lambda: silu_mul(gate_up), {"torch": plain_torch}


def contests():
    for tokens in sizes((1, 64, 512), (1, 64, 4096)):
        yield Contest(f"silu_mul T={tokens}", lambda tokens=tokens: prepare(tokens), bytes=tokens * I * 6)


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_silu_mul(benchmark, contest):
    contest.benchmark(benchmark)
