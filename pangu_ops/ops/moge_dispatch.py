"""moge_dispatch: copy every token to the experts that it chose, sorted by expert."""

import torch

from pangu_ops.registry import check, check_device, check_float, check_int32, register

OP = "moge_dispatch"


def moge_dispatch(x, expert_ids, num_experts, num_groups):
    """Rows of ``x`` sorted by expert, stable in token order (Pangu Pro MoE report, section 2.1).

    Every token holds k slots in every group, so group g always owns the rows ``[g*T*k, (g+1)*T*k)``: shapes, group
    borders and communication splits are known without looking at the data. There is no capacity factor and no
    padding. Slot s belongs to group ``s // k``; a slot whose id lies outside its group (-1, say) is masked.

    Args:
        x: ``[T, H]`` float32, bfloat16 or float16.
        expert_ids: ``[T, K]`` int32, K a multiple of ``num_groups``.
        num_experts: E, a multiple of ``num_groups``.
        num_groups: G; 1 takes the ids of ordinary top-k routing.

    Returns:
        ``rows [T*K, H]``: the copies; ``slot_rows [T, K]`` int32: the row of each slot, -1 where masked;
        ``expert_offsets [E+1]`` int32: expert e owns ``rows[expert_offsets[e]:expert_offsets[e+1]]``. Rows of masked
        slots are zero and lie at the end of their group, in the range of the group's last expert.

    Equivalent to (no masked slots)::

        order = expert_ids.flatten().argsort(stable=True)
        rows = x[order // K]
        slot_rows = order.argsort().view(T, K)
        expert_offsets = F.pad(expert_ids.flatten().bincount(minlength=E).cumsum(0), (1, 0))
    """
    return torch.ops.pangu.moge_dispatch(x, expert_ids, num_experts, num_groups)


def check_routing(op, x, expert_ids, num_experts, num_groups):
    """What moge_dispatch and moge_ffn ask of their routing."""
    check(x.dim() == 2, op, "x must be [T, H]", x)
    check(
        expert_ids.dim() == 2 and expert_ids.shape[0] == x.shape[0],
        op,
        "expert_ids must be [T, K] with the T of x",
        expert_ids,
    )
    check_int32(op, expert_ids=expert_ids)
    check_device(op, x=x, expert_ids=expert_ids)
    check(num_experts < 2**31, op, "num_experts must be below 2^31", num_experts)
    check(
        num_groups >= 1 and num_experts >= 1 and num_experts % num_groups == 0,
        op,
        "num_groups must divide num_experts",
        f"{num_groups} for {num_experts} experts",
    )
    check(
        expert_ids.shape[1] >= 1 and expert_ids.shape[1] % num_groups == 0,
        op,
        "num_groups must divide the slots of a token",
        f"{num_groups} for {expert_ids.shape[1]} slots",
    )
    check(expert_ids.numel() < 2**31, op, "T*K must be below 2^31", expert_ids.numel())


def outputs(x, expert_ids, num_experts, num_groups):
    check_routing(OP, x, expert_ids, num_experts, num_groups)
    check_float(OP, x=x)
    return (
        x.new_empty(expert_ids.numel(), x.shape[1]),
        expert_ids.new_empty(expert_ids.shape),
        expert_ids.new_empty(num_experts + 1),
    )


def reference(x, expert_ids, num_experts, num_groups):
    num_slots = expert_ids.shape[1]
    group_experts = num_experts // num_groups
    group = torch.arange(num_slots, device=x.device) // (num_slots // num_groups)
    ids = expert_ids.long()
    valid = ids.div(group_experts, rounding_mode="floor") == group
    # Even keys are experts; the odd key just before the next group holds that group's masked slots.
    keys = torch.where(valid, 2 * ids, 2 * group_experts * (group + 1) - 1).flatten()
    keys, order = keys.sort(stable=True)
    rows = torch.where(valid.flatten()[order, None], x[order // num_slots], 0)
    slot_rows = torch.empty_like(order)
    slot_rows[order] = torch.arange(order.numel(), device=x.device)
    slot_rows = torch.where(valid, slot_rows.view_as(ids), -1)
    expert_offsets = torch.searchsorted(keys, 2 * torch.arange(num_experts + 1, device=x.device))
    return rows, slot_rows.to(torch.int32), expert_offsets.to(torch.int32)


def setup_context(ctx, inputs, output):
    _, slot_rows, expert_offsets = output
    ctx.mark_non_differentiable(slot_rows, expert_offsets)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(slot_rows)


def backward(ctx, grad_rows, *_):
    (slot_rows,) = ctx.saved_tensors
    if grad_rows is None:
        return None, None, None, None
    ones = torch.ones_like(slot_rows, dtype=torch.float64 if grad_rows.dtype == torch.float64 else torch.float32)
    return torch.ops.pangu.moge_combine(grad_rows, ones, slot_rows), None, None, None


def expert_choice(T, E, G, k, seed=0, skew=0.0, masked=False):
    """Random distinct ids ``[T, G*k]`` int32, k of each group; ``skew`` in [0, 1] sends that share of the tokens
    to the first experts of each group; ``masked`` plants ids that must be ignored."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device(generator.device):  # the same ids whatever device they are for
        order = torch.rand(T, G, E // G, generator=generator).argsort(-1)
        order[torch.rand(T, generator=generator) < skew] = torch.arange(E // G)
        ids = (order[..., :k] + torch.arange(0, E, E // G)[:, None]).flatten(1).to(torch.int32)
        if masked and T:
            for value in (-1, E, 2**31 - 1, -(2**31)):
                ids[torch.rand(ids.shape, generator=generator) < 0.1] = value
    return ids.to(torch.get_default_device())


def example(T, H, E, G, k, dtype=torch.float32, seed=0, **routing):
    x = torch.randn(T, H, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x, expert_choice(T, E, G, k, seed, **routing), E, G


ROUTING_CASES = (
    dict(T=0, H=16, E=8, G=4, k=1),
    dict(T=1, H=40, E=64, G=8, k=1),
    dict(T=33, H=64, E=64, G=8, k=1),
    dict(T=21, H=7, E=12, G=4, k=2),  # odd H
    dict(T=10, H=33, E=6, G=1, k=3),  # ordinary top-k
    dict(T=9, H=16, E=5, G=5, k=1),
    dict(T=40, H=24, E=32, G=4, k=2, skew=1.0),  # all on the first experts
    dict(T=19, H=24, E=32, G=4, k=2, masked=True),
    dict(T=300, H=8, E=16, G=8, k=1, skew=0.5),
)

register(
    OP,
    outputs,
    reference,
    setup_context=setup_context,
    backward=backward,
    exact=(0, 1, 2),
    example=example,
    cases=ROUTING_CASES,
)
