"""moge_experts against the experts as plain torch offers them."""

import pytest
import torch

from pangu_ops import moge_dispatch, moge_experts
from pangu_ops.ops.moge_dispatch import expert_choice
from pangu_ops.testing.bench import Contest, sizes
from pangu_ops.testing.rivals import grouped_mm, loop, pro_moe_experts

H, I, E, G = 5120, 1344, 64, 8  # noqa: E741  Pangu Pro MoE


def prepare(tokens):
    x, ids = torch.randn(tokens, H).bfloat16(), expert_choice(tokens, E, G, 1)
    rows, _, offsets = moge_dispatch(x, ids, E, G)
    args = (rows, offsets, *pro_moe_experts())
    return lambda: moge_experts(*args), {"loop": lambda: loop(*args), "grouped_mm": lambda: grouped_mm(*args)}


def contests():
    for tokens in sizes((1, 64), (1, 64, 4096)):
        active = len(expert_choice(tokens, E, G, 1).unique())
        yield Contest(
            f"moge_experts T={tokens}",
            lambda tokens=tokens: prepare(tokens),
            bytes=active * 3 * H * I * 2,
            flops=tokens * G * 3 * 2 * H * I,
            budget=6.0,
            limit="read",
        )


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_moge_experts(benchmark, contest):
    contest.benchmark(benchmark)
