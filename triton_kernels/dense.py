"""Dense layers: a program owns BLOCK_T tokens and BLOCK_N columns of the result and sums over all of K in order.

Weights are seen as ``[outer, parts, inner, K]``, and a column is an ``(outer, inner)``: what belongs together lies in
one program, for gate and up (1, 2, I) as for the halves of heads that rotary takes (heads, 2, D/2).
"""

from dataclasses import dataclass, replace

import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from pangu_ops.triton_kernels.launch import gpu_of, launch
from pangu_ops.triton_kernels.silu_mul import swiglu


@triton.jit
def tile_of(T, OUTER: tl.constexpr, INNER: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr):
    """First token, outer and first inner index of the program; up to GROUP neighbours share weights."""
    GROUP: tl.constexpr = 8
    number, blocks = tl.program_id(0), tl.cdiv(INNER, BLOCK_N)
    group = number // (GROUP * OUTER * blocks) * GROUP
    number -= group * OUTER * blocks
    height = tl.minimum(tl.cdiv(T, BLOCK_T) - group, GROUP)
    column = number // height
    return (group + number % height) * BLOCK_T, column // blocks, column % blocks * BLOCK_N


@triton.jit
def products(
    x,
    weight,
    norm,
    token,
    outer,
    inner,
    T,
    K,
    eps,
    PARTS: tl.constexpr,
    INNER: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SWAPPED: tl.constexpr,
):
    """``[BLOCK_T, PARTS * BLOCK_N]`` sums of the tile, of the rows of x behind their norm where there is one."""
    ROWS: tl.constexpr = PARTS * BLOCK_N
    ks, tokens, rows = tl.arange(0, BLOCK_K), token + tl.arange(0, BLOCK_T), tl.arange(0, ROWS)
    if not isinstance(x, tl.tensor_descriptor):
        x_at = x + tokens.to(tl.int64)[:, None] * K + ks[None, :]
        x_mask = (tokens < T)[:, None]
    if not isinstance(weight, tl.tensor_descriptor):
        lines = (outer * PARTS + rows // BLOCK_N) * INNER + inner + rows % BLOCK_N
        w_at = weight + lines.to(tl.int64)[:, None] * K + ks[None, :]
        w_mask = (inner + rows % BLOCK_N < INNER)[:, None]
    squares = tl.zeros((BLOCK_T,), tl.float32)
    early: tl.constexpr = norm is not None and norm.dtype.element_ty == tl.float16
    scale = squares
    if early:  # x without its norm may be too large for the product's operand
        for k in range(0, K, BLOCK_K):
            v = tl.load(x_at + k, mask=x_mask & (k + ks < K)[None, :], other=0.0).to(tl.float32)
            squares += tl.sum(v * v, 1)
        scale = tl.rsqrt(squares / K + eps)
    if SWAPPED:
        sums = tl.zeros((ROWS, BLOCK_T), tl.float32)
    else:
        sums = tl.zeros((BLOCK_T, ROWS), tl.float32)
    for k in range(0, K, BLOCK_K):
        inside = (k + ks < K)[None, :]
        if isinstance(x, tl.tensor_descriptor):
            a = x.load([token, k])
        else:
            a = tl.load(x_at + k, mask=x_mask & inside, other=0.0)
        if isinstance(weight, tl.tensor_descriptor):
            w = weight.load([outer * PARTS, inner, k]).reshape(ROWS, BLOCK_K)
        else:
            w = tl.load(w_at + k, mask=w_mask & inside, other=0.0)
        if norm is not None:
            factor = tl.load(norm + k + ks, mask=k + ks < K, other=0.0).to(tl.float32)
            v = a.to(tl.float32)
            if early:
                v = v * scale[:, None]
            else:
                squares += tl.sum(v * v, 1)
            a = (v * factor[None, :]).to(w.dtype)
        if SWAPPED:
            sums = tl.dot(w, a.trans(), sums, input_precision="ieee")
        else:
            sums = tl.dot(a, w.trans(), sums, input_precision="ieee")
    if SWAPPED:
        sums = sums.trans()
    if norm is not None and not early:
        sums *= tl.rsqrt(squares / K + eps)[:, None]
    return sums


@triton.jit
def halves(sums, BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr):
    return sums.reshape(BLOCK_T, 2, BLOCK_N).permute(0, 2, 1).split()


@triton.jit(do_not_specialize=["T", "eps"])
def dense_kernel(
    x,
    weight,
    norm,
    bias,
    residual,
    out,
    T,
    K,
    eps,
    PARTS: tl.constexpr,
    INNER: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SWAPPED: tl.constexpr,
):
    """Two parts are gate and up: their SwiGLU; of one part, the sum with a bias and a residual where there are such."""
    token, outer, inner = tile_of(T, 1, INNER, BLOCK_T, BLOCK_N)
    sums = products(x, weight, norm, token, outer, inner, T, K, eps, PARTS, INNER, BLOCK_T, BLOCK_N, BLOCK_K, SWAPPED)
    tokens, columns = token + tl.arange(0, BLOCK_T), inner + tl.arange(0, BLOCK_N)
    at = tokens.to(tl.int64)[:, None] * INNER + columns[None, :]
    mask = (tokens < T)[:, None] & (columns < INNER)[None, :]
    if PARTS == 2:
        gate, up = halves(sums, BLOCK_T, BLOCK_N)
        sums = swiglu(gate, up)
    if bias is not None:
        sums += tl.load(bias + columns, mask=columns < INNER, other=0.0).to(tl.float32)[None, :]
    if residual is not None:
        sums += tl.load(residual + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + at, sums.to(out.dtype.element_ty), mask=mask)


@dataclass(frozen=True)
class Tile:
    rows: int  # of the weights
    tokens: int
    depth: int
    warps: int
    stages: int
    swapped: bool = (
        False  # products have the weights' rows for rows, of which tensor cores want 16 or 64 a warp or four
    )


FEW = 16  # as many tokens as the smallest tiles have: all the time goes into reading weights
LARGE = Tile(256, 128, 64, 8, 3), Tile(128, 128, 64, 8, 3), Tile(128, 64, 64, 4, 4), Tile(64, 64, 128, 4, 4)


def tile_for(x, rows, most, invariant):
    """A tile of at most ``most`` of the weights' ``rows``; ``invariant``: whatever the number of tokens."""
    gpu, tokens = gpu_of(x), x.shape[0]
    if x.element_size() == 4:
        return Tile(min(64, most), 32, 32, 8, 2)
    if invariant:
        return Tile(min(64, most), 64, 64, 4, 4)
    if tokens <= 64:
        # As tall as it may be with a program for each multiprocessor, or for each second one where x counts: each reads
        # all of x. 40 KiB of weights or more are on their way to one: what arrives while one waits for memory.
        programs = gpu.num_sms if tokens <= FEW else gpu.num_sms // 2
        height = min(next((height for height in (64, 32) if rows >= height * programs), 16), most)
        width = max(triton.next_power_of_2(tokens), FEW)
        depth = 256 if width * height <= 512 else 128
        return Tile(height, width, depth, height // 16, 6 if height * depth <= 4096 else 4, swapped=True)
    for tile in LARGE:
        tiles = triton.cdiv(tokens, tile.tokens) * triton.cdiv(rows, tile.rows)
        if tile.rows <= most and (tile.rows < 256 or gpu.arch == 90) and tiles >= gpu.num_sms:
            return tile
    return replace(tile, rows=min(tile.rows, most))


def descriptor(tensor, block):
    """Of ``tensor`` for TMA, which wants rows that are multiples of 16 bytes; the tensor itself where it cannot be."""
    fits = tensor.shape[-1] * tensor.element_size() % 16 == 0 and tensor.data_ptr() % 16 == 0 and tensor.numel() > 0
    return TensorDescriptor.from_tensor(tensor, block) if fits and gpu_of(tensor).arch >= 90 else tensor


def launch_dense(kernel, x, weight, parts, inner, norm, *rest, eps=0.0, invariant=False, **constants):
    """Launch ``kernel`` on all tiles of ``weight`` seen as ``[outer, parts, inner, K]``."""
    (tokens, depth), rows = x.shape, weight.shape[0]
    outer = rows // (parts * inner) if inner else 0
    tile = tile_for(x, rows, parts * triton.next_power_of_2(max(inner, 16)), invariant)
    columns = tile.rows // parts
    grid = (triton.cdiv(tokens, tile.tokens) * outer * triton.cdiv(inner, columns),)
    # Few tokens: a warp copies what it needs by itself. Without tensor cores nothing reads what TMA writes well.
    if tile.tokens > FEW and norm is None and x.element_size() == 2 and 0 not in (*x.shape, *weight.shape):
        x = descriptor(x, [tile.tokens, tile.depth])
        weight = descriptor(weight.view(outer * parts, inner, depth), [parts, columns, tile.depth])
    launch(kernel, grid, x, weight, norm, *rest, tokens, depth, eps, PARTS=parts, INNER=inner, BLOCK_T=tile.tokens,
           BLOCK_N=columns, BLOCK_K=tile.depth, SWAPPED=tile.swapped,
           num_warps=tile.warps, num_stages=tile.stages, **constants)  # fmt: skip


def dense(x, weight, out, norm=None, bias=None, residual=None, eps=0.0, invariant=False):
    """``out = norm(x) @ weight.T + bias + residual``; behind SwiGLU where there are two rows of weights to a column."""
    inner = out.shape[1]
    parts = weight.shape[0] // inner if inner else 1
    launch_dense(dense_kernel, x, weight, parts, inner, norm, bias, residual, out, eps=eps, invariant=invariant)
    return out
