"""moge_ffn: rows are placed as moge_dispatch does and never copied: the first product gathers them, and a token's sum
gathers what comes out of the second.
"""

from pangu_ops.ops.moge_ffn import outputs
from pangu_ops.triton_kernels.grouped_gemm import grouped_gemm
from pangu_ops.triton_kernels.moge_combine import moge_combine
from pangu_ops.triton_kernels.moge_dispatch import place


def moge_ffn(x, weights, expert_ids, gate_up, down, num_groups, addend=None):
    outputs(x, weights, expert_ids, gate_up, down, num_groups, addend)
    x, gate_up, down = x.contiguous(), gate_up.contiguous(), down.contiguous()
    num_experts, hidden, inner = down.shape
    slot_rows, offsets, tokens = place(expert_ids, num_experts, num_groups)
    middle = grouped_gemm(x, gate_up, x.new_empty(len(tokens), inner), offsets, tokens, gated=True)
    rows = grouped_gemm(middle, down, x.new_empty(len(tokens), hidden), offsets)
    return moge_combine(rows, weights, slot_rows, addend)
