"""Pangu Embedded: dense, plain torch and the ops of this package."""

import torch
from torch import nn

from pangu_ops.models.decoder import Attention, CausalLM, Linear
from pangu_ops.ops import silu_mul


class Layer(nn.Module):
    def __init__(self, config, dtype):
        super().__init__()
        self.input_norm = nn.Parameter(torch.ones(config.hidden_size, dtype=dtype))
        self.attention = Attention(config, dtype, config.bias)
        self.ffn_norm = nn.Parameter(torch.ones(config.hidden_size, dtype=dtype))
        self.gate_up = Linear(config.hidden_size, 2 * config.intermediate_size, bias=False, dtype=dtype)
        self.down = Linear(config.intermediate_size, config.hidden_size, bias=False, dtype=dtype)

    def feed_forward(self, normed, routing):
        return self.down(silu_mul(self.gate_up(normed)))


class EmbeddedForCausalLM(CausalLM):
    layer = Layer
