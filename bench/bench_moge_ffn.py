"""moge_ffn against what plain torch offers: a loop of F.linear, torch._grouped_mm, and a padded bmm."""

import functools

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import moge_combine, moge_dispatch, moge_ffn
from pangu_ops.ops.moge_dispatch import expert_choice
from pangu_ops.testing.bench import Contest

H, I, E, G = 5120, 1344, 64, 8  # noqa: E741  Pangu Pro MoE


@functools.cache
def expert_weights():
    """2.6 GB of them; each expert's are filled with the same random numbers, scaled, to be quick."""
    generator = torch.Generator().manual_seed(0)
    gate_up = torch.empty(E, 2 * I, H, dtype=torch.bfloat16)
    down = torch.empty(E, H, I, dtype=torch.bfloat16)
    for weights, size in ((gate_up, H), (down, I)):
        one = torch.randn(weights.shape[1:], generator=generator) * size**-0.5
        for expert in range(E):
            weights[expert] = one * (0.5 + expert / E)
    return gate_up, down


def swiglu(gate_up):
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def prepare(tokens):
    gate_up, down = expert_weights()
    x, ids, weights = torch.randn(tokens, H).bfloat16(), expert_choice(tokens, E, G, 1), torch.rand(tokens, G)

    def with_experts(run):
        rows, slot_rows, offsets = moge_dispatch(x, ids, E, G)
        return moge_combine(run(rows, offsets), weights, slot_rows)

    def loop(rows, offsets):
        out = torch.empty_like(rows)
        bounds = offsets.tolist()
        for expert, (begin, end) in enumerate(zip(bounds, bounds[1:])):
            if begin < end:
                hidden = swiglu(F.linear(rows[begin:end], gate_up[expert]))
                out[begin:end] = F.linear(hidden, down[expert])
        return out

    def grouped_mm(rows, offsets):
        ends = offsets[1:]
        hidden = swiglu(torch._grouped_mm(rows, gate_up.transpose(1, 2), offs=ends))
        return torch._grouped_mm(hidden, down.transpose(1, 2), offs=ends)

    def padded_bmm(rows, offsets):
        counts = offsets.diff()
        position = torch.arange(len(rows)) - offsets[:-1].repeat_interleave(counts)
        expert = torch.arange(E).repeat_interleave(counts)
        padded = rows.new_zeros(E, int(counts.max()), H)
        padded[expert, position] = rows
        hidden = swiglu(torch.bmm(padded, gate_up.transpose(1, 2)))
        return torch.bmm(hidden, down.transpose(1, 2))[expert, position]

    rivals = {run.__name__: functools.partial(with_experts, run) for run in (loop, grouped_mm)}
    if tokens >= 64:  # below, it would read the weights of experts that nobody chose
        rivals["padded_bmm"] = functools.partial(with_experts, padded_bmm)
    return lambda: moge_ffn(x, weights, ids, gate_up, down, G), rivals


def contests():
    for tokens in (1, 8, 64, 512, 2048):
        active = len(expert_choice(tokens, E, G, 1).unique())
        yield Contest(
            f"moge_ffn T={tokens}",
            lambda tokens=tokens: prepare(tokens),
            bytes=active * 3 * H * I * 2,  # the weights of the experts that somebody chose
            flops=tokens * G * 3 * 2 * H * I,
            budget=6.0,
        )


@pytest.mark.parametrize("contest", contests(), ids=str)
def test_moge_ffn(benchmark, contest):
    contest.benchmark(benchmark)
