"""moge_gating: the k best experts of every group, for every token."""

import torch

from pangu_ops.registry import accumulate_dtype, check, check_device, check_float, register

OP = "moge_gating"


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
    """Choose ``topk_per_group`` experts out of every group of experts (Pangu Pro MoE report, section 2.1, eq. 5-6).

    Group g owns the contiguous experts ``[g*E/G, (g+1)*E/G)``. Scores are taken over all E experts in fp32, before
    the choice, and are not renormalised unless asked for. ``expert_scale`` (the released model's ``router_scale``)
    multiplies the weight after the choice; ``correction_bias`` moves the choice and not the weight.

    Args:
        logits: ``[T, E]`` float32, bfloat16 or float16. E is a multiple of ``num_groups``, at most 1024.
        num_groups: G.
        topk_per_group: k, from 1 to E/G.
        score_function: ``"softmax"`` over all E, or ``"sigmoid"``.
        correction_bias: ``[E]`` float32, added to the score for the choice only.
        expert_scale: ``[E]`` float32, multiplies the chosen score.
        renormalize: divide the K chosen scores of a token by their sum (before ``expert_scale``).
        scaling_factor: multiplies every weight.

    Returns:
        ``weights [T, K]`` float32 and ``expert_ids [T, K]`` int32, K = G*k. Slots are ordered by group, inside a
        group by falling score (without a bias by falling logit, which does not saturate); ties go to the lower id.
        NaN logits count as -inf. Ids are always distinct and inside their slot's group; a row without a finite
        maximum gets weight 0.

    Equivalent to (k = 1, softmax)::

        best, index = logits.float().softmax(-1).view(T, G, E // G).max(-1)
        expert_ids = index + torch.arange(0, E, E // G)
        weights = best * expert_scale[expert_ids]
    """
    return torch.ops.pangu.moge_gating(
        logits, num_groups, topk_per_group, score_function, correction_bias, expert_scale, renormalize, scaling_factor
    )


def topk_gating(logits, top_k, **options):
    """Ordinary, unbalanced routing in the form of :func:`moge_gating`: the best ``top_k`` of all E experts.

    The baseline that MoGE is compared with: one group owns every expert, so nothing bounds a device's load. Takes
    the options of :func:`moge_gating`; ``renormalize=True`` equals the softmax over the chosen logits.
    """
    return moge_gating(logits, 1, top_k, **options)


def outputs(
    logits,
    num_groups,
    topk_per_group,
    score_function="softmax",
    correction_bias=None,
    expert_scale=None,
    renormalize=False,
    scaling_factor=1.0,
):
    check(logits.dim() == 2, OP, "logits must be [T, E]", logits)
    check_float(OP, logits=logits)
    num_tokens, num_experts = logits.shape
    check(1 <= num_experts <= 1024, OP, "the number of experts must be 1 to 1024", num_experts)
    check(
        num_groups >= 1 and num_experts % num_groups == 0,
        OP,
        "num_groups must divide the number of experts",
        f"{num_groups} for {num_experts} experts",
    )
    check(
        1 <= topk_per_group <= num_experts // num_groups,
        OP,
        "topk_per_group must be 1 to the experts of a group",
        f"{topk_per_group} for groups of {num_experts // num_groups}",
    )
    check(score_function in ("softmax", "sigmoid"), OP, "score_function must be softmax or sigmoid", score_function)
    for name, tensor in (("correction_bias", correction_bias), ("expert_scale", expert_scale)):
        if tensor is not None:
            check(tensor.shape == (num_experts,), OP, f"{name} must be [E] = [{num_experts}]", tensor)
            check(tensor.dtype == accumulate_dtype(logits), OP, f"{name} must be float32", tensor.dtype)
            check_device(OP, logits=logits, **{name: tensor})
    top_k = num_groups * topk_per_group
    return (
        logits.new_empty(num_tokens, top_k, dtype=accumulate_dtype(logits)),
        logits.new_empty(num_tokens, top_k, dtype=torch.int32),
    )


def scores_of(logits, score_function):
    """Scores ``[T, E]`` of logits without NaN; a softmax row without a finite maximum gets 0."""
    if score_function == "sigmoid":
        return logits.sigmoid()
    return logits.softmax(-1).nan_to_num(0.0)


def reference(
    logits,
    num_groups,
    topk_per_group,
    score_function="softmax",
    correction_bias=None,
    expert_scale=None,
    renormalize=False,
    scaling_factor=1.0,
):
    num_tokens, num_experts = logits.shape
    logits = logits.to(accumulate_dtype(logits))
    logits = logits.masked_fill(logits.isnan(), -torch.inf)
    scores = scores_of(logits, score_function)
    # Both score functions rise with the logit, so without a bias the logit itself ranks, free of rounding.
    rank = logits
    if correction_bias is not None:
        rank = (scores + correction_bias).masked_fill(logits == -torch.inf, -torch.inf)
        rank = rank.masked_fill(rank.isnan(), -torch.inf)
    rank = rank.view(num_tokens, num_groups, num_experts // num_groups)
    best = rank.sort(dim=-1, descending=True, stable=True).indices[..., :topk_per_group]
    first = torch.arange(0, num_experts, num_experts // num_groups, device=logits.device)
    expert_ids = (best + first[:, None]).flatten(1)
    weights = scores.gather(1, expert_ids)
    if renormalize:
        total = weights.sum(-1, keepdim=True)
        weights = weights / torch.where(total == 0, 1.0, total)
    if expert_scale is not None:
        weights = weights * expert_scale[expert_ids]
    return weights * scaling_factor, expert_ids.to(torch.int32)


def setup_context(ctx, inputs, output):
    logits, _, _, ctx.score_function, _, expert_scale, ctx.renormalize, ctx.scaling_factor = inputs
    weights, expert_ids = output
    ctx.mark_non_differentiable(expert_ids)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(logits, expert_scale, expert_ids)


def backward(ctx, grad_weights, _):
    logits, expert_scale, expert_ids = ctx.saved_tensors
    if grad_weights is None:
        return (None,) * 8
    ids = expert_ids.long()
    raw = logits.to(accumulate_dtype(logits))
    raw = raw.masked_fill(raw.isnan(), -torch.inf)
    scores = scores_of(raw, ctx.score_function)
    chosen = scores.gather(1, ids)
    grad = grad_weights * ctx.scaling_factor
    total = chosen.sum(-1, keepdim=True)
    total = torch.where(total == 0, 1.0, total)
    weights = chosen / total if ctx.renormalize else chosen
    grad_scale = None
    if expert_scale is not None:
        grad_scale = torch.zeros_like(scores).scatter(1, ids, grad * weights).sum(0)
        grad = grad * expert_scale[ids]
    if ctx.renormalize:
        grad = (grad - (grad * weights).sum(-1, keepdim=True)) / total
    if ctx.score_function == "softmax":
        # d softmax = s * (g - sum(g * s)), where g is zero outside the chosen slots
        inner = (grad * chosen).sum(-1, keepdim=True)
        grad_logits = torch.zeros_like(scores).scatter(1, ids, grad)
        grad_logits = scores * (grad_logits - inner)
    else:
        grad_logits = torch.zeros_like(scores).scatter(1, ids, grad * chosen * (1 - chosen))
    return grad_logits.to(logits.dtype), None, None, None, None, grad_scale, None, None


def example(T, E, G, k, dtype=torch.float32, bias=False, scale=False, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(T, E, generator=generator).to(dtype)
    correction_bias = torch.randn(E, generator=generator) * 0.1 if bias else None
    expert_scale = torch.rand(E, generator=generator) + 0.5 if scale else None
    options = {"score_function": "softmax", "renormalize": False, "scaling_factor": 1.0} | options
    return (
        logits,
        G,
        k,
        options["score_function"],
        correction_bias,
        expert_scale,
        options["renormalize"],
        options["scaling_factor"],
    )


register(
    OP,
    outputs,
    reference,
    setup_context=setup_context,
    backward=backward,
    exact=(1,),
    example=example,
    cases=(
        dict(T=0, E=64, G=8, k=1),
        dict(T=1, E=64, G=8, k=1),
        dict(T=33, E=64, G=8, k=1, scale=True),  # the released model
        dict(T=17, E=96, G=8, k=2, renormalize=True),  # E/G is no power of two, k > 1
        dict(T=9, E=12, G=4, k=2, scaling_factor=2.5),
        dict(T=5, E=7, G=1, k=7),  # one group, every expert taken
        dict(T=5, E=16, G=16, k=1, score_function="sigmoid"),  # every expert its own group
        dict(T=13, E=384, G=8, k=3, bias=True),
        dict(T=3, E=1024, G=2, k=40, score_function="sigmoid", bias=True, scale=True, renormalize=True),
    ),
)
