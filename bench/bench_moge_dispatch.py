"""moge_dispatch against plain torch: argsort, bincount, index_select."""

import pytest
import torch

from pangu_ops import moge_dispatch
from pangu_ops.ops.moge_dispatch import expert_choice
from pangu_ops.testing.bench import Contest, sizes

H, E, G = 5120, 64, 8


def prepare(tokens):
    x, ids = torch.randn(tokens, H).bfloat16(), expert_choice(tokens, E, G, 1)

    def plain_torch():
        order = ids.flatten().argsort(stable=True)
        ids.flatten().bincount(minlength=E).cumsum(0)
        return x.index_select(0, order // G), order.argsort().view(tokens, G).int()

    return lambda: moge_dispatch(x, ids, E, G), {"torch": plain_torch}


def contests():
    for tokens in sizes((1, 64, 512, 2048), (1, 64, 4096)):
        moved = tokens * (1 + G) * H * 2  # every token read once, written G times
        yield Contest(f"moge_dispatch T={tokens}", lambda tokens=tokens: prepare(tokens), bytes=moved, exact=True)


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_moge_dispatch(benchmark, contest):
    contest.benchmark(benchmark)
