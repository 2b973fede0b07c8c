"""What the models share: a decoder of pre-norm layers with causal grouped-query attention, over plain torch and ops.

B batch, S positions of each sequence, T tokens; every matrix product is 2-D over the T tokens.
"""

import torch
import torch.nn.functional as F
from torch import nn

from pangu_ops.models.config import ModelError
from pangu_ops.ops import add_rms_norm, rms_norm, rotary
from pangu_ops.ops.rotary import rotary_table


class Linear(nn.Linear):
    def reset_parameters(self):
        """Nothing: the whole model's parameters get their first values together, or from a checkpoint."""


class Attention(nn.Module):
    """Causal grouped-query attention; the released models have a bias on all four projections."""

    def __init__(self, config, dtype, bias=True):
        super().__init__()
        self.heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
        self.head_dim = config.head_dim
        self.qkv = Linear(config.hidden_size, sum(self.heads) * config.head_dim, bias=bias, dtype=dtype)
        self.o_proj = Linear(config.hidden_size, config.hidden_size, bias=bias, dtype=dtype)

    def forward(self, x, batch_size, cos, sin, cache, layer):
        q, k, v = self.qkv(x).view(len(x), sum(self.heads), self.head_dim).split(self.heads, dim=1)
        q, k = rotary(q, k, cos, sin)
        q, k, v = (t.unflatten(0, (batch_size, -1)).transpose(1, 2) for t in (q, k, v))  # [B, heads, S, D]
        if cache is not None:
            k, v = cache.append(layer, k, v)
        new, total = q.shape[2], k.shape[2]
        if new == 1:
            # as rows of their KV head the query heads share its keys: torch's own GQA is far slower here in bf16
            rows = q.reshape(batch_size, k.shape[1], -1, self.head_dim)
            out = F.scaled_dot_product_attention(rows, k, v).reshape(q.shape)
        else:
            mask = None
            if new < total:
                mask = torch.ones(new, total, dtype=torch.bool, device=q.device).tril(total - new)
            out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=new == total, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).reshape(len(x), -1))


class CausalLM(nn.Module):
    """The whole model, with random weights; ``initialize=False`` leaves them to a checkpoint.

    A subclass names the class of its ``layer``, which has an ``input_norm``, an ``attention``, a ``ffn_norm`` and
    ``feed_forward(normed, routing)``.
    """

    def __init__(self, config, dtype=torch.float32, initialize=True):
        super().__init__()
        self.config = config
        # from_pretrained draws no random numbers
        self.embed = nn.Embedding.from_pretrained(
            torch.empty(config.vocab_size, config.hidden_size, dtype=dtype), freeze=False
        )
        self.layers = nn.ModuleList(self.layer(config, dtype) for _ in range(config.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(config.hidden_size, dtype=dtype))
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False, dtype=dtype)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed.weight
        if initialize:
            self.reset_parameters()

    def reset_parameters(self):
        """Random matrices; no bias, and every norm and ``router_scale`` 1."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() > 1 and not name.endswith("router_scale"):
                nn.init.normal_(parameter, std=self.config.initializer_range)

    def forward(self, ids, cache=None, last=None, routing=None):
        """Logits of the next token at every position.

        Args:
            ids: ``[B, S]`` int64 or int32, every id below the vocabulary's size.
            cache: a :class:`KVCache`; the ids then continue the tokens it holds and are added to it.
            last: logits of the last ``last`` positions only, None for all.
            routing: a list, to which each layer adds its ``(router logits [T, E], expert_ids [T, K])``.

        Returns:
            ``[B, S, V]`` float32, or ``[B, last, V]``.
        """
        config, room, past = self.config, self.config.max_position_embeddings, 0
        if cache is not None:
            room, past = min(room, cache.max_length), cache.length
        if ids.dim() != 2 or ids.numel() == 0:
            raise ModelError(f"model: ids must be [B, S] with at least one id, came {list(ids.shape)}")
        if ids.dtype not in (torch.int64, torch.int32):
            raise ModelError(f"model: ids must be int64 or int32, came {ids.dtype}")
        # on the CPU only: elsewhere the check would wait for the device at every token
        if ids.device.type == "cpu" and not 0 <= ids.min() <= ids.max() < config.vocab_size:
            raise ModelError(f"model: ids must be 0 to {config.vocab_size - 1}, came {ids.min()} to {ids.max()}")
        batch_size, new = ids.shape
        if cache is not None and cache.batch_size != batch_size:
            raise ModelError(f"model: ids must have the {cache.batch_size} rows of the cache, came {batch_size}")
        if last is not None and last < 1:
            raise ModelError(f"model: last must be at least 1, came {last}")
        if past + new > room:
            raise ModelError(f"model: the context must be at most {room} tokens, came {past + new}")
        positions = torch.arange(past, past + new, device=ids.device)
        tables = rotary_table(positions, config.head_dim, config.rope_theta)
        cos, sin = (table.repeat(batch_size, 1) for table in tables)

        x = self.embed(ids.flatten())
        normed = rms_norm(x, self.layers[0].input_norm, config.rms_norm_eps)
        # A residual addition always meets the norm that follows it: that of the next layer, at the end the last one.
        next_norms = [layer.input_norm for layer in self.layers[1:]] + [self.norm]
        for index, (layer, next_norm) in enumerate(zip(self.layers, next_norms, strict=True)):
            attended = layer.attention(normed, batch_size, cos, sin, cache, index)
            normed, x = add_rms_norm(attended, x, layer.ffn_norm, config.rms_norm_eps)
            normed, x = add_rms_norm(layer.feed_forward(normed, routing), x, next_norm, config.rms_norm_eps)

        if last is not None:
            normed = normed.view(batch_size, new, -1)[:, -last:].flatten(0, 1)
        # 2-D on purpose: torch runs a bf16 product over 3-D input far slower on CPU
        return self.lm_head(normed).float().unflatten(0, (batch_size, -1))
