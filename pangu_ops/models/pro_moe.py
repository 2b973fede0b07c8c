"""Pangu Pro MoE: plain torch and the ops of this package."""

import torch
from torch import nn

from pangu_ops.models.decoder import Attention, CausalLM, Linear
from pangu_ops.ops import moge_ffn, moge_gating, silu_mul


class MoGE(nn.Module):
    """Some experts of every group for each token, and the shared expert for all."""

    def __init__(self, config, dtype):
        super().__init__()
        hidden, inner, experts = config.hidden_size, config.moe_intermediate_size, config.num_experts
        self.num_groups, self.topk_per_group = config.num_groups, config.topk_per_group
        self.gate = Linear(hidden, experts, bias=False, dtype=dtype)
        # float32 whatever the model's dtype: the weights of the gating are
        self.router_scale = nn.Parameter(torch.ones(1, experts))
        self.gate_up = nn.Parameter(torch.empty(experts, 2 * inner, hidden, dtype=dtype))
        self.down = nn.Parameter(torch.empty(experts, hidden, inner, dtype=dtype))
        shared = config.shared_expert_intermediate_size
        self.shared_gate_up = Linear(hidden, 2 * shared, bias=False, dtype=dtype)
        self.shared_down = Linear(shared, hidden, bias=False, dtype=dtype)

    def forward(self, x, routing):
        logits = self.gate(x)
        scale = self.router_scale[0].float()
        weights, expert_ids = moge_gating(logits, self.num_groups, self.topk_per_group, expert_scale=scale)
        if routing is not None:
            routing.append((logits, expert_ids))
        shared = self.shared_down(silu_mul(self.shared_gate_up(x)))
        return moge_ffn(x, weights, expert_ids, self.gate_up, self.down, self.num_groups, addend=shared)


class Layer(nn.Module):
    def __init__(self, config, dtype):
        super().__init__()
        self.input_norm = nn.Parameter(torch.ones(config.hidden_size, dtype=dtype))
        self.attention = Attention(config, dtype)
        self.ffn_norm = nn.Parameter(torch.ones(config.hidden_size, dtype=dtype))
        self.moge = MoGE(config, dtype)

    def feed_forward(self, normed, routing):
        return self.moge(normed, routing)


class ProMoEForCausalLM(CausalLM):
    layer = Layer
