"""Products of ranges of rows with the matrix of each range's expert.

Programs stay and walk over tiles, which are numbered expert by expert: a tile has BLOCK_M rows of one expert and
BLOCK_N columns and sums over all of K in order, so that a row's bits do not depend on which tile it is in. Experts
without rows have no tiles, and the number of programs follows from sizes alone.
"""

import math
from dataclasses import dataclass

import triton
import triton.language as tl

from pangu_ops import backends
from pangu_ops.triton_kernels.dense import descriptor
from pangu_ops.triton_kernels.launch import gpu_of, launch
from pangu_ops.triton_kernels.silu_mul import swiglu

GROUP = tl.constexpr(16)  # row blocks that share what is read of the weights


@triton.jit
def range_of(offsets, expert, R, E):
    """The rows of an expert, or of a block of experts: together all of [0, R), whatever the offsets hold."""
    begin = tl.load(offsets + expert, mask=(expert > 0) & (expert < E), other=0)
    end = tl.load(offsets + expert + 1, mask=expert < E - 1, other=R)
    begin = tl.minimum(tl.maximum(begin, 0), R)
    return begin, tl.minimum(tl.maximum(end, begin), R)


@triton.jit(do_not_specialize=["R"])
def grouped_gemm_kernel(
    x, tokens, weights, out, offsets, R, E, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    EXPERTS: tl.constexpr, GATED: tl.constexpr, TRANSPOSED: tl.constexpr, SWAPPED: tl.constexpr,
):  # fmt: skip
    PARTS: tl.constexpr = 2 if GATED else 1
    ROWS: tl.constexpr = PARTS * BLOCK_N  # of the weights
    columns = tl.cdiv(N, BLOCK_N)
    experts = tl.arange(0, EXPERTS)
    begins, ends = range_of(offsets, experts, R, E)
    blocks = tl.where(experts < E, tl.cdiv(ends - begins, BLOCK_M), 0)
    until = tl.cumsum(blocks) * columns
    # What the offsets leave out at either end belongs to no expert, and is zero.
    first, last = tl.load(offsets), tl.load(offsets + E)
    ks, lines = tl.arange(0, BLOCK_K), tl.arange(0, ROWS)

    for number in range(tl.program_id(0), tl.sum(blocks) * columns, tl.num_programs(0)):
        expert = tl.sum((until <= number).to(tl.int32))
        tile = number - tl.sum(tl.where(experts < expert, blocks, 0)) * columns
        begin, end = range_of(offsets, expert, R, E)
        # Row blocks first, a group of them: programs side by side read the same weights.
        group = tile // (GROUP * columns) * GROUP
        tile -= group * columns
        height = tl.minimum(tl.cdiv(end - begin, BLOCK_M) - group, GROUP)
        rows = begin + (group + tile % height) * BLOCK_M + tl.arange(0, BLOCK_M)
        column = tile // height * BLOCK_N

        source = tl.where((rows < end) & (rows >= first) & (rows < last), rows, -1)
        if tokens is not None:
            source = tl.load(tokens + rows, mask=source >= 0, other=-1)
        a_at = x + tl.maximum(source, 0).to(tl.int64)[:, None] * K + ks[None, :]
        owned = (source >= 0)[:, None]
        if not isinstance(weights, tl.tensor_descriptor):
            line = column + lines % BLOCK_N
            if TRANSPOSED:
                w_at = weights + expert.to(tl.int64) * K * N + line[None, :]
            else:
                w_at = weights + ((expert.to(tl.int64) * PARTS + lines // BLOCK_N) * N + line)[:, None] * K
        if SWAPPED:
            sums = tl.zeros((ROWS, BLOCK_M), tl.float32)
        else:
            sums = tl.zeros((BLOCK_M, ROWS), tl.float32)
        stop = tl.where(tl.max(source) < 0, 0, K)  # where no row is anyone's, no weights need to be read
        for k in range(0, stop, BLOCK_K):
            a = tl.load(a_at + k, mask=owned & (k + ks < K)[None, :], other=0.0)
            if isinstance(weights, tl.tensor_descriptor):
                if TRANSPOSED:
                    w = weights.load([expert, k, column]).reshape(BLOCK_K, ROWS).trans()
                else:
                    w = weights.load([expert * PARTS, column, k]).reshape(ROWS, BLOCK_K)
            elif TRANSPOSED:
                inside = (k + ks < K)[:, None] & (line < N)[None, :]
                w = tl.load(w_at + (k + ks).to(tl.int64)[:, None] * N, mask=inside, other=0.0).trans()
            else:
                w = tl.load(w_at + (k + ks)[None, :], mask=(line < N)[:, None] & (k + ks < K)[None, :], other=0.0)
            if SWAPPED:
                sums = tl.dot(w, a.trans(), sums, input_precision="ieee")
            else:
                sums = tl.dot(a, w.trans(), sums, input_precision="ieee")
        if GATED:  # both are in the registers of one thread
            if SWAPPED:
                gate, up = sums.reshape(2, BLOCK_N, BLOCK_M).permute(1, 2, 0).split()
            else:
                gate, up = sums.reshape(BLOCK_M, 2, BLOCK_N).permute(0, 2, 1).split()
            sums = swiglu(gate, up)
        if SWAPPED:
            sums = sums.trans()
        line = column + tl.arange(0, BLOCK_N)
        at = out + rows.to(tl.int64)[:, None] * N + line[None, :]
        tl.store(at, sums.to(out.dtype.element_ty), mask=(rows < end)[:, None] & (line < N)[None, :])


@dataclass(frozen=True)
class Tile:
    rows: int  # of x
    lines: int  # of the weights
    depth: int
    warps: int
    stages: int
    programs: int  # that a multiprocessor holds at once
    swapped: bool = False  # the weights' lines are the product's rows, of which the instruction takes 64, and 8 columns


def tile_for(x, out, num_experts, parts):
    """Few rows an expert: time is that of reading weights. A tile has all of an expert's rows, nearly always, so that
    they are read once, and what the programs have asked for together, 100 KB or more on a multiprocessor, covers the
    latency of memory. Many rows: the largest tile whose sums fit in registers, as it reads least for its products.
    In float32, and in the mode that asks for it, nothing may depend on how many rows there are.
    """
    gpu, (num_rows, num_columns) = gpu_of(x), out.shape
    if x.element_size() == 4:  # no tensor cores: they would round
        return Tile(32, 64, 32, 4, 2, 2)
    if backends.is_batch_invariant():
        return Tile(64, 128, 64, 4, 4, 2, swapped=True)
    average = num_rows / num_experts
    # of a random choice few experts have more
    rows = min(max(triton.next_power_of_2(math.ceil(average + 3 * math.sqrt(average))), 16), 128)
    lines = 256 if rows == 128 and gpu.arch >= 90 and out.element_size() == 2 else 128
    blocks = num_rows // rows + min(num_experts, num_rows)
    while lines > 64 and blocks * triton.cdiv(num_columns * parts, lines) < gpu.num_sms:
        lines //= 2
    depth = 128 if lines == 64 and rows < 128 else 64
    programs = 1 if rows == 128 else 3 if rows == 16 and lines == 128 else 2
    shared = (224 if gpu.arch >= 90 else 160) * 1024
    stages = min(shared // programs // ((rows + lines) * depth * 2), 8)
    return Tile(rows, lines, depth, 8 if rows == 128 else 4, stages, programs, swapped=rows < 128)


def grouped_gemm(x, weights, out, offsets, tokens=None, gated=False, transposed=False):
    """``out[r] = x[r] @ weights[e].T`` for the rows r of every expert e; rows of none become 0.

    ``x [*, K]``, ``out [R, N]``, ``offsets [E+1]`` as for moge_experts. ``tokens [R]`` int32: the row of x that is
    meant, none where it is negative. ``weights [E, N, K]``; ``gated``: ``[E, 2*N, K]``, and what comes is SwiGLU of
    both halves; ``transposed``: ``[E, K, N]``.
    """
    (R, N), K, E, parts = out.shape, x.shape[1], weights.shape[0], 2 if gated else 1
    if 0 in (R, N):
        return out
    tile = tile_for(x, out, E, parts)
    columns = tile.lines // parts
    if x.element_size() == 2:
        block = [1, tile.depth, columns] if transposed else [parts, columns, tile.depth]
        weights = descriptor(weights if transposed else weights.view(E * parts, N, K), block)
    most = (R // tile.rows + min(E, R)) * triton.cdiv(N, columns)  # tiles, whatever the offsets are
    grid = (min(most, gpu_of(x).num_sms * tile.programs),)
    launch(grouped_gemm_kernel, grid, x, tokens, weights, out, offsets, R, E, N, K,
           BLOCK_M=tile.rows, BLOCK_N=columns, BLOCK_K=tile.depth, EXPERTS=triton.next_power_of_2(E),
           GATED=gated, TRANSPOSED=transposed, SWAPPED=tile.swapped,
           num_warps=tile.warps, num_stages=tile.stages)  # fmt: skip
    return out
