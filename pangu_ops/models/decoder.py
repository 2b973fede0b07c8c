"""What the models share: pre-norm decoder layers with causal grouped-query attention, in plain torch and the ops.

B batch, S positions of each sequence, T tokens; every matrix product is 2-D over the T tokens.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from pangu_ops.models.cache import KVCache
from pangu_ops.models.config import ModelError
from pangu_ops.models.graph import MOST_TOKENS
from pangu_ops.ops import add_rms_norm, attention, linear, rms_norm, rotary
from pangu_ops.ops.rotary import rotary_table


class Linear(nn.Linear):
    def reset_parameters(self):
        """Nothing: the whole model's parameters get their first values together, or from a checkpoint."""

    def forward(self, x):
        # Training multiplies thousands of rows in float32, which torch's own product does faster.
        learns = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        return (F.linear if learns else linear)(x, self.weight, self.bias)


class Attention(nn.Module):
    """Causal grouped-query attention; the released models have a bias on all four projections."""

    def __init__(self, config, dtype, bias=True):
        super().__init__()
        self.heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
        self.head_dim = config.head_dim
        self.qkv = Linear(config.hidden_size, sum(self.heads) * config.head_dim, bias=bias, dtype=dtype)
        self.o_proj = Linear(config.hidden_size, config.hidden_size, bias=bias, dtype=dtype)

    def forward(self, x, cos, sin, attend):
        """``attend(q, k, v)`` gives ``[T, Hq, D]``."""
        q, k, v = self.qkv(x).view(len(x), sum(self.heads), self.head_dim).split(self.heads, dim=1)
        q, k = rotary(q, k, cos, sin)
        return self.o_proj(attend(q, k, v).flatten(1))


class Whole:
    """Whole sequences of one length, with gradients."""

    def __init__(self, batch_size):
        self.batch_size = batch_size

    def attend(self, layer, q, k, v):
        q, k, v = (t.unflatten(0, (self.batch_size, -1)).transpose(1, 2) for t in (q, k, v))  # [B, heads, S, D]
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(0, 1)


class Cached:
    """The new tokens of sequences in a cache."""

    def __init__(self, cache, batch):
        self.cache, self.batch = cache, batch

    def paging(self, layer):
        """What the attention ops take of the layer with that index."""
        batch = self.batch
        caches = self.cache.keys[layer], self.cache.values[layer]
        return *caches, batch.block_table, batch.context_lens, batch.query_starts

    def attend(self, layer, q, k, v):
        return attention(q, k, v, *self.paging(layer))


class CausalLM(nn.Module):
    """The whole model, with random weights; ``initialize=False`` leaves them to a checkpoint.

    A subclass names the class of its ``layer``, which has an ``input_norm``, an ``attention``, a ``ffn_norm`` and
    ``feed_forward(normed, routing)``.
    """

    def __init__(self, config, dtype=torch.float32, initialize=True):
        super().__init__()
        self.config = config
        self._table = None  # cos and sin of the positions so far
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

    def forward(self, ids, cache=None, last=None, lengths=None, routing=None):
        """Logits of the next token at every position.

        Args:
            ids: ``[B, S]`` int64 or int32, every id below the vocabulary's size.
            cache: a :class:`KVCache`; the ids then continue the tokens it holds and are added to it.
            last: logits of the last ``last`` positions of each row only, None for all.
            lengths: for a cache, how many ids of each row there are, from its first on; what follows is not looked at
                and gets logits of 0. None for all S.
            routing: a list, to which each layer adds its ``(router logits [T, E], expert_ids [T, K])``.

        Returns:
            ``[B, S, V]`` float32, or ``[B, last, V]``. In float32, on CPU, the logits of a row do not depend on the
            rows beside it; in bfloat16 neither within ``pangu_ops.batch_invariant()``.
        """
        counts, present = self._check(ids, cache, last, lengths)
        learns = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters())
        if cache is None and not learns:
            weight = self.embed.weight
            cache = KVCache(self.config, *ids.shape, weight.device, weight.dtype)
        if cache is None:
            positions = torch.arange(ids.shape[1], device=ids.device).repeat(len(ids))
            table = rotary_table(positions, self.config.head_dim, self.config.rope_theta)
            return self._logits(ids, counts, present, last, Whole(len(ids)), table, routing)
        before = list(cache.lengths)
        try:
            batch = cache.extend(counts)
            if ids.is_cuda and ids.numel() <= MOST_TOKENS and present is None and routing is None:
                logits = cache.graphs.step(self, ids, cache, batch)
                return logits if last is None else logits[:, -last:]
            return self._logits(ids, counts, present, last, Cached(cache, batch), self.rotary(batch), routing)
        except BaseException:  # an interruption too: the cache must not count tokens that no one has written
            for row, length in enumerate(before):
                cache.truncate(row, min(length, cache.lengths[row]))
            raise

    def _logits(self, ids, counts, present, last, sequences, table, routing):
        x = self.embed(ids.flatten() if present is None else ids[present])
        _, hidden = self.run(x, *table, sequences, routing)
        if last is not None and len(ids) == 1:
            hidden = hidden[-last:]
        elif last is not None:
            ends = torch.tensor(counts, device=ids.device).cumsum(0)
            hidden = hidden[(ends[:, None] - last + torch.arange(last, device=ids.device)).flatten()]
        # 2-D on purpose: torch runs a bf16 product over 3-D input far slower on CPU
        logits = self.lm_head(hidden).float()
        if last is None and present is not None:
            return logits.new_zeros(*ids.shape, logits.shape[1]).masked_scatter_(present[..., None], logits)
        return logits.unflatten(0, (len(ids), -1))

    def decode(self, ids, cache, batch, tables):
        """Logits of as many new tokens of each sequence; the values of ``batch`` are read on the device only."""
        table = tuple(table[batch.positions] for table in tables)
        return self._logits(ids, None, None, None, Cached(cache, batch), table, None)

    def rotary(self, batch):
        """``cos`` and ``sin [T, D/2]`` for the positions of a cache's :class:`Batch`."""
        positions = batch.positions
        if len(batch.query_starts) == 2:  # of one sequence they are neighbours, and need no copy
            positions = slice(batch.longest - len(positions), batch.longest)
        return tuple(table[positions] for table in self.rotary_tables(batch))

    def rotary_tables(self, batch):
        """``cos`` and ``sin`` of all positions up to the longest of ``batch`` and more; they are kept."""
        config, device = self.config, batch.positions.device
        if self._table is None or len(self._table[0]) < batch.longest or self._table[0].device != device:
            # with room to grow: at every token the few rows of a decode step would cost more than the rest of it
            length = min(config.max_position_embeddings, max(256, 2 * batch.longest))
            with torch.inference_mode(False):  # it outlives this call
                self._table = rotary_table(torch.arange(length, device=device), config.head_dim, config.rope_theta)
        return self._table

    def run(self, x, cos, sin, sequences, routing=None, first=0, last=None):
        """The layers from ``first`` up to ``last``, all by default, on the stream ``x [T, H]``.

        ``sequences`` says what attends to what: :class:`Whole`, :class:`Cached` or another with that ``attend``.
        Returns what the stream becomes, and the same normalised for what follows these layers.
        """
        eps = self.config.rms_norm_eps
        layers = list(self.layers)
        norms = [layer.input_norm for layer in layers] + [self.norm]
        normed = rms_norm(x, norms[first], eps)
        for index in range(len(layers))[first:last]:
            layer, attend = layers[index], partial(sequences.attend, index)
            # A residual addition always meets the norm that follows it: at the end, that of the next layer.
            normed, x = add_rms_norm(layer.attention(normed, cos, sin, attend), x, layer.ffn_norm, eps)
            normed, x = add_rms_norm(layer.feed_forward(normed, routing), x, norms[index + 1], eps)
        return x, normed

    def _check(self, ids, cache, last, lengths):
        """How many ids each row has, and ``[B, S]`` which of them are there (None for all)."""
        config = self.config
        if ids.dim() != 2 or ids.numel() == 0:
            raise ModelError(f"model: ids must be [B, S] with at least one id, came {list(ids.shape)}")
        if ids.dtype not in (torch.int64, torch.int32):
            raise ModelError(f"model: ids must be int64 or int32, came {ids.dtype}")
        batch_size, new = ids.shape
        if cache is not None and cache.batch_size != batch_size:
            raise ModelError(f"model: ids must have the {cache.batch_size} rows of the cache, came {batch_size}")
        counts, present = [new] * batch_size, None
        if lengths is not None:
            counts = [int(length) for length in lengths]
            if len(counts) != batch_size or not all(0 <= count <= new for count in counts) or not any(counts):
                raise ModelError(f"model: lengths must be 0 to {new} for each of {batch_size} rows, came {counts}")
            if cache is None:
                raise ModelError("model: lengths must come with a cache, came without one")
            present = torch.arange(new, device=ids.device) < torch.tensor(counts, device=ids.device)[:, None]
        if last is not None and not 1 <= last <= min(counts):
            raise ModelError(f"model: last must be 1 to {min(counts)}, the ids of the shortest row, came {last}")
        # on the CPU only: elsewhere the check would wait for the device at every token
        if ids.device.type == "cpu":
            real = ids if present is None else ids[present]
            low, high = (bound.item() for bound in real.aminmax())
            if not 0 <= low <= high < config.vocab_size:
                raise ModelError(f"model: ids must be 0 to {config.vocab_size - 1}, came {low} to {high}")
        room, past = config.max_position_embeddings, [0] * batch_size
        if cache is not None:
            room, past = min(room, cache.max_length), cache.lengths
        longest = max(length + count for length, count in zip(past, counts, strict=True))
        if longest > room:
            raise ModelError(f"model: the context must be at most {room} tokens, came {longest}")
        return counts, present
