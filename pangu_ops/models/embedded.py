"""Pangu Embedded: dense, plain torch and the ops of this package."""

import torch
from torch import nn

from pangu_ops.models.decoder import Attention, Cached, CausalLM, Linear
from pangu_ops.ops import attention_ffn, rms_norm, silu_mul


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

    def run(self, x, cos, sin, sequences, routing=None, first=0, last=None):
        if not isinstance(sequences, Cached):  # in training: the fused block has no gradient
            return super().run(x, cos, sin, sequences, routing, first, last)
        eps = self.config.rms_norm_eps
        layers = list(self.layers)
        chosen = range(len(layers))[first:last]
        for index in chosen:
            layer = layers[index]
            qkv, o = layer.attention.qkv, layer.attention.o_proj
            weights = layer.input_norm, qkv.weight, qkv.bias, o.weight, o.bias, layer.ffn_norm
            feed_forward = layer.gate_up.weight, layer.down.weight
            x = attention_ffn(x, *weights, *feed_forward, cos, sin, *sequences.paging(index), eps)
        return x, rms_norm(x, layers[chosen.stop].input_norm if chosen.stop < len(layers) else self.norm, eps)
