"""The ops that Ascend NPUs run through torch_npu's own operators: matrix products and attention, CANN's best.

The kernels of the others are AscendC's (ascend_kernels/), which backends.py loads. Nothing here imports torch_npu:
torch does, and by the time that a tensor lies on an NPU its operators are there as ``torch.ops.npu``. What these do not
take, of dtypes and sizes, the reference computes; PANGU_OPS_STRICT refuses it.
"""

import functools
import importlib.util

import torch
import torch.nn.functional as F

from pangu_ops.registry import FLOATS, LIB, PAGES, STRICT, check, has_kernel

registered = set()  # the ops that run on NPUs through what is written here
# How much further from the reference than elsewhere an op may be: gates, up projections and their product are rounded.
SLACK = {"moge_experts": 2, "moge_ffn": 2}


def register():
    """Give the ops of this module that have no AscendC kernel to NPU tensors, where torch_npu is installed."""
    if importlib.util.find_spec("torch_npu") is None:
        return
    for name, op in COMPOSED.items():
        if not has_kernel(name, "PrivateUse1"):
            LIB.impl(name, op, "PrivateUse1")
            registered.add(name)


def linear(x, weight, bias=None):
    """torch's own product, which sums in fp32; the reference would widen the whole weight first."""
    PAGES["linear"].outputs(x, weight, bias)
    return F.linear(x, weight, bias)


def moge_experts(rows, expert_offsets, gate_up, down):
    """Two grouped products and SwiGLU in between, which gets and gives values of the dtype of ``rows``.

    As on a GPU no ``expert_offsets`` are refused: rows after the last offset become the last expert's.
    """
    PAGES["moge_experts"].outputs(rows, expert_offsets, gate_up, down)
    if rule := experts_rule(rows, down):
        return by_reference("moge_experts", rule, PAGES["moge_experts"].reference, rows, expert_offsets, gate_up, down)
    ends = expert_offsets[1:].long().clamp(0, len(rows)).cummax(0).values  # what the operator asks of them
    ends[-1:] = len(rows)
    return experts(rows, ends, gate_up, down)


def moge_ffn(x, weights, expert_ids, gate_up, down, num_groups, addend=None):
    """moge_dispatch, the experts, and moge_combine."""
    args = x, weights, expert_ids, gate_up, down, num_groups, addend
    PAGES["moge_ffn"].outputs(*args)
    if rule := experts_rule(x, down):
        return by_reference("moge_ffn", rule, PAGES["moge_ffn"].reference, *args)
    ops = torch.ops.pangu
    rows, slot_rows, offsets = ops.moge_dispatch(x, expert_ids, len(down), num_groups)
    return ops.moge_combine(experts(rows, offsets[1:].long(), gate_up, down), weights, slot_rows, addend)


def experts(rows, ends, gate_up, down):
    """What each expert makes of its rows, which end where ``ends`` says; weights are read transposed, as they lie."""
    if 0 in (*rows.shape, *down.shape):
        return rows.new_zeros(rows.shape)
    options = dict(group_list=ends, group_list_type=0, group_type=0, split_item=2)  # ends; groups of rows; one result
    grouped_matmul = torch.ops.npu.npu_grouped_matmul.default
    (middle,) = grouped_matmul([rows.contiguous()], [gate_up.contiguous().transpose(1, 2)], **options)
    middle = torch.ops.npu.npu_swiglu.default(middle)  # silu of the first half times the second
    return grouped_matmul([middle], [down.contiguous().transpose(1, 2)], **options)[0]


def experts_rule(rows, down):
    """What npu_grouped_matmul asks and these arguments do not fulfil; an empty string when they do."""
    num_experts, hidden, inner = down.shape
    if rows.dtype == torch.float64:
        return "rows must be float32, bfloat16 or float16 for npu_grouped_matmul"
    if num_experts > 1024 or max(hidden, inner) >= 65536:
        return "there must be at most 1024 experts, and H and I below 65536, for npu_grouped_matmul"
    if is_310p(rows.device) and (rows.dtype != torch.float16 or hidden % 16 or 2 * inner % 16):
        return "rows must be float16, and H and 2*I multiples of 16, for npu_grouped_matmul on this chip"
    return ""


def attention(q, k, v, key_cache, value_cache, block_table, context_lens, query_starts, scale=None, op="attention"):
    """npu_fused_infer_attention_score over the cache, after the new keys and values are scattered into it.

    It takes the lengths of the sequences as numbers: the CPU waits for them and, since it sees them, refuses what the
    reference refuses. A token's result may depend on what else is in the call, in batch_invariant() too. The reference
    computes float32, heads of another size than 128, blocks of another than 128, 256, 384 and 512, and all on a 310P.
    """
    args = q, k, v, key_cache, value_cache, block_table, context_lens, query_starts, scale
    out = PAGES["attention"].outputs(*args)
    heads, kv_heads, block, size = q.shape[1], *key_cache.shape[1:]
    if rule := attention_rule(q, key_cache, len(block_table)):
        from pangu_ops.ops.attention import reference  # the pages are imported after this module

        return by_reference(op, rule, functools.partial(reference, op=op), *args)
    table, lens, ends, at = paging(op, len(q), key_cache.shape, block_table, context_lens, query_starts)
    if not len(q):
        return out
    at = at.to(q.device)
    for cache, new in ((key_cache, k), (value_cache, v)):
        torch.ops.npu.npu_scatter_nd_update_.default(cache.view(-1, size), at, new.reshape(-1, size))
    attended, _ = torch.ops.npu.npu_fused_infer_attention_score.default(
        q.contiguous(),
        key_cache,
        value_cache,
        atten_mask=causal_mask(q.device),
        actual_seq_lengths=ends,
        actual_seq_lengths_kv=lens,
        block_table=table.to(q.device),
        num_heads=heads,
        num_key_value_heads=kv_heads,
        scale=size**-0.5 if scale is None else scale,
        input_layout="TND",
        sparse_mode=3,  # causal, the last query with the last key
        block_size=block,
    )
    return attended


def attention_rule(q, key_cache, batch):
    """What npu_fused_infer_attention_score asks and these arguments do not fulfil; an empty string when they do."""
    kv_heads, block, size = key_cache.shape[1:]
    if is_310p(q.device):
        return "the chip must be another than a 310P for npu_fused_infer_attention_score"
    if q.dtype not in (torch.bfloat16, torch.float16) or size != 128:
        return "q must be bfloat16 or float16 with a D of 128 for npu_fused_infer_attention_score"
    if block % 128 or block > 512:
        return "key_cache must have blocks of 128, 256, 384 or 512 tokens for npu_fused_infer_attention_score"
    if batch > 4096 or q.shape[1] > 256 or q.shape[1] > 64 * kv_heads:
        return "B must be at most 4096, Hq 256 and Hq/Hk 64 for npu_fused_infer_attention_score"
    return ""


def paging(op, num_tokens, cache_shape, block_table, context_lens, query_starts):
    """Of the sequences with new tokens, on the CPU: their blocks, their lengths, and where their tokens end.

    Also where in a cache of ``[N * Hk * block, D]`` each new token's heads belong, ``[T * Hk, 1]``.
    """
    num_blocks, kv_heads, block, _ = cache_shape
    batch, most = block_table.shape
    told = torch.cat((block_table.reshape(-1), context_lens, query_starts)).cpu().long()  # one wait for all three
    table, lens, starts = told.split((batch * most, batch, batch + 1))
    table, counts = table.view(batch, most), starts.diff()
    rising = bool(starts[0] == 0) and bool(starts[-1] == num_tokens) and bool((counts >= 0).all())
    check(rising, op, f"query_starts must rise from 0 to T = {num_tokens}", "other values")
    wrong = lens[(lens < counts) | (lens > most * block)].tolist()
    rule = f"context_lens must count the new tokens and be at most M * block = {most * block}"
    check(not wrong, op, rule, *wrong[:1])
    reached = torch.arange(most) * block < lens[:, None]
    wrong = table[reached & ((table < 0) | (table >= num_blocks))].tolist()
    rule = f"block_table must hold numbers of blocks below N = {num_blocks} for every context"
    check(not wrong, op, rule, *wrong[:1])
    table.masked_fill_(~reached, 0)  # what no context reaches may hold anything
    row = torch.arange(batch).repeat_interleave(counts)  # each new token's sequence
    position = torch.arange(num_tokens) - starts[1:][row] + lens[row]
    head = table[row, position // block][:, None] * kv_heads + torch.arange(kv_heads)
    at = head * block + (position % block)[:, None]
    new = counts > 0
    return table[new].int(), lens[new].tolist(), starts[1:][new].tolist(), at.view(-1, 1)


def attention_ffn(
    x,
    input_norm,
    qkv_weight,
    qkv_bias,
    o_weight,
    o_bias,
    ffn_norm,
    gate_up,
    down,
    cos,
    sin,
    key_cache,
    value_cache,
    block_table,
    context_lens,
    query_starts,
    eps=1e-5,
):
    """The ops that it stands for, one after the other."""
    paged = key_cache, value_cache, block_table, context_lens, query_starts
    weights = input_norm, qkv_weight, qkv_bias, o_weight, o_bias, ffn_norm, gate_up, down
    PAGES["attention_ffn"].outputs(x, *weights, cos, sin, *paged, eps)
    ops, (_, kv_heads, _, size) = torch.ops.pangu, key_cache.shape
    heads = ops.linear(ops.rms_norm(x, input_norm, eps), qkv_weight, qkv_bias).unflatten(1, (-1, size))
    q, k, v = heads.split((heads.shape[1] - 2 * kv_heads, kv_heads, kv_heads), 1)
    q, k = ops.rotary(q, k, cos, sin)
    attended = attention(q, k, v, *paged, op="attention_ffn").flatten(1)
    normed, x = ops.add_rms_norm(ops.linear(attended, o_weight, o_bias), x, ffn_norm, eps)
    return x + ops.linear(ops.silu_mul(ops.linear(normed, gate_up)), down)


def by_reference(op, rule, reference, *args):
    """What the reference computes, which PANGU_OPS_STRICT leaves out."""
    check(not STRICT, op, rule, "others, and PANGU_OPS_STRICT")
    return reference(*args).contiguous()


@functools.cache
def causal_mask(device):
    """The mask that npu_fused_infer_attention_score wants for causal attention of any length: 1 hides a key."""
    with torch.inference_mode(False):  # it outlives this call
        return torch.ones(2048, 2048, dtype=torch.bool, device=device).triu(1)


def floats(device):
    """The dtypes that AscendC kernels compute in on that NPU."""
    return tuple(dtype for dtype in FLOATS if not (dtype == torch.bfloat16 and is_310p(device)))


@functools.cache
def is_310p(device):
    return torch.get_device_module(device).get_device_name(device).startswith("Ascend310P")


COMPOSED = {op.__name__: op for op in (linear, moge_experts, moge_ffn, attention, attention_ffn)}
