"""How evenly a routing loads its experts: the training loss and the score."""

import torch


def load_balance_loss(scores, expert_ids, alpha=1.0):
    """Batch-level auxiliary balance loss (Pangu Pro MoE report, section 2.2, eq. 8): ``alpha * sum_i f_i * p_i``.

    MoGE balances the groups by construction; this loss balances the experts inside a group.

    Args:
        scores: ``[T, E]``, the softmax over all experts, before the choice; the gradient flows through it.
        expert_ids: ``[T, K]`` of the chosen experts; ids outside ``[0, E)`` are left out.
        alpha: the loss's weight.

    Returns:
        A scalar, ``alpha`` when the experts are loaded evenly. No choices at all give 0.
    """
    num_tokens, num_experts = scores.shape
    if expert_ids.numel() == 0:
        return 0.0 * scores.sum()
    valid = (expert_ids >= 0) & (expert_ids < num_experts)
    load = torch.bincount(expert_ids[valid].flatten().long(), minlength=num_experts)
    fraction = load * (num_experts / (expert_ids.shape[1] * num_tokens))
    return alpha * (fraction * scores.mean(0)).sum()


def device_load(expert_ids, num_experts, num_devices):
    """``[num_devices]`` int64: how many (token, expert) pairs each device computes, experts split contiguously."""
    if num_devices < 1 or num_experts % num_devices:
        raise ValueError(f"device_load: num_devices must divide num_experts, came {num_devices} for {num_experts}")
    valid = (expert_ids >= 0) & (expert_ids < num_experts)
    device = expert_ids[valid].flatten().long() // (num_experts // num_devices)
    return torch.bincount(device, minlength=num_devices)


def imbalance_score(expert_ids, num_experts, num_devices):
    """Imbalance score of a batch (Pangu Pro MoE report, section 2.1, eq. 3): ``(max load - min load) / T``.

    Args:
        expert_ids: ``[T, K]`` of the chosen experts.
        num_experts: E.
        num_devices: devices (or groups), each owning E/num_devices contiguous experts.

    Returns:
        A float: 0 for every MoGE routing over its groups that masks no slot.
    """
    load = device_load(expert_ids, num_experts, num_devices)
    return (load.max() - load.min()).item() / max(1, expert_ids.shape[0])
