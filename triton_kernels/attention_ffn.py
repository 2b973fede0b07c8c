"""attention_ffn: queries, keys and values; attention; output; gate and up; down: six launches for one token.

A program of the first step owns tokens and columns of both halves of a head: it rotates them, and puts keys and values
where the cache has them. The others are attention's kernels and dense layers with what follows these. The norms
are part of the products that read them while tokens are few, and launches of their own where products are to run at
full speed.
"""

import torch
import triton
import triton.language as tl

from pangu_ops import backends
from pangu_ops.ops.attention_ffn import outputs
from pangu_ops.triton_kernels.attention import attend
from pangu_ops.triton_kernels.dense import FEW, dense, halves, launch_dense, products, tile_of
from pangu_ops.triton_kernels.launch import contiguous
from pangu_ops.triton_kernels.paging import places
from pangu_ops.triton_kernels.rms_norm import rms_norm


@triton.jit(do_not_specialize=["B", "M", "N", "T", "eps"])
def qkv_kernel(
    x,
    weight,
    norm,
    bias,
    cos,
    sin,
    q,
    attended,
    key_cache,
    value_cache,
    block_table,
    context_lens,
    query_starts,
    B,
    M,
    N,
    T,
    K,
    eps,
    HQ: tl.constexpr,
    HK: tl.constexpr,
    SIZE: tl.constexpr,
    BATCH: tl.constexpr,
    PARTS: tl.constexpr,
    INNER: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SWAPPED: tl.constexpr,
):
    token, head, inner = tile_of(T, HQ + 2 * HK, INNER, BLOCK_T, BLOCK_N)
    sums = products(x, weight, norm, token, head, inner, T, K, eps, PARTS, INNER, BLOCK_T, BLOCK_N, BLOCK_K, SWAPPED)
    a, b = halves(sums, BLOCK_T, BLOCK_N)
    tokens, columns = token + tl.arange(0, BLOCK_T), inner + tl.arange(0, BLOCK_N)
    mask = (tokens < T)[:, None] & (columns < INNER)[None, :]
    if bias is not None:
        line = head * 2 * INNER + columns
        a += tl.load(bias + line, mask=columns < INNER, other=0.0).to(tl.float32)[None, :]
        b += tl.load(bias + line + INNER, mask=columns < INNER, other=0.0).to(tl.float32)[None, :]
    block, slot = places(tokens, block_table, context_lens, query_starts, T, B, M, N, SIZE, BATCH)
    wide, columns = tokens.to(tl.int64)[:, None], columns[None, :]
    if head < HQ + HK:
        c = tl.load(cos + wide * INNER + columns, mask=mask, other=0.0)
        s = tl.load(sin + wide * INNER + columns, mask=mask, other=0.0)
        a, b = a * c - b * s, b * c + a * s
    a, b = a.to(q.dtype.element_ty), b.to(q.dtype.element_ty)
    if head < HQ:
        at = (wide * HQ + head) * (2 * INNER) + columns
        tl.store(q + at, a, mask=mask)
        tl.store(q + at + INNER, b, mask=mask)
        nan = tl.full((BLOCK_T, BLOCK_N), float("nan"), tl.float32).to(q.dtype.element_ty)
        lost = mask & (block < 0)[:, None]  # attention leaves these tokens out
        tl.store(attended + at, nan, mask=lost)
        tl.store(attended + at + INNER, nan, mask=lost)
    else:
        mask = mask & (block >= 0)[:, None]
        place = (block.to(tl.int64) * HK + (head - HQ) % HK) * SIZE + slot
        at = place[:, None] * (2 * INNER) + columns
        if head < HQ + HK:
            tl.store(key_cache + at, a, mask=mask)
            tl.store(key_cache + at + INNER, b, mask=mask)
        else:
            tl.store(value_cache + at, a, mask=mask)
            tl.store(value_cache + at + INNER, b, mask=mask)


def attention_ffn(
    x,
    input_norm,
    qkv_weight,
    qkv_bias,
    o_weight,
    o_bias,
    ffn_norm,
    gate_up,
    down,
    cos,
    sin,
    key_cache,
    value_cache,
    block_table,
    context_lens,
    query_starts,
    eps=1e-5,
):
    written = key_cache, value_cache
    args = x, input_norm, qkv_weight, qkv_bias, o_weight, o_bias, ffn_norm, gate_up, down, cos, sin
    paging = block_table, context_lens, query_starts
    out = outputs(*args, *written, *paging, eps)
    args = map(contiguous, args)
    x, input_norm, qkv_weight, qkv_bias, o_weight, o_bias, ffn_norm, gate_up, down, cos, sin = args
    paging = tuple(map(contiguous, paging))
    tokens, (blocks, kv_heads, size, d), (batch, columns) = x.shape[0], key_cache.shape, block_table.shape
    heads = o_weight.shape[1] // d
    # In float32, and in the mode that asks for it, nothing may depend on the number of tokens.
    invariant = x.dtype == torch.float32 or backends.is_batch_invariant()

    def behind(norm, x):
        return (x, norm) if tokens <= FEW and not invariant else (rms_norm(x, norm, eps), None)

    q, attended = (x.new_empty(tokens, heads, d) for _ in range(2))
    rows, norm = behind(input_norm, x)
    sizes = dict(HQ=heads, HK=kv_heads, SIZE=size, BATCH=triton.next_power_of_2(max(batch, 1)))
    launch_dense(qkv_kernel, rows, qkv_weight, 2, d // 2, norm, qkv_bias, cos, sin, q, attended, *written, *paging,
                 batch, columns, blocks, eps=eps, invariant=invariant, **sizes)  # fmt: skip
    attend(q, *written, *paging, None, attended, invariant)
    middle = dense(
        attended.view(tokens, heads * d), o_weight, torch.empty_like(x), None, o_bias, x, invariant=invariant
    )
    rows, norm = behind(ffn_norm, middle)
    hidden = dense(rows, gate_up, x.new_empty(tokens, down.shape[1]), norm, eps=eps, invariant=invariant)
    return dense(hidden, down, out, residual=middle, invariant=invariant)
