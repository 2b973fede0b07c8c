"""moge_combine against plain torch: gather, weight and sum, or weight and index_add."""

import pytest
import torch

from pangu_ops import moge_combine, moge_dispatch
from pangu_ops.ops.moge_dispatch import expert_choice
from pangu_ops.testing.bench import Contest, sizes

H, E, G = 5120, 64, 8


def prepare(tokens):
    x = torch.randn(tokens, H).bfloat16()
    rows, slot_rows, _ = moge_dispatch(x, expert_choice(tokens, E, G, 1), E, G)
    weights = torch.rand(tokens, G)
    order = slot_rows.flatten().argsort()
    row_weights, row_tokens = weights.flatten()[order, None].bfloat16(), order // G

    def gather():
        return (rows[slot_rows].float() * weights[..., None]).sum(1).bfloat16()

    def index_add():
        return torch.zeros(tokens, H, dtype=rows.dtype).index_add_(0, row_tokens, rows * row_weights)

    rivals = {"gather": gather, "index_add": index_add}
    return lambda: moge_combine(rows, weights, slot_rows), rivals


def contests():
    for tokens in sizes((1, 64, 512, 2048), (1, 64, 4096)):
        moved = tokens * (1 + G) * H * 2
        yield Contest(f"moge_combine T={tokens}", lambda tokens=tokens: prepare(tokens), bytes=moved)


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_moge_combine(benchmark, contest):
    contest.benchmark(benchmark)
