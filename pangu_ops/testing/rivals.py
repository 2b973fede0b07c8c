"""The experts' feed-forward as plain torch offers it, for benches: each takes rows sorted by expert and offsets."""

import functools

import torch
import torch.nn.functional as F


def swiglu(gate_up):
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def loop(rows, offsets, gate_up, down):
    out = torch.empty_like(rows)
    bounds = offsets.tolist()
    for expert, (begin, end) in enumerate(zip(bounds, bounds[1:])):
        if begin < end:
            hidden = swiglu(F.linear(rows[begin:end], gate_up[expert]))
            out[begin:end] = F.linear(hidden, down[expert])
    return out


def grouped_mm(rows, offsets, gate_up, down):
    ends = offsets[1:]
    hidden = swiglu(torch._grouped_mm(rows, gate_up.transpose(1, 2), offs=ends))
    return torch._grouped_mm(hidden, down.transpose(1, 2), offs=ends)


def padded_bmm(rows, offsets, gate_up, down):
    counts = offsets.diff()
    expert = torch.arange(len(counts)).repeat_interleave(counts)
    position = torch.arange(len(rows)) - offsets[:-1].repeat_interleave(counts)
    padded = rows.new_zeros(len(counts), int(counts.max()), rows.shape[1])
    padded[expert, position] = rows
    hidden = swiglu(torch.bmm(padded, gate_up.transpose(1, 2)))
    return torch.bmm(hidden, down.transpose(1, 2))[expert, position]


@functools.cache
def pro_moe_experts():
    """Pangu Pro MoE's ``gate_up [64, 2688, 5120]`` and ``down [64, 5120, 1344]`` in bfloat16, 2.6 GB.

    Each expert has the same random numbers, scaled: drawing all of them would take longer than the bench.
    """
    generator = torch.Generator().manual_seed(0)
    weights = []
    for shape in ((64, 2688, 5120), (64, 5120, 1344)):
        one = torch.randn(shape[1:], generator=generator, device="cpu") * shape[2] ** -0.5
        weights.append(torch.empty(shape, dtype=torch.bfloat16))
        one = one.to(weights[-1].device)
        for expert in range(64):
            weights[-1][expert] = one * (0.5 + expert / 64)
    return tuple(weights)
