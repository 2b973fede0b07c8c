"""moge_gating: one program owns a few tokens, whose scores it holds as groups by experts of a group, and takes the best
of every group k times.
"""

import triton
import triton.language as tl

from pangu_ops.ops.moge_gating import outputs
from pangu_ops.triton_kernels.launch import contiguous, gpu_of, launch

ELEMENTS = 512  # logits that a warp holds at most: 16 a thread


@triton.jit(do_not_specialize=["T", "scaling_factor"])
def moge_gating_kernel(
    logits, correction_bias, expert_scale, weights, expert_ids, T, scaling_factor, G: tl.constexpr, S: tl.constexpr,
    k: tl.constexpr, SIGMOID: tl.constexpr, RENORMALIZE: tl.constexpr, TOKENS: tl.constexpr, GROUPS: tl.constexpr,
    SIZE: tl.constexpr, BEST: tl.constexpr,
):  # fmt: skip
    """S experts of a group, padded to SIZE, as G is to GROUPS and k to BEST."""
    tokens = (tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS))[:, None, None]
    groups = tl.arange(0, GROUPS)[None, :, None]
    lanes = tl.arange(0, SIZE)[None, None, :]
    present = (tokens < T) & (groups < G)
    inside = present & (lanes < S)
    x = tl.load(logits + tokens * (G * S) + groups * S + lanes, mask=inside, other=float("-inf"))
    x = x.to(tl.float32)
    x = tl.where(x == x, x, float("-inf"))
    if SIGMOID:
        scores = 1.0 / (1.0 + tl.exp(-x))
    else:
        # A row without a finite maximum becomes NaN, and that 0.
        highest = tl.max(tl.max(x, 2, keep_dims=True), 1, keep_dims=True)
        scores = tl.exp(x - tl.where(tl.abs(highest) < float("inf"), highest, float("nan")))
        scores = scores / tl.sum(tl.sum(scores, 2, keep_dims=True), 1, keep_dims=True)
        scores = tl.where(scores == scores, scores, 0.0)
    rank = x
    if correction_bias is not None:
        bias = tl.load(correction_bias + groups * S + lanes, mask=(groups < G) & (lanes < S), other=0.0)
        rank = tl.where(x > float("-inf"), scores + bias, float("-inf"))
        rank = tl.where(rank == rank, rank, float("-inf"))
    # Integers in the order of the floats, 0 and -0 the same; below all of them what is taken or not there.
    keys = tl.where(rank == 0.0, 0.0, rank).to(tl.int32, bitcast=True)
    keys = tl.where(inside, keys ^ ((keys >> 31) & 0x7FFFFFFF), -0x80000000)

    best = tl.arange(0, BEST)[None, None, :]
    chosen = tl.zeros((TOKENS, GROUPS, BEST), tl.float32)
    ids = tl.zeros((TOKENS, GROUPS, BEST), tl.int32)
    for i in range(k):
        _, lane = tl.max(keys, 2, return_indices=True, keep_dims=True)  # the lowest of equals
        keys = tl.where(lanes == lane, -0x80000000, keys)
        score = tl.sum(tl.where(lanes == lane, scores, 0.0), 2, keep_dims=True)
        chosen = tl.where(best == i, score, chosen)
        ids = tl.where(best == i, groups * S + lane, ids)
    if RENORMALIZE:
        total = tl.sum(tl.sum(chosen, 2, keep_dims=True), 1, keep_dims=True)
        chosen = chosen / tl.where(total == 0.0, 1.0, total)
    there = present & (best < k)
    if expert_scale is not None:
        chosen *= tl.load(expert_scale + ids, mask=there, other=0.0)
    slots = tokens * (G * k) + groups * k + best
    tl.store(weights + slots, chosen * scaling_factor, mask=there)
    tl.store(expert_ids + slots, ids, mask=there)


def moge_gating(
    logits,
    num_groups,
    topk_per_group,
    score_function="softmax",
    correction_bias=None,
    expert_scale=None,
    renormalize=False,
    scaling_factor=1.0,
):
    weights, expert_ids = outputs(
        logits, num_groups, topk_per_group, score_function, correction_bias, expert_scale, renormalize, scaling_factor
    )
    num_tokens, size = logits.shape[0], logits.shape[1] // num_groups
    sizes = dict(zip(("GROUPS", "SIZE", "BEST"), map(triton.next_power_of_2, (num_groups, size, topk_per_group))))
    elements = sizes["GROUPS"] * sizes["SIZE"]
    # A warp a token is quickest; where tokens fill the GPU anyway, a warp takes as many as it can hold.
    tokens = 1 if num_tokens <= 4 * gpu_of(logits).num_sms else max(ELEMENTS // elements, 1)
    launch(
        moge_gating_kernel,
        (triton.cdiv(num_tokens, tokens),),
        *(logits.contiguous(), contiguous(correction_bias), contiguous(expert_scale), weights, expert_ids),
        *(num_tokens, scaling_factor),
        **dict(G=num_groups, S=size, k=topk_per_group, SIGMOID=score_function == "sigmoid", RENORMALIZE=renormalize),
        **dict(TOKENS=tokens, **sizes, num_warps=max(elements // ELEMENTS, 1)),
    )
    return weights, expert_ids
