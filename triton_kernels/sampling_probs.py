"""sampling_probs: five launches, in which programs own a chunk of a row each, and for the cut itself a row.

Nothing is sorted. A histogram of each row, by distance from its largest logit, tells the bin that a cut falls into; the
few ids that may lie there are listed and searched. Counts and masses are integers, so that neither the order in which
atomics arrive nor the size of the chunks changes a bit.
"""

import torch
import triton
import triton.language as tl

from pangu_ops.ops.sampling_probs import outputs
from pangu_ops.triton_kernels.launch import gpu_of, launch

BINS = 1024
RANGE = tl.constexpr(64.0)  # logits further down than this share the last bin, and are not told apart by atomics
UNIT = tl.constexpr(2.0**44)  # what a mass of 1 counts; 2^18 of them and more fit into 63 bits
TINY = tl.constexpr(1e-30)  # any lower temperature is this one: only the largest logit has a mass at either


@triton.jit
def settings_of(temperature, top_k, top_p, row, V):
    """A row's settings, 0 for a ``top_k`` that keeps all, and whether they are in range."""
    t, k, p = tl.load(temperature + row), tl.load(top_k + row), tl.load(top_p + row)
    in_range = (t >= 0) & (t < float("inf")) & (k >= 0) & (p > 0) & (p <= 1)
    k = tl.where(t == 0, 1, tl.where(k < V, k, 0))
    p = tl.where(t == 0, 1.0, p)
    return tl.maximum(t, TINY), k, p, in_range


@triton.jit
def extremes(highs, lows, row, chunks, CHUNKS: tl.constexpr):
    """A row's largest and smallest finite logit; the first is infinite where it has none or a NaN."""
    at = tl.arange(0, CHUNKS)
    top = tl.max(tl.load(highs + row * chunks + at, mask=at < chunks, other=float("-inf")))
    bottom = tl.min(tl.load(lows + row * chunks + at, mask=at < chunks, other=float("inf")))
    return top, bottom, (top > float("-inf")) & (top < float("inf"))


@triton.jit
def mass_of(x, top, t):
    return tl.exp(tl.div_rn(x - top, t))


@triton.jit
def bin_of(x, top, bottom, BINS: tl.constexpr):
    """Each step rises or falls with x: bins rank as logits do."""
    per_logit = BINS / tl.maximum(tl.minimum(top - bottom, RANGE), 1e-30)
    return tl.minimum((top - x) * per_logit, BINS - 1).to(tl.int32)


@triton.jit
def rank_of(x, ids, ID_BITS: tl.constexpr):
    """A number for each id, the larger the earlier it ranks: by its logit, 0 and -0 being equal, then by the id."""
    bits = tl.where(x == 0, 0.0, x).to(tl.int32, bitcast=True)
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (key.to(tl.int64) << ID_BITS) + ((1 << ID_BITS) - 1 - ids)


@triton.jit
def share_of(total, p):
    """The least whole number that holds p of the total."""
    share = total.to(tl.float64) * p.to(tl.float64)
    whole = share.to(tl.int64)
    return whole + (whole.to(tl.float64) < share).to(tl.int64)


@triton.jit
def bin_of_the_cut(histogram, row, k, p, BINS: tl.constexpr):
    """The bin where the cut falls, what the bins before it weigh, what is to be reached, and what all weigh."""
    weights = tl.load(histogram + row * BINS + tl.arange(0, BINS))
    total = tl.sum(weights)
    goal = tl.where(k > 0, k.to(tl.int64), share_of(total, p))
    short = tl.cumsum(weights, 0) < goal
    return tl.sum(short.to(tl.int32)), tl.sum(tl.where(short, weights, 0)), goal, total


@triton.jit
def extremes_kernel(logits, highs, lows, histogram, found, V, BINS: tl.constexpr, BLOCK: tl.constexpr):
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    ids = chunk * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits + row * V + ids, mask=ids < V, other=float("-inf")).to(tl.float32)
    at = row * tl.num_programs(1) + chunk
    tl.store(highs + at, tl.max(tl.where(x != x, float("inf"), x)))
    tl.store(lows + at, tl.min(tl.where(x > float("-inf"), x, float("inf"))))
    if chunk == 0:
        tl.store(histogram + row * BINS + tl.arange(0, BINS), tl.zeros((BINS,), tl.int64))
        tl.store(found + row, 0)


@triton.jit
def histogram_kernel(
    logits,
    temperature,
    top_k,
    top_p,
    highs,
    lows,
    histogram,
    V,
    chunks,
    CHUNKS: tl.constexpr,
    BINS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Count the ids of each bin that have a mass where ``top_k`` cuts, and weigh them elsewhere."""
    row = tl.program_id(0).to(tl.int64)
    t, k, p, in_range = settings_of(temperature, top_k, top_p, row, V)
    top, bottom, finite = extremes(highs, lows, row, chunks, CHUNKS)
    if in_range & finite:
        ids = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(logits + row * V + ids, mask=ids < V, other=float("-inf")).to(tl.float32)
        mass = mass_of(x, top, t)
        weights = tl.where(k > 0, (mass > 0).to(tl.int64), (mass * UNIT).to(tl.int64))
        bins = tl.where(weights > 0, bin_of(x, top, bottom, BINS), BINS - 1)
        # What is far below the top can be most of the row; and without a cut only the total is asked for.
        alone = bins < tl.where((k > 0) | (p < 1), BINS - 1, 0)
        tl.atomic_add(histogram + row * BINS + bins, weights, mask=alone, sem="relaxed")
        tl.atomic_add(histogram + row * BINS + BINS - 1, tl.sum(tl.where(alone, 0, weights)), sem="relaxed")


@triton.jit
def candidates_kernel(
    logits,
    temperature,
    top_k,
    top_p,
    highs,
    lows,
    histogram,
    found,
    candidates,
    V,
    chunks,
    CHUNKS: tl.constexpr,
    BINS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """List the ids of the bin where the cut falls, in any order; with ``top_k`` those of the bins before it as well."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    t, k, p, in_range = settings_of(temperature, top_k, top_p, row, V)
    top, bottom, finite = extremes(highs, lows, row, chunks, CHUNKS)
    if in_range & finite & ((k > 0) | (p < 1)):
        last, before, goal, total = bin_of_the_cut(histogram, row, k, p, BINS)
        if bin_of(tl.load(highs + row * chunks + chunk), top, bottom, BINS) <= last:
            ids = chunk * BLOCK + tl.arange(0, BLOCK)
            x = tl.load(logits + row * V + ids, mask=ids < V, other=float("-inf")).to(tl.float32)
            bins = bin_of(x, top, bottom, BINS)
            wanted = (mass_of(x, top, t) > 0) & (bins <= last) & (bins >= tl.where(k > 0, 0, last))
            places = tl.cumsum(wanted.to(tl.int32), 0)
            first = tl.atomic_add(found + row, tl.max(places), sem="relaxed")
            tl.store(candidates + row * V + first + places - 1, ids, mask=wanted)


@triton.jit
def weigh(logits, candidates, start, count, top, t, counting, ID_BITS: tl.constexpr, BLOCK: tl.constexpr):
    """The ranks of some candidates, and what each weighs: its mass, or 1 if they are to be counted."""
    at = start + tl.arange(0, BLOCK)
    ids = tl.load(candidates + at, mask=at < count, other=0)
    x = tl.load(logits + ids, mask=at < count, other=float("-inf")).to(tl.float32)
    weights = tl.where(counting, 1, (mass_of(x, top, t) * UNIT).to(tl.int64))
    return rank_of(x, ids, ID_BITS), tl.where(at < count, weights, 0)


@triton.jit
def search(logits, candidates, count, top, t, goal, counting, ID_BITS: tl.constexpr, BLOCK: tl.constexpr):
    """The largest rank at which the candidates from the top on weigh ``goal``; less than any where they never do."""
    WAY_BITS: tl.constexpr = 3  # of the rank, found at once
    STEPS: tl.constexpr = (32 + ID_BITS + WAY_BITS - 1) // WAY_BITS
    cut = tl.full((), -(1 << (31 + ID_BITS)), tl.int64)
    for step in range(STEPS):
        shift = (STEPS - 1 - step) * WAY_BITS
        bounds = cut + (tl.arange(0, 1 << WAY_BITS).to(tl.int64) << shift)
        reached = tl.zeros((1 << WAY_BITS,), tl.int64)
        for start in range(0, count, BLOCK):
            ranks, weights = weigh(logits, candidates, start, count, top, t, counting, ID_BITS, BLOCK)
            reached += tl.sum(tl.where(ranks[:, None] >= bounds[None, :], weights[:, None], 0), 0)
        cut += tl.maximum(tl.sum((reached >= goal).to(tl.int64)) - 1, 0) << shift
    return cut


@triton.jit
def mass_up_to(cut, logits, candidates, count, top, t, ID_BITS: tl.constexpr, BLOCK: tl.constexpr):
    mass = tl.zeros((BLOCK,), tl.int64)
    for start in range(0, count, BLOCK):
        ranks, weights = weigh(logits, candidates, start, count, top, t, False, ID_BITS, BLOCK)
        mass += tl.where(ranks >= cut, weights, 0)
    return tl.sum(mass)


@triton.jit
def cut_kernel(
    logits,
    temperature,
    top_k,
    top_p,
    highs,
    lows,
    histogram,
    found,
    candidates,
    cuts,
    tops,
    scales,
    V,
    chunks,
    CHUNKS: tl.constexpr,
    BINS: tl.constexpr,
    ID_BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Find the rank down to which a row's ids are kept, and 1 over their mass."""
    row = tl.program_id(0).to(tl.int64)
    t, k, p, in_range = settings_of(temperature, top_k, top_p, row, V)
    top, bottom, finite = extremes(highs, lows, row, chunks, CHUNKS)
    cut, scale = tl.full((), -(1 << (31 + ID_BITS)), tl.int64), float("nan")
    if in_range & finite:
        last, before, goal, total = bin_of_the_cut(histogram, row, k, p, BINS)
        if (k > 0) | (p < 1):
            logits, candidates, count = logits + row * V, candidates + row * V, tl.load(found + row)
            before = tl.where(k > 0, 0, before)  # all down to the cut are candidates
            cut = search(logits, candidates, count, top, t, goal - before, k > 0, ID_BITS, BLOCK)
            total = before + mass_up_to(cut, logits, candidates, count, top, t, ID_BITS, BLOCK)
            if (k > 0) & (p < 1):
                cut = search(logits, candidates, count, top, t, share_of(total, p), False, ID_BITS, BLOCK)
                total = mass_up_to(cut, logits, candidates, count, top, t, ID_BITS, BLOCK)
        scale = (1.0 / (total.to(tl.float64) / UNIT)).to(tl.float32)
    tl.store(cuts + row, cut)
    tl.store(tops + row, top)
    tl.store(scales + row, scale)


@triton.jit
def sampling_probs_kernel(
    logits, temperature, highs, cuts, tops, scales, probs, V, ID_BITS: tl.constexpr, BLOCK: tl.constexpr
):
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    ids = chunk * BLOCK + tl.arange(0, BLOCK)
    cut, scale = tl.load(cuts + row), tl.load(scales + row)
    values = tl.zeros((BLOCK,), tl.float32) * scale  # NaN where the row has no distribution
    best = rank_of(tl.load(highs + row * tl.num_programs(1) + chunk), chunk * BLOCK, ID_BITS)
    if (best >= cut) & (scale == scale):
        x = tl.load(logits + row * V + ids, mask=ids < V, other=float("-inf")).to(tl.float32)
        mass = mass_of(x, tl.load(tops + row), tl.maximum(tl.load(temperature + row), TINY))
        values = tl.where(rank_of(x, ids, ID_BITS) >= cut, mass * scale, 0.0)
    tl.store(probs + row * V + ids, values, mask=ids < V)


def chunk_of(rows, columns, gpu):
    """How many columns a program takes: as many as leave each multiprocessor two programs."""
    chunk = min(triton.next_power_of_2(columns), 1024)
    while chunk < min(columns, 4096) and rows * triton.cdiv(columns, 2 * chunk) >= 2 * gpu.num_sms:
        chunk *= 2
    return chunk, max(chunk // 256, 1)


def sampling_probs(logits, temperature, top_k, top_p):
    probs = outputs(logits, temperature, top_k, top_p)
    rows, columns = probs.shape
    block, warps = chunk_of(rows, columns, gpu_of(logits))
    chunks = triton.cdiv(columns, block)
    logits = logits.contiguous()
    settings = temperature.contiguous(), top_k.contiguous(), top_p.contiguous()
    highs, lows = probs.new_empty(2, rows, chunks)
    tops, scales = probs.new_empty(2, rows)
    histogram = probs.new_empty(rows, BINS, dtype=torch.int64)
    found, cuts = top_k.new_empty(rows), probs.new_empty(rows, dtype=torch.int64)
    candidates = probs.view(torch.int32)  # until the probabilities are written

    grid = (rows, chunks)
    per_chunk = dict(BLOCK=block, num_warps=warps)
    known = dict(CHUNKS=triton.next_power_of_2(chunks), BINS=BINS)
    id_bits = (columns - 1).bit_length()
    stats = highs, lows, histogram
    launch(extremes_kernel, grid, logits, *stats, found, columns, BINS=BINS, **per_chunk)
    launch(histogram_kernel, grid, logits, *settings, *stats, columns, chunks, **known, **per_chunk)
    launch(candidates_kernel, grid, logits, *settings, *stats, found, candidates, columns, chunks, **known, **per_chunk)
    args = logits, *settings, *stats, found, candidates, cuts, tops, scales, columns, chunks
    launch(cut_kernel, (rows,), *args, **known, ID_BITS=id_bits, BLOCK=min(block, 512), num_warps=16)
    args = logits, settings[0], highs, cuts, tops, scales, probs, columns
    launch(sampling_probs_kernel, grid, *args, ID_BITS=id_bits, **per_chunk)
    return probs
