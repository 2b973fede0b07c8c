"""spec_verify: a scan, where a program owns a chunk of one row of the target; then a walk, where one owns a sequence.

The scan leaves of each chunk what a walk may ask for: the likeliest id, or the mass, and the entropy or the mass that
the row's first child leaves once it is rejected. For ``"rejection"`` it reads only rows that the walk can stop in: of a
chain that is one, told by single numbers. A walk that rejects a second child sums up what is left by itself.

Sums are of integers: neither the size of the chunks nor the order changes a bit.
"""

import torch
import triton
import triton.language as tl

from pangu_ops.ops.spec_verify import OP, outputs
from pangu_ops.registry import check
from pangu_ops.triton_kernels.launch import gpu_of, launch
from pangu_ops.triton_kernels.residual import (
    SCALE,
    first,
    integers,
    is_probability,
    pick,
    residual,
    take,
    take_all,
    total_of,
)
from pangu_ops.triton_kernels.sampling_probs import chunk_of

INFINITE = tl.constexpr(0x7F800000)
AT_ONCE = 4096  # elements of a row that a walk sums at once


@triton.jit
def is_uniform(u):
    return (u >= 0) & (u < 1)


@triton.jit
def drafts_of(draft_ids, parents, b, lanes, N, tree_stride, METHOD: tl.constexpr):
    """The drafts of a sequence, their parents, and whether those are what they must be."""
    ids = tl.load(draft_ids + b * N + lanes, mask=lanes < N, other=-1).to(tl.int64)
    above = tl.load(parents + b * tree_stride + lanes, mask=lanes < N, other=-2)
    if METHOD == "block":
        right = above == lanes - 1
    else:
        right = (above >= -1) & (above < lanes)
    wrong = tl.where(lanes < N, tl.where(right, 0, 1), 0)
    return ids, tl.where(right, above, -2), tl.max(wrong) == 0


@triton.jit
def numbers_of(target, draft_probs, uniforms, ids, above, b, lanes, N, V):
    """Of each draft the parent, -2 unless it is a token; what the target and the draft gave it; its uniform number."""
    above = tl.where((ids >= 0) & (ids < V), above, -2)
    tokens = above > -2
    p = tl.load(target + (b * (N + 1) + above + 1) * V + ids, mask=tokens, other=0.0).to(tl.float64)
    if draft_probs is None:
        q = tl.where(tokens, 1.0, 0.0).to(tl.float64)
    else:
        q = tl.load(draft_probs + (b * N + lanes) * V + ids, mask=tokens, other=0.0).to(tl.float64)
    u = tl.load(uniforms + b * (N + 1) + lanes, mask=lanes < N, other=0.0).to(tl.float64)
    return above, p, q, u


@triton.jit
def prefixes(p, q, lanes, length):
    """For each prefix of a chain, at its last node: the share of its probability under the drafts that p has too."""
    keep, kept = tl.full((), 1.0, tl.float64), (lanes * 0).to(tl.float64)
    for node in range(length):
        share, drawn = keep * pick(p, node, lanes), pick(q, node, lanes)
        ratio = tl.minimum(share / tl.where(drawn > 0, drawn, 1.0), 1.0)
        keep = tl.where(drawn > 0, ratio, tl.where(share > 0, 1.0, 0.0))
        kept = tl.where(lanes == node, keep, kept)
    return kept


@triton.jit
def block_of(above, p, q, u, lanes, N):
    """The length of a chain, what its prefixes keep, and whether all of it is accepted."""
    length = first(lanes, above != lanes - 1, N)
    kept = prefixes(p, q, lanes, length)
    whole = (length == 0) | (pick(u, length - 1, lanes) < pick(kept, length - 1, lanes))
    return length, kept, whole


@triton.jit
def first_stop(above, p, q, u, lanes, N):
    """The row where a walk first rejects a child or ends, that child or N, and how many others there are to try."""
    accepted = tl.where(u * q < p, 1, 0)
    row, node = 0, first(lanes, above == -1, N)
    while pick(accepted, node, lanes) == 1:  # past the last node there is no probability
        row, node = node + 1, first(lanes, above == node, N)
    return row, node, tl.sum(tl.where((above == row - 1) & (lanes > node), 1, 0))


@triton.jit
def part_of(parts, b, row, kind, N, chunks):
    return parts + ((b * (N + 1) + row) * 2 + kind) * chunks


@triton.jit(do_not_specialize=["N"])
def likeliest_kernel(draft_ids, target, parts, N, V, chunks, BLOCK: tl.constexpr):
    """The likeliest id of each chunk: its logit in the high half, ordered as an integer, the id's complement below."""
    b, row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    draft = tl.load(draft_ids + b * N + row - 1, mask=row > 0, other=0)
    if (draft >= 0) & (draft < V):  # else the row is never reached
        ids = chunk * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(target + (b * (N + 1) + row) * V + ids, mask=ids < V, other=float("-inf")).to(tl.float32)
        bits = tl.where(x == 0, 0.0, x).to(tl.int32, bitcast=True)
        key = tl.where(x != x, INFINITE, bits ^ ((bits >> 31) & 0x7FFFFFFF))
        best = tl.max((key.to(tl.int64) << 32) + (0x7FFFFFFF - ids))
        tl.store(part_of(parts, b, row, 0, N, chunks) + chunk, best)


@triton.jit(do_not_specialize=["N"])
def scan_kernel(
    draft_ids,
    parents,
    target,
    draft_probs,
    uniforms,
    parts,
    N,
    V,
    chunks,
    tree_stride,
    METHOD: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b, chunk, lanes = tl.program_id(0).to(tl.int64), tl.program_id(2), tl.arange(0, LANES)
    ids, above, _ = drafts_of(draft_ids, parents, b, lanes, N, tree_stride, METHOD)
    above, p, q, u = numbers_of(target, draft_probs, uniforms, ids, above, b, lanes, N, V)
    if METHOD == "rejection":
        stop, rejected, others = first_stop(above, p, q, u, lanes, N)
    elif METHOD == "block":
        length, kept, whole = block_of(above, p, q, u, lanes, N)
    tokens = chunk * BLOCK + tl.arange(0, BLOCK)
    for row in range(tl.program_id(1), N + 1, tl.num_programs(1)):
        weight = tl.full((), 1.0, tl.float64)
        if METHOD == "rejection":
            wanted = (row == stop) | ((others > 0) & (row > rejected + 1))
        elif METHOD == "block":
            wanted = tl.where(whole, row == length, row < length)
            weight = tl.where(row > 0, pick(kept, row - 1, lanes), weight)
        else:
            wanted = (row == 0) | (pick(above, row - 1, lanes) > -2)
        if wanted:
            child = first(lanes, above == row - 1, N)
            mine = tl.load(target + (b * (N + 1) + row) * V + tokens, mask=tokens < V, other=0.0).to(tl.float64)
            tl.store(part_of(parts, b, row, 0, N, chunks) + chunk, total_of(mine, is_probability(mine)))
            if child < N:
                if METHOD == "typical":
                    entropy = tl.where(mine > 0, -mine * tl.log(tl.where(mine > 0, mine, 1.0)), 0.0)
                    total = tl.sum(integers(entropy))
                else:
                    draft = pick(ids, child, lanes)
                    left, valid = take(weight * mine, draft_probs, b * N + child, draft, 1.0, tokens, V)
                    total = total_of(left, is_probability(mine) & valid)
                tl.store(part_of(parts, b, row, 1, N, chunks) + chunk, total)


@triton.jit
def sum_up(
    target, draft_probs, parts, b, row, taken, ids, lanes, N, V, chunks, BLOCK: tl.constexpr, PANEL: tl.constexpr
):
    """What is left of the chunks of a row, in the place of what its first child left."""
    for start in range(0, chunks, PANEL):
        at = start + tl.arange(0, PANEL)
        tokens = at[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
        left, valid = residual(target, draft_probs, b, row, 1.0, taken, ids, tokens, lanes, N, V)
        totals = tl.where(tl.min(tl.where(valid, 1, 0), 1) == 1, tl.sum(integers(left), 1), -1)
        tl.store(part_of(parts, b, row, 1, N, chunks) + at, totals, mask=at < chunks)
    tl.debug_barrier()  # what a thread reads next another one has written


@triton.jit
def likeliest(target, parts, b, row, N, chunks, CHUNKS: tl.constexpr):
    """The likeliest id of a row, and whether it has one."""
    if parts is None:
        best = tl.load(target + b * (N + 1) + row).to(tl.int64)
        valid = best >= 0
    else:
        slots = tl.arange(0, CHUNKS)
        keys = tl.load(part_of(parts, b, row, 0, N, chunks) + slots, mask=slots < chunks, other=-(2**63))
        key = tl.max(keys)
        best = 0x7FFFFFFF - (key & 0xFFFFFFFF)
        valid = (key >> 32 >= -INFINITE) & (key >> 32 < INFINITE)
    return best, valid


@triton.jit
def greedy(ids, above, right, target, parts, b, lanes, N, chunks, CHUNKS: tl.constexpr):
    """How many nodes are accepted, which, the last token, and whether all that was looked at is right."""
    count, accepted = 0, lanes * 0 - 1
    best, valid = likeliest(target, parts, b, 0, N, chunks, CHUNKS)
    right, node = right & valid, first(lanes, (above == -1) & (ids == best), N)
    while right & (node < N):
        accepted = tl.where(lanes == count, node, accepted)
        best, right = likeliest(target, parts, b, node + 1, N, chunks, CHUNKS)
        count, node = count + 1, first(lanes, (above == node) & (ids == best), N)
    return count, accepted, best, right


@triton.jit
def sums_of(parts, b, row, kind, N, chunks, CHUNKS: tl.constexpr):
    """What the chunks of a row sum up to, and whether they are right."""
    slots = tl.arange(0, CHUNKS)
    sums = tl.load(part_of(parts, b, row, kind, N, chunks) + slots, mask=slots < chunks, other=0)
    return sums, tl.min(sums) >= 0


@triton.jit
def rejection(
    target,
    draft_probs,
    parts,
    ids,
    above,
    p,
    q,
    u,
    right,
    b,
    lanes,
    N,
    V,
    chunks,
    CHUNKS: tl.constexpr,
    BLOCK: tl.constexpr,
    PANEL: tl.constexpr,
):
    """How many nodes are accepted, which, the row where the walk ends, what nodes took of it, and if all is right."""
    nothing, one = (lanes * 0).to(tl.float64), tl.full((), 1.0, tl.float64)
    row, count, accepted, taken, mass = 0, 0, lanes * 0 - 1, nothing, one
    node = first(lanes, above == -1, N)
    while right & (node < N):
        left, drawn, uniform = pick(p, node, lanes), pick(q, node, lanes), pick(u, node, lanes)
        right = is_probability(left) & is_probability(drawn) & is_uniform(uniform)
        left, _ = take_all(left, draft_probs, b, taken, ids, pick(ids, node, lanes), lanes, N, V)
        if uniform * drawn * mass < left:
            accepted = tl.where(lanes == count, node, accepted)
            row, count, taken, mass = node + 1, count + 1, nothing, one
        else:
            taken = tl.where(lanes == node, mass, taken)
            if node > first(lanes, above == row - 1, N):
                sum_up(target, draft_probs, parts, b, row, taken, ids, lanes, N, V, chunks, BLOCK, PANEL)
            sums, valid = sums_of(parts, b, row, 1, N, chunks, CHUNKS)
            right, mass = right & valid, tl.sum(sums).to(tl.float64) / SCALE
            if mass == 0:  # nothing is left: all of the row is again
                taken, mass = nothing, one
        node = first(lanes, (above == row - 1) & (lanes > node), N)
    return count, accepted, row, taken, right


@triton.jit
def block(parts, above, p, q, u, right, b, lanes, N, chunks, CHUNKS: tl.constexpr):
    """How many nodes of a chain are accepted, what the drafts took of the row after them, its weight, if all is right.

    Prefixes are judged from the longest on.
    """
    length, kept, whole = block_of(above, p, q, u, lanes, N)
    used = tl.where(is_probability(p) & is_probability(q), 0, 1) + tl.where(is_uniform(u) | (lanes < length - 1), 0, 1)
    right = right & (tl.sum(tl.where(lanes < length, used, 0)) == 0)
    nothing, one = (lanes * 0).to(tl.float64), tl.full((), 1.0, tl.float64)
    count, left, weight, going = length, one, one, tl.where(whole, 0, 1)
    while right & (going == 1):
        count -= 1
        sums, valid = sums_of(parts, b, count, 1, N, chunks, CHUNKS)
        right, left = right & valid, tl.sum(sums).to(tl.float64) / SCALE
        weight = one
        going = 0
        if count > 0:
            weight, uniform = pick(kept, count - 1, lanes), pick(u, count - 1, lanes)
            right = right & is_uniform(uniform)
            going = tl.where(uniform * (left + (1.0 - weight)) < left, 0, 1)
    # Where nothing is left, all of the row is again; that ends no search but at the first row, which weighs 1.
    taken = tl.where(lanes == count, tl.where(whole | (left == 0), 0.0, 1.0), nothing)
    return count, taken, weight, right


@triton.jit
def typical(
    parts,
    above,
    p,
    right,
    b,
    lanes,
    N,
    chunks,
    THRESHOLD: tl.constexpr,
    ALPHA: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """How many nodes are accepted, which, the row where the walk ends, and whether all is right."""
    row, count, accepted, node = 0, 0, lanes * 0 - 1, first(lanes, above == -1, N)
    while right & (node < N):
        _, right = sums_of(parts, b, row, 0, N, chunks, CHUNKS)
        entropies, _ = sums_of(parts, b, row, 1, N, chunks, CHUNKS)
        share = tl.exp(-(tl.sum(entropies).to(tl.float64) / SCALE)) * tl.full((), ALPHA, tl.float64)
        least = tl.minimum(share, tl.full((), THRESHOLD, tl.float64))
        node = first(lanes, (above == row - 1) & (p > least), N)
        if node < N:
            accepted = tl.where(lanes == count, node, accepted)
            row, count, node = node + 1, count + 1, first(lanes, above == node, N)
    return count, accepted, row, right


@triton.jit
def draw(
    target,
    draft_probs,
    parts,
    ids,
    uniform,
    row,
    weight,
    taken,
    right,
    b,
    lanes,
    N,
    V,
    chunks,
    CHUNKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A token out of what is left of a row, and whether all is right."""
    kind = tl.where(tl.max(taken) > 0, 1, 0)
    sums, valid = sums_of(parts, b, row, kind, N, chunks, CHUNKS)
    total, last = tl.sum(sums), tl.full((), -1, tl.int64)
    right = right & valid & is_uniform(uniform) & (total > 0)
    if right:
        at = tl.minimum((uniform * total.to(tl.float64)).to(tl.int64), total - 1)
        before = tl.cumsum(sums, 0) <= at
        first = tl.sum(tl.where(before, 1, 0)) * BLOCK
        tokens = first + tl.arange(0, BLOCK)
        left, _ = residual(target, draft_probs, b, row, weight, taken, ids, tokens, lanes, N, V)
        before_it = tl.cumsum(integers(left), 0) <= at - tl.sum(tl.where(before, sums, 0))
        last = (first + tl.sum(tl.where(before_it, 1, 0))).to(tl.int64)
    return last, right


@triton.jit(do_not_specialize=["N"])
def walk_kernel(
    draft_ids,
    parents,
    target,
    draft_probs,
    uniforms,
    parts,
    token_ids,
    num_accepted,
    accepted_nodes,
    N,
    V,
    chunks,
    tree_stride,
    METHOD: tl.constexpr,
    THRESHOLD: tl.constexpr,  # a number that is passed would come as float32
    ALPHA: tl.constexpr,
    LANES: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK: tl.constexpr,
    PANEL: tl.constexpr,
):
    b, lanes = tl.program_id(0).to(tl.int64), tl.arange(0, LANES)
    ids, above, right = drafts_of(draft_ids, parents, b, lanes, N, tree_stride, METHOD)
    if METHOD == "greedy":
        count, accepted, last, right = greedy(ids, above, right, target, parts, b, lanes, N, chunks, CHUNKS)
    else:
        above, p, q, u = numbers_of(target, draft_probs, uniforms, ids, above, b, lanes, N, V)
        taken, weight = (lanes * 0).to(tl.float64), tl.full((), 1.0, tl.float64)
        if METHOD == "rejection":
            count, accepted, row, taken, right = rejection(
                target, draft_probs, parts, ids, above, p, q, u, right, b, lanes, N, V, chunks, CHUNKS, BLOCK, PANEL
            )
        elif METHOD == "block":
            count, taken, weight, right = block(parts, above, p, q, u, right, b, lanes, N, chunks, CHUNKS)
            accepted, row = lanes, count
        else:
            count, accepted, row, right = typical(parts, above, p, right, b, lanes, N, chunks, THRESHOLD, ALPHA, CHUNKS)
        uniform = tl.load(uniforms + b * (N + 1) + N).to(tl.float64)
        last, right = draw(
            target, draft_probs, parts, ids, uniform, row, weight, taken, right, b, lanes, N, V, chunks, CHUNKS, BLOCK
        )
    count = tl.where(right, count, -1)
    tl.store(num_accepted + b, count)
    tl.store(accepted_nodes + b * N + lanes, tl.where(lanes < count, accepted, -1), mask=lanes < N)
    tokens = tl.load(draft_ids + b * N + accepted, mask=lanes < count, other=-1).to(tl.int64)
    tokens = tl.where(lanes == count, last, tokens)
    tl.store(token_ids + b * (N + 1) + lanes, tokens.to(token_ids.dtype.element_ty), mask=lanes <= N)


def spec_verify(
    draft_ids,
    parents,
    target,
    draft_probs=None,
    uniforms=None,
    method="rejection",
    typical_threshold=0.09,
    typical_alpha=0.3,
):
    rule = "target must be float32" + (", bfloat16 or float16" if method == "greedy" else "")
    check(target.dtype != torch.float64, OP, rule, target.dtype)
    results = outputs(draft_ids, parents, target, draft_probs, uniforms, method, typical_threshold, typical_alpha)
    (batch, nodes), by_id = draft_ids.shape, target.dim() == 2
    draft_ids, parents, target = (tensor.contiguous() for tensor in (draft_ids, parents, target))
    asked = method in ("rejection", "block") and draft_probs is not None
    draft_probs = draft_probs.contiguous() if asked else None
    uniforms = None if method == "greedy" else uniforms.contiguous()
    columns = 1 if by_id else target.shape[2]
    block, warps = chunk_of(batch, columns, gpu_of(target))
    chunks = triton.cdiv(columns, block)
    parts = None if by_id else target.new_empty(batch, nodes + 1, 2, chunks, dtype=torch.int64)

    args = draft_ids, parents, target, draft_probs, uniforms, parts
    sizes = nodes, columns, chunks
    tree = dict(tree_stride=nodes if parents.dim() == 2 else 0, METHOD=method, LANES=triton.next_power_of_2(nodes + 1))
    # A chain is scanned in one row; other rows are parted between programs where these would be too few.
    together = method == "rejection" or batch * chunks >= 2 * gpu_of(target).num_sms
    grid = (batch, 1 if together else nodes + 1, chunks)
    # Nothing may be fused: each product is rounded before it is subtracted, as everywhere else.
    if method != "greedy":
        launch(scan_kernel, grid, *args, *sizes, **tree, BLOCK=block, num_warps=warps, fp_fusion=False)
    elif not by_id:
        grid = (batch, nodes + 1, chunks)
        launch(likeliest_kernel, grid, draft_ids, target, parts, *sizes, BLOCK=block, num_warps=warps)
    launch(
        walk_kernel,
        (batch,),
        *args,
        *results,
        *sizes,
        **tree,
        THRESHOLD=typical_threshold if method == "typical" else 0.0,
        ALPHA=typical_alpha if method == "typical" else 0.0,
        CHUNKS=triton.next_power_of_2(chunks),
        BLOCK=block,
        PANEL=min(triton.next_power_of_2(chunks), max(AT_ONCE // block, 1)),
        num_warps=4 if method == "greedy" else 16,
        fp_fusion=False,
    )
    return results
