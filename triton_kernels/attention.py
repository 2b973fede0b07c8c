"""attention: the new keys and values go into the cache, then rows of queries walk over the keys that they see.

The rows of a sequence and KV head are its tokens' query heads, token by token, so that they share what is read of the
cache: row r is head r % G of token r // G, G = Hq / Hk. Sequences with so few rows that one tile holds them (decode,
drafts) are owned by SPLITS programs that share the context, and then a row by a program that adds up what these found.
Of all others (prefill) a program owns BLOCK_M rows and walks over all their keys. Which of both takes a sequence is for
its own number of tokens to say.
"""

import math

import torch
import triton
import triton.language as tl

from pangu_ops import backends
from pangu_ops.ops.attention import outputs
from pangu_ops.triton_kernels.launch import gpu_of, launch
from pangu_ops.triton_kernels.paging import block_of, places, sequence

MAX_SPLITS = 64


@triton.jit(do_not_specialize=["T", "B", "M", "N"])
def append_kernel(
    k,
    v,
    key_cache,
    value_cache,
    block_table,
    context_lens,
    query_starts,
    out,
    T,
    B,
    M,
    N,
    HQ: tl.constexpr,
    HK: tl.constexpr,
    D: tl.constexpr,
    SIZE: tl.constexpr,
    BATCH: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program owns TOKENS tokens; the results of those that attend to nothing are its as well."""
    tokens = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    block, slot = places(tokens, block_table, context_lens, query_starts, T, B, M, N, SIZE, BATCH)
    placed = (block >= 0)[:, None]
    lost = ((block < 0) & (tokens < T))[:, None]
    block, slot, tokens = block.to(tl.int64)[:, None], slot[:, None], tokens.to(tl.int64)[:, None]
    for start in range(0, HK * D, BLOCK):
        columns = (start + tl.arange(0, BLOCK))[None, :]
        at = ((block * HK + columns // D) * SIZE + slot) * D + columns % D
        mask = placed & (columns < HK * D)
        tl.store(key_cache + at, tl.load(k + tokens * (HK * D) + columns, mask=mask), mask=mask)
        tl.store(value_cache + at, tl.load(v + tokens * (HK * D) + columns, mask=mask), mask=mask)
    for start in range(0, HQ * D, BLOCK):
        columns = (start + tl.arange(0, BLOCK))[None, :]
        nan = tl.full((TOKENS, BLOCK), float("nan"), tl.float32).to(out.dtype.element_ty)
        tl.store(out + tokens * (HQ * D) + columns, nan, mask=lost & (columns < HQ * D))


@triton.jit
def walk(
    queries,
    last,
    key_cache,
    value_cache,
    table,
    h,
    first,
    stop,
    scale,
    N,
    top,
    total,
    sums,
    HK: tl.constexpr,
    D: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Take in the keys [first, stop), of which each row sees those up to its ``last``; all of them unless MASKED."""
    d = tl.arange(0, queries.shape[1])
    ahead = block_of(first, stop, table, SIZE, BLOCK_N)
    for start in range(first, stop, BLOCK_N):
        keys = start + tl.arange(0, BLOCK_N)
        block = ahead
        ahead = block_of(start + BLOCK_N, stop, table, SIZE, BLOCK_N)  # looked up long before it is needed
        inside = (block >= 0) & (block < N)
        line = (tl.where(inside, block, 0).to(tl.int64) * HK + h) * SIZE
        if SIZE % BLOCK_N == 0:
            tile, at = (line + start % SIZE) * D, tl.arange(0, BLOCK_N)[:, None] * D + d[None, :]
        else:
            tile, at = (line + keys % SIZE)[:, None] * D, d[None, :]
        mask = (d < D)[None, :]
        if MASKED:
            mask = mask & (keys < stop)[:, None]  # what no token has written may be NaN, and 0 * NaN as well
        k = tl.load(key_cache + tile + at, mask=mask, other=0.0)
        scores = tl.dot(queries, k.trans(), input_precision="ieee")
        factor = tl.where(inside, scale, float("nan"))
        scores = scores * (factor if SIZE % BLOCK_N == 0 else factor[None, :])
        if MASKED:
            scores = tl.where(keys[None, :] <= last[:, None], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        base = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(top - base)
        total = total * shrink + tl.sum(weights, 1)
        v = tl.load(value_cache + tile + at, mask=mask, other=0.0)
        sums = tl.dot(weights.to(v.dtype), v, sums * shrink[:, None], input_precision="ieee")
        top = higher
    return top, total, sums


@triton.jit
def elements(row, rows, begin, h, stride, G: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Where rows of a sequence lie among heads of D elements, with ``stride`` elements from token to token."""
    d = tl.arange(0, BLOCK_D)[None, :]
    token, head = (begin + row // G).to(tl.int64), h * G + row % G
    return token[:, None] * stride + (head * D)[:, None] + d, (row < rows)[:, None] & (d < D)


@triton.jit
def put(out, results, row, rows, begin, h, HK: tl.constexpr, G: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr):
    at, mask = elements(row, rows, begin, h, HK * G * D, G, D, BLOCK_D)
    tl.store(out + at, results.to(out.dtype.element_ty), mask=mask)


@triton.jit
def attended(
    q,
    row,
    rows,
    begin,
    past,
    key_cache,
    value_cache,
    table,
    h,
    first,
    edge,
    stop,
    scale,
    N,
    stride,
    HK: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Highest score, sum of weights and of weighted values that rows find in the keys [first, stop).

    ``edge``: all rows see what lies before; None where there is no such place.
    """
    at, mask = elements(row, rows, begin, h, stride, G, D, BLOCK_D)
    queries = tl.load(q + at, mask=mask, other=0.0)
    last = past + row // G
    top = tl.full(row.shape, float("-inf"), tl.float32)
    total, sums = tl.zeros(row.shape, tl.float32), tl.zeros((row.shape[0], BLOCK_D), tl.float32)
    if edge is not None:
        top, total, sums = walk(queries, last, key_cache, value_cache, table, h, first, edge, scale, N,
                                top, total, sums, HK, D, SIZE, BLOCK_N, False)  # fmt: skip
        first = edge
    return walk(queries, last, key_cache, value_cache, table, h, first, stop, scale, N,
                top, total, sums, HK, D, SIZE, BLOCK_N, True)  # fmt: skip


@triton.jit
def span(split, length, SPLITS: tl.constexpr, BLOCK_N: tl.constexpr):
    """The keys of a split; the last splits of a short context have none."""
    chunk = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK_N) * BLOCK_N
    return split * chunk, tl.minimum(split * chunk + chunk, length)


@triton.jit(do_not_specialize=["T", "M", "N", "scale"])
def decode_kernel(
    q,
    key_cache,
    value_cache,
    block_table,
    context_lens,
    query_starts,
    out,
    parts,
    weights,
    scale,
    T,
    M,
    N,
    stride,
    HK: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    SIZE: tl.constexpr,
    SPLITS: tl.constexpr,
    ALONE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    b, h, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    begin, new, length = sequence(b, query_starts, context_lens, T, M * SIZE)
    table, past, rows = block_table + b.to(tl.int64) * M, length - new, new * G
    if rows <= BLOCK_M:
        first, stop = span(split, length, SPLITS, BLOCK_N)
        if (rows > 0) & (first < stop):
            row = tl.arange(0, BLOCK_M)
            top, total, sums = attended(q, row, rows, begin, past, key_cache, value_cache, table, h, first, None, stop,
                                        scale, N, stride, HK, G, D, SIZE, BLOCK_N, BLOCK_D)  # fmt: skip
            if SPLITS == 1:
                put(out, sums / total[:, None], row, rows, begin, h, HK, G, D, BLOCK_D)
            else:
                slot = ((b.to(tl.int64) * HK + h) * SPLITS + split) * BLOCK_M + row
                d = tl.arange(0, BLOCK_D)[None, :]
                total = tl.where(total == 0.0, 1.0, total)  # a row may see none of these keys
                tl.store(parts + slot[:, None] * D + d, sums / total[:, None], mask=(row < rows)[:, None] & (d < D))
                tl.store(weights + slot, top + tl.log2(total), mask=row < rows)
    elif ALONE:  # a prompt beside sequences without tokens: right, but slow
        for tile in range(split * BLOCK_M, rows, SPLITS * BLOCK_M):
            row = tile + tl.arange(0, BLOCK_M)
            top, total, sums = attended(q, row, rows, begin, past, key_cache, value_cache, table, h, 0, None, length,
                                        scale, N, stride, HK, G, D, SIZE, BLOCK_N, BLOCK_D)  # fmt: skip
            put(out, sums / total[:, None], row, rows, begin, h, HK, G, D, BLOCK_D)


@triton.jit(do_not_specialize=["T", "M"])
def merge_kernel(
    parts,
    weights,
    context_lens,
    query_starts,
    out,
    T,
    M,
    HK: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    SIZE: tl.constexpr,
    SPLITS: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A program owns ROWS rows; the sum over splits has one order, whatever their number of keys."""
    b, h, row = tl.program_id(0), tl.program_id(1), tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    begin, new, length = sequence(b, query_starts, context_lens, T, M * SIZE)
    rows = new * G
    if (tl.program_id(2) * ROWS < rows) & (rows <= BLOCK_M):
        splits = tl.arange(0, PADDED)[:, None]
        first, stop = span(splits, length, SPLITS, BLOCK_N)
        used = (splits < SPLITS) & (first < stop) & (row < rows)[None, :]
        slot = ((b.to(tl.int64) * HK + h) * SPLITS + splits) * BLOCK_M + row[None, :]
        weight = tl.load(weights + slot, mask=used, other=float("-inf"))
        top = tl.max(weight, 0)
        weight = tl.exp2(weight - tl.where(top == float("-inf"), 0.0, top)[None, :])
        d = tl.arange(0, BLOCK_D)[None, None, :]
        part = tl.load(parts + slot[:, :, None] * D + d, mask=used[:, :, None] & (d < D), other=0.0)
        total = tl.where(row < rows, tl.sum(weight, 0), 1.0)
        result = tl.sum(part * weight[:, :, None], 0) / total[:, None]
        put(out, result, row, rows, begin, h, HK, G, D, BLOCK_D)


@triton.jit(do_not_specialize=["T", "B", "M", "N", "scale"])
def prefill_kernel(
    q,
    key_cache,
    value_cache,
    block_table,
    context_lens,
    query_starts,
    out,
    scale,
    T,
    B,
    M,
    N,
    stride,
    HK: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    SIZE: tl.constexpr,
    BATCH: tl.constexpr,
    FEW: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    h, number = tl.program_id(0) % HK, tl.program_id(0) // HK
    sequences = tl.arange(0, BATCH)
    begins = tl.load(query_starts + sequences, mask=sequences < B, other=0)
    ends = tl.load(query_starts + sequences + 1, mask=sequences < B, other=0)
    rows = tl.minimum(tl.maximum(ends - begins, 0), T) * G
    tiles = tl.where(rows > FEW, tl.cdiv(rows, BLOCK_M), 0)
    number = tl.sum(tiles) - 1 - number  # the last tiles of a sequence have the most keys: they start first
    if number >= 0:
        b = tl.sum((tl.cumsum(tiles) <= number).to(tl.int32))
        tile = (number - tl.sum(tl.where(sequences < b, tiles, 0))) * BLOCK_M
        begin, new, length = sequence(b, query_starts, context_lens, T, M * SIZE)
        if tile < new * G:
            table, past = block_table + b.to(tl.int64) * M, length - new
            edge = (past + tile // G + 1) // BLOCK_N * BLOCK_N
            stop = tl.minimum(past + (tile + BLOCK_M - 1) // G + 1, length)
            row = tile + tl.arange(0, BLOCK_M)
            top, total, sums = attended(q, row, new * G, begin, past, key_cache, value_cache, table, h, 0, edge, stop,
                                        scale, N, stride, HK, G, D, SIZE, BLOCK_N, BLOCK_D)  # fmt: skip
            put(out, sums / total[:, None], row, new * G, begin, h, HK, G, D, BLOCK_D)


def append(k, v, key_cache, value_cache, block_table, context_lens, query_starts, out):
    (tokens, heads, _), (blocks, kv_heads, size, d), (batch, columns) = out.shape, key_cache.shape, block_table.shape
    if tokens == 0:
        return
    # One token a program until that fills the GPU; more of them share the search for their sequences.
    shared = min(triton.next_power_of_2(triton.cdiv(tokens, 4 * gpu_of(out).num_sms)), 16)
    block = min(triton.next_power_of_2(kv_heads * d), 2048 // shared)
    args = k, v, key_cache, value_cache, block_table, context_lens, query_starts, out, tokens, batch, columns, blocks
    sizes = dict(HQ=heads, HK=kv_heads, D=d, SIZE=size, BATCH=triton.next_power_of_2(max(batch, 1)))
    launch(append_kernel, (triton.cdiv(tokens, shared),), *args, **sizes, TOKENS=shared, BLOCK=block)


def attend(q, key_cache, value_cache, block_table, context_lens, query_starts, scale, out, invariant):
    """Attention of ``q [T, Hq, D]``, with heads side by side, over what the cache holds.

    ``invariant``: a token's bits depend on its own context alone; else on how the sizes of the batch split it.
    """
    (tokens, heads, d), (blocks, kv_heads, size, _), (batch, columns) = q.shape, key_cache.shape, block_table.shape
    if 0 in (tokens, batch, columns, blocks):
        return
    gpu, group, rows = gpu_of(q), heads // kv_heads, tokens * (heads // kv_heads)
    # What registers hold of rows, and stages of keys and values: less without wgmma, and where products are sums.
    block_d, size_of = max(triton.next_power_of_2(d), 16), q.element_size()
    tensor_cores = size_of == 2
    most = min(max((16384 if tensor_cores else 2048) // block_d, 16), 128 if tensor_cores else 32)
    block_n = min(max((16384 if tensor_cores and gpu.arch >= 90 else 8192) // (block_d * size_of), 16), 64)
    sizes = dict(HK=kv_heads, G=group, D=d, SIZE=size, BLOCK_N=block_n, BLOCK_D=block_d)
    options = dict(
        fp_fusion=False,  # a masked key and one that is not must give the same bits
        num_stages=3 if block_n * block_d * size_of <= 16384 else 2,
    )
    cache = key_cache, value_cache, block_table, context_lens, query_starts
    scale = (d**-0.5 if scale is None else scale) / math.log(2)

    # Most rows of a sequence that is not for the prefill kernel.
    few = min(max(triton.next_power_of_2(triton.cdiv(tokens, batch) * group), 16), 64, most)
    if invariant or batch == 1 and rows > few:
        few = 0
    else:
        wanted = triton.cdiv(2 * gpu.num_sms, batch * kv_heads)
        splits = min(wanted, triton.cdiv(columns * size, block_n), MAX_SPLITS, max(8192 // block_d, 1))
        slots = batch * kv_heads * splits * few if splits > 1 else 0
        parts, weights = (q.new_empty(slots * width, dtype=torch.float32) for width in (d, 1))
        sizes_of_split = dict(SPLITS=splits, BLOCK_M=few, **sizes)
        launch(decode_kernel, (batch, kv_heads, splits), q, *cache, out, parts, weights, scale, tokens, columns, blocks,
               q.stride(0), ALONE=tokens <= batch, **sizes_of_split, **options)  # fmt: skip
        if splits > 1:
            padded = triton.next_power_of_2(splits)
            together = min(few, max(8192 // (padded * block_d), 1))
            grid = (batch, kv_heads, triton.cdiv(min(few, rows), together))
            launch(merge_kernel, grid, parts, weights, context_lens, query_starts, out, tokens, columns,
                   PADDED=padded, ROWS=together, **sizes_of_split)  # fmt: skip
        if tokens <= batch or rows <= few:
            return
    tiles = rows // most + min(batch, rows // (few + 1))
    launch(prefill_kernel, (tiles * kv_heads,), q, *cache, out, scale, tokens, batch, columns, blocks, q.stride(0),
           BATCH=triton.next_power_of_2(batch), FEW=few, BLOCK_M=most, **sizes, **options,
           num_warps=8 if most == 128 else 4)  # fmt: skip


def attention(q, k, v, key_cache, value_cache, block_table, context_lens, query_starts, scale=None):
    out = outputs(q, k, v, key_cache, value_cache, block_table, context_lens, query_starts, scale)
    q, k, v, *paging = (x.contiguous() for x in (q, k, v, block_table, context_lens, query_starts))
    append(k, v, key_cache, value_cache, *paging, out)
    attend(q, key_cache, value_cache, *paging, scale, out, backends.is_batch_invariant())
    return out
