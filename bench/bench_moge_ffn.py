"""moge_ffn against dispatch, the experts as plain torch offers them, and combine."""

import pytest
import torch

from pangu_ops import moge_combine, moge_dispatch, moge_ffn
from pangu_ops.ops.moge_dispatch import expert_choice
from pangu_ops.testing.bench import Contest, sizes
from pangu_ops.testing.rivals import grouped_mm, loop, padded_bmm, pro_moe_experts

H, I, E, G = 5120, 1344, 64, 8  # noqa: E741  Pangu Pro MoE


def prepare(tokens):
    gate_up, down = pro_moe_experts()
    x, ids, weights = torch.randn(tokens, H).bfloat16(), expert_choice(tokens, E, G, 1), torch.rand(tokens, G)

    def around(experts):
        def run():
            rows, slot_rows, offsets = moge_dispatch(x, ids, E, G)
            return moge_combine(experts(rows, offsets, gate_up, down), weights, slot_rows)

        return run

    # Below 64 tokens padding would read the weights of experts that nobody chose.
    experts = (loop, grouped_mm, padded_bmm) if tokens >= 64 else (loop, grouped_mm)
    return lambda: moge_ffn(x, weights, ids, gate_up, down, G), {run.__name__: around(run) for run in experts}


def contests():
    for tokens in sizes((1, 8, 64, 512, 2048), (1, 4, 16, 64, 256, 1024, 4096)):
        active = len(expert_choice(tokens, E, G, 1).unique())
        yield Contest(
            f"moge_ffn T={tokens}",
            lambda tokens=tokens: prepare(tokens),
            bytes=active * 3 * H * I * 2,  # the weights of the experts that somebody chose
            flops=tokens * G * 3 * 2 * H * I,
            budget=6.0,
            limit="read",
        )


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_moge_ffn(benchmark, contest):
    contest.benchmark(benchmark)
