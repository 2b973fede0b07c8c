"""What rejected drafts leave of the target's distribution, in float64, and its sums, which are of integers.

Products must not be fused with what follows: whoever launches these says so. ``lanes`` are the nodes of a tree, one in
each; ``tokens`` are ids, in any shape.
"""

import triton
import triton.language as tl

SCALE = tl.constexpr(2.0**44)  # probabilities are summed as multiples of 1 / SCALE
ROUNDER = tl.constexpr(1.5 * 2.0**52)  # with it added, a float64 holds an integer in its low bits, ties to even
ROUNDER_BITS = tl.constexpr(0x4338000000000000)


@triton.jit
def pick(values, at, lanes):
    return tl.sum(tl.where(lanes == at, values, 0))


@triton.jit
def first(lanes, condition, N):
    """The first node for which the condition holds, N for none."""
    return tl.min(tl.where(condition, lanes, N))


@triton.jit
def integers(values):
    return (values * SCALE + ROUNDER).to(tl.int64, bitcast=True) - ROUNDER_BITS


@triton.jit
def is_probability(p):
    return (p >= 0) & (p < 2)


@triton.jit
def total_of(values, valid):
    """The sum of integers, negative where something they come from is not valid."""
    return tl.where(tl.min(tl.where(valid, 1, 0)) == 1, tl.sum(integers(values)), -1)


@triton.jit
def take(left, draft_probs, at, draft, mass, tokens, V):
    """What is left after a rejected draft, at row ``at`` of the probabilities, has taken its share of ``mass``."""
    if draft_probs is None:
        q = tl.where(tokens == draft, 1.0, 0.0).to(tl.float64)
    else:
        q = tl.load(draft_probs + at * V + tokens, mask=tokens < V, other=0.0).to(tl.float64)
    return tl.maximum(left - mass * q, 0.0), is_probability(q)


@triton.jit
def take_all(left, draft_probs, b, taken, ids, tokens, lanes, N, V):
    """What is left after all rejected nodes: ``taken`` is the mass before each of them, 0 for the other nodes."""
    node, valid = first(lanes, taken > 0, N), is_probability(left)
    while node < N:
        draft, mass = pick(ids, node, lanes), pick(taken, node, lanes)
        left, right = take(left, draft_probs, b * N + node, draft, mass, tokens, V)
        node, valid = first(lanes, (taken > 0) & (lanes > node), N), valid & right
    return left, valid


@triton.jit
def residual(target, draft_probs, b, row, weight, taken, ids, tokens, lanes, N, V):
    """What is left of ``weight`` times the target's row, and where the numbers that it comes from are right."""
    p = tl.load(target + (b * (N + 1) + row) * V + tokens, mask=tokens < V, other=0.0).to(tl.float64)
    left, valid = take_all(weight * p, draft_probs, b, taken, ids, tokens, lanes, N, V)
    return left, valid & is_probability(p)
