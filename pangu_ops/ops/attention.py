"""attention: causal grouped-query attention over a paged KV cache."""

import random

import torch

from pangu_ops.registry import accumulate_dtype, check, check_device, check_float, check_int32, register

OP = "attention"


def attention(q, k, v, key_cache, value_cache, block_table, context_lens, query_starts, scale=None):
    """Write the new tokens' keys and values into the cache, then let each token attend to its context.

    A batch of B sequences, each with any number of new tokens: prefill, decode and both in one call.

    Args:
        q: ``[T, Hq, D]`` float32, bfloat16 or float16, the new tokens of all sequences, one sequence after the other.
        k: ``[T, Hk, D]`` of the dtype of ``q``; Hk divides Hq, and KV head h serves the query heads
            ``[h*Hq/Hk, (h+1)*Hq/Hk)``.
        v: ``[T, Hk, D]``.
        key_cache: ``[N, Hk, block, D]`` contiguous, N blocks of ``block`` tokens; written.
        value_cache: as ``key_cache``.
        block_table: ``[B, M]`` int32, the blocks of each sequence in order; only those that its context reaches are
            read. Sequences may share blocks that none of them writes.
        context_lens: ``[B]`` int32, tokens of each sequence, the new ones included.
        query_starts: ``[B+1]`` int32, rising from 0 to T; sequence b owns the tokens
            ``[query_starts[b], query_starts[b+1])``, which are the last ones of its context.
        scale: of the scores, None for ``D**-0.5``.

    Returns:
        ``[T, Hq, D]`` of the dtype of ``q``. The softmax and all sums run in fp32. On CPU a token's result does not
        depend on what else is in the call, as long as all values are finite; on a GPU that takes
        :func:`pangu_ops.batch_invariant`. No gradient passes.

    On a GPU no value of ``block_table``, ``context_lens`` and ``query_starts`` is refused: a token that belongs to no
    sequence, or whose context cannot be or lies outside the cache, gets NaN and is not written; what comes is open
    where ``query_starts`` falls.

    Equivalent to, for each sequence, with ``keys`` and ``values`` its whole context ``[Hk, L, D]``::

        mask = torch.ones(n, L, dtype=torch.bool).tril(L - n)
        F.scaled_dot_product_attention(q.transpose(0, 1), keys, values, mask, scale=scale, enable_gqa=True)
    """
    return torch.ops.pangu.attention(q, k, v, key_cache, value_cache, block_table, context_lens, query_starts, scale)


def check_paging(op, x_name, x, key_cache, value_cache, block_table, context_lens, query_starts):
    """What attention and attention_ffn ask of the cache and of the batch."""
    check(
        key_cache.dim() == 4 and 0 not in key_cache.shape[1:],
        op,
        "key_cache must be [N, Hk, block, D]",
        key_cache,
    )
    check(value_cache.shape == key_cache.shape, op, "value_cache must have the shape of key_cache", value_cache)
    for name, cache in (("key_cache", key_cache), ("value_cache", value_cache)):
        check_float(op, **{x_name: x, name: cache})
        check(cache.is_contiguous(), op, f"{name} must be contiguous, since it is written", "strides")
    check(block_table.dim() == 2, op, "block_table must be [B, M]", block_table)
    batch = block_table.shape[0]
    check(context_lens.shape == (batch,), op, "context_lens must be [B] with the B of block_table", context_lens)
    check(query_starts.shape == (batch + 1,), op, "query_starts must be [B+1] with the B of block_table", query_starts)
    check_int32(op, block_table=block_table, context_lens=context_lens, query_starts=query_starts)
    check_device(op, **{x_name: x}, block_table=block_table, context_lens=context_lens, query_starts=query_starts)


def sequences(op, num_tokens, key_cache, block_table, context_lens, query_starts):
    """``(tokens, positions, block of each position)`` of every sequence; refuses values that index outside."""
    starts, lens = query_starts.tolist(), context_lens.tolist()
    num_blocks, _, block, _ = key_cache.shape
    room = block_table.shape[1] * block
    check(
        starts[0] == 0 and starts[-1] == num_tokens and starts == sorted(starts),
        op,
        f"query_starts must rise from 0 to T = {num_tokens}",
        "other values",
    )
    found = []
    for row, (begin, end, length) in enumerate(zip(starts, starts[1:], lens)):
        rule = f"context_lens must count the new tokens and be at most M * block = {room}"
        check(end - begin <= length <= room, op, rule, length)
        positions = torch.arange(length, device=key_cache.device)
        blocks = block_table[row].long()[positions // block]
        outside = blocks[(blocks < 0) | (blocks >= num_blocks)].tolist()
        rule = f"block_table must hold numbers of blocks below N = {num_blocks} for every context"
        check(not outside, op, rule, *outside[:1])
        found.append((slice(begin, end), positions, blocks))
    return found


def outputs(q, k, v, key_cache, value_cache, block_table, context_lens, query_starts, scale=None):
    check(q.dim() == 3, OP, "q must be [T, Hq, D]", q)
    check_float(OP, q=q)
    check_paging(OP, "q", q, key_cache, value_cache, block_table, context_lens, query_starts)
    heads, _, head_dim = key_cache.shape[1:]
    check(
        q.shape[2] == head_dim and q.shape[1] > 0 and q.shape[1] % heads == 0,
        OP,
        "q must be [T, Hq, D] with the D of key_cache and a multiple of its Hk heads",
        q,
    )
    for name, tensor in (("k", k), ("v", v)):
        sizes = [q.shape[0], heads, head_dim]
        check(list(tensor.shape) == sizes, OP, f"{name} must be [T, Hk, D] = {sizes}", tensor)
        check_float(OP, q=q, **{name: tensor})
    return q.new_empty(q.shape)


def reference(q, k, v, key_cache, value_cache, block_table, context_lens, query_starts, scale=None, op=OP):
    dtype, out, block = accumulate_dtype(q), torch.empty_like(q), key_cache.shape[2]
    scale = q.shape[2] ** -0.5 if scale is None else scale
    batch = sequences(op, q.shape[0], key_cache, block_table, context_lens, query_starts)
    for tokens, positions, blocks in batch:
        new = tokens.stop - tokens.start
        at = blocks[len(blocks) - new :], slice(None), positions[len(positions) - new :] % block
        key_cache[at], value_cache[at] = k[tokens], v[tokens]
    for tokens, positions, blocks in batch:
        new, length = tokens.stop - tokens.start, len(positions)
        keys = key_cache[blocks, :, positions % block].to(dtype)  # [L, Hk, D]
        values = value_cache[blocks, :, positions % block].to(dtype)
        queries = q[tokens].to(dtype).unflatten(1, (keys.shape[1], -1))  # [n, Hk, Hq/Hk, D]
        scores = torch.einsum("nhgd,lhd->nhgl", queries, keys) * scale
        seen = torch.ones(new, length, dtype=torch.bool, device=q.device).tril(length - new)
        weights = scores.masked_fill(~seen[:, None, None], float("-inf")).softmax(-1)
        out[tokens] = torch.einsum("nhgl,lhd->nhgd", weights, values).flatten(1, 2).to(q.dtype)
    return out


def paging_example(T, Hk, D, block, B, past, dtype, seed):
    """Caches with numbers in every block, and a batch that shares the T new tokens among B sequences at random."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    cuts = sorted(rng.randint(0, T) for _ in range(B - 1))
    starts = [0, *cuts, T]
    lens = [end - begin + rng.randint(0, past) for begin, end in zip(starts, starts[1:])]
    wanted = [-(-length // block) for length in lens]
    table = torch.full((B, max(wanted) + 1), -1, dtype=torch.int32)  # what no context reaches may hold anything
    free = list(range(sum(wanted) + 2))
    rng.shuffle(free)
    for row, count in enumerate(wanted):
        table[row, :count] = torch.tensor([free.pop() for _ in range(count)], dtype=torch.int32)
    shape = (sum(wanted) + 2, Hk, block, D)
    caches = [torch.randn(shape, generator=generator).to(dtype) for _ in range(2)]
    return *caches, table, torch.tensor(lens, dtype=torch.int32), torch.tensor(starts, dtype=torch.int32)


def example(T, Hq, Hk, D, block=4, B=1, past=0, scale=None, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed + 1)
    q, k, v = (torch.randn(T, heads, D, generator=generator).to(dtype) for heads in (Hq, Hk, Hk))
    return q, k, v, *paging_example(T, Hk, D, block, B, past, dtype, seed), scale


register(
    OP,
    outputs,
    reference,
    example=example,
    cases=(
        dict(T=0, Hq=2, Hk=1, D=4),
        dict(T=1, Hq=1, Hk=1, D=1),
        dict(T=1, Hq=5, Hk=1, D=22, past=60),  # one token, odd sizes, two chunks of keys
        dict(T=9, Hq=4, Hk=2, D=8, B=4, past=20, block=3),  # prefill and decode together
        dict(T=12, Hq=40, Hk=8, D=128, B=3, past=70, block=32),  # Pangu Pro MoE
        dict(T=70, Hq=6, Hk=2, D=36, B=2, past=40, block=16, scale=0.3),  # more tokens than share the keys
    ),
)
