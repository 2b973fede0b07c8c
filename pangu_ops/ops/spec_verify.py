"""spec_verify: which of the drafted tokens a model accepts, and the token that comes after them."""

import math

import torch

from pangu_ops.registry import check, check_device, check_float, register

OP = "spec_verify"
METHODS = ("greedy", "rejection", "block", "typical")
SCALE = 2.0**44  # sums are of integers, multiples of 1 / SCALE: no order of addition changes a verdict
MAX_VOCABULARY = 2**18  # keeps the sum of any numbers below 2 inside 63 bits


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
    """Verify the draft tokens of each sequence against the model that they were drafted for.

    The drafts form a tree below the context; a chain is the tree whose parents are ``i - 1``. From the context on,
    the children of the node reached are tried in the order of their index until one is accepted; where none is, a
    last token is added from what the model wants there.

    ``"rejection"`` (Leviathan et al. 2023; for several children SpecInfer, Miao et al. 2024) accepts a child iff
    ``u * q < p``; after a rejection the target becomes the normalised positive part of p - q, or stays p where
    nothing is left of it. ``"block"`` (Sun et al. 2025), for chains only, judges all prefixes together and accepts at
    least as many. Both are lossless: what comes out is distributed as if the model had drawn every token, provided
    that each draft was drawn from its row of ``draft_probs``. ``"greedy"`` accepts the likeliest token, ties to the
    lower id. ``"typical"`` (Medusa, Cai et al. 2024) is **not lossless**: it accepts whatever is likely enough,
    ``p > min(typical_threshold, typical_alpha * exp(-entropy))``, and does not look at ``draft_probs``.

    Args:
        draft_ids: ``[B, N]`` int64 or int32. An id outside the vocabulary, such as a -1 that fills up a short draft,
            is never accepted.
        parents: ``[N]`` or ``[B, N]`` int32: the node before each, -1 for the context; always an earlier node.
        target: ``[B, N + 1, V]`` float32, the model's probabilities, as :func:`sampling_probs` gives them: row 0
            after the context, row i + 1 after node i. V is at most 262144. For ``"greedy"`` its logits (float32,
            bfloat16 or float16), or ``[B, N + 1]`` its ids (int64 or int32).
        draft_probs: ``[B, N, V]`` float32, what each draft was drawn from; None for drafts that were not drawn but
            chosen.
        uniforms: ``[B, N + 1]`` float32 in [0, 1), one for each node and the last for the last token; not needed for
            ``"greedy"``.
        method: see above.

    Returns:
        ``token_ids [B, N + 1]`` (dtype of ``draft_ids``): the accepted ones, the last token, then -1;
        ``num_accepted [B]`` int32; ``accepted_nodes [B, N]`` int32, then -1. A sequence whose verdict rests on numbers
        that are no probabilities (NaN, below 0, from 2 on), uniforms outside [0, 1), logits with NaN or a maximum that
        is not finite, or rows without mass gets ``num_accepted`` -1 and tokens of -1; no other sequence is touched.

    Every backend gives the same tokens bit for bit: products are float64, sums are of multiples of 2**-44. Only the
    entropy of ``"typical"`` is rounded. Parents that are no earlier node, or for ``"block"`` no chain, raise on CPU; a
    GPU or NPU, which cannot without being waited for, flags their sequence as above. There is no gradient.

    Equivalent to (a chain, one sequence)::

        for i, x in enumerate(draft_ids):
            if not uniforms[i] * draft_probs[i, x] < target[i, x]:
                left = (target[i] - draft_probs[i]).clamp(min=0)
                return draft_ids[:i], draw(left / left.sum(), uniforms[-1])
        return draft_ids, draw(target[-1], uniforms[-1])
    """
    return torch.ops.pangu.spec_verify(
        draft_ids, parents, target, draft_probs, uniforms, method, typical_threshold, typical_alpha
    )


def outputs(
    draft_ids,
    parents,
    target,
    draft_probs=None,
    uniforms=None,
    method="rejection",
    typical_threshold=0.09,
    typical_alpha=0.3,
):
    integers, probabilities = (torch.int32, torch.int64), (torch.float32, torch.float64)
    check(draft_ids.dim() == 2, OP, "draft_ids must be [B, N]", draft_ids)
    check(draft_ids.dtype in integers, OP, "draft_ids must be int32 or int64", draft_ids.dtype)
    batch, nodes = draft_ids.shape
    shapes = (nodes,), (batch, nodes)
    rule = f"parents must be [N] or [B, N] = [{nodes}] or [{batch}, {nodes}]"
    check(tuple(parents.shape) in shapes, OP, rule, parents)
    check(parents.dtype == torch.int32, OP, "parents must be int32", parents.dtype)
    check(method in METHODS, OP, "method must be greedy, rejection, block or typical", method)
    greedy, rows = method == "greedy", f"{batch}, {nodes + 1}"
    if greedy and target.dtype in integers:
        check(target.shape == (batch, nodes + 1), OP, f"target ids must be [B, N + 1] = [{rows}]", target)
    else:
        if greedy:
            check_float(OP, target=target)
        else:
            check(target.dtype in probabilities, OP, "target must be float32", target.dtype)
        rule = f"target must be [B, N + 1, V] = [{rows}, V]"
        check(target.dim() == 3 and target.shape[:2] == (batch, nodes + 1), OP, rule, target)
        vocabulary = target.shape[2]
        rule = f"the vocabulary must be 1 to {MAX_VOCABULARY} tokens"
        check(1 <= vocabulary <= MAX_VOCABULARY, OP, rule, vocabulary)
    check_device(OP, draft_ids=draft_ids, parents=parents, target=target)
    if draft_probs is not None and not greedy:
        rule = f"draft_probs must be [B, N, V] = [{batch}, {nodes}, {vocabulary}]"
        check(draft_probs.shape == (batch, nodes, vocabulary), OP, rule, draft_probs)
        check(draft_probs.dtype == target.dtype, OP, "draft_probs must be float32", draft_probs.dtype)
        check_device(OP, draft_ids=draft_ids, draft_probs=draft_probs)
    check(greedy or uniforms is not None, OP, f"uniforms must be given for {method}", "none")
    if not greedy:
        check(uniforms.shape == (batch, nodes + 1), OP, f"uniforms must be [B, N + 1] = [{rows}]", uniforms)
        check(uniforms.dtype in probabilities, OP, "uniforms must be float32", uniforms.dtype)
        check_device(OP, draft_ids=draft_ids, uniforms=uniforms)
    return (
        draft_ids.new_empty(batch, nodes + 1),
        draft_ids.new_empty(batch, dtype=torch.int32),
        draft_ids.new_empty(batch, nodes, dtype=torch.int32),
    )


def reference(
    draft_ids,
    parents,
    target,
    draft_probs=None,
    uniforms=None,
    method="rejection",
    typical_threshold=0.09,
    typical_alpha=0.3,
):
    batch, nodes = draft_ids.shape
    token_ids = torch.full((batch, nodes + 1), -1, dtype=draft_ids.dtype)
    num_accepted = torch.full((batch,), -1, dtype=torch.int32)
    accepted_nodes = torch.full((batch, nodes), -1, dtype=torch.int32)
    trees = parents.expand(batch, nodes).tolist()
    for tree in trees:
        check_tree(tree, method)
    for b, (tree, drafts) in enumerate(zip(trees, draft_ids.tolist())):
        q = None if draft_probs is None else draft_probs[b]
        sequence = Sequence(drafts, tree, target[b], q, None if uniforms is None else uniforms[b].tolist())
        try:
            if method == "greedy":
                accepted, last = greedy(sequence)
            elif method == "rejection":
                accepted, last = rejection(sequence)
            elif method == "block":
                accepted, last = block(sequence)
            else:
                accepted, last = typical(sequence, typical_threshold, typical_alpha)
        except NoProbabilities:
            continue
        count = num_accepted[b] = len(accepted)
        accepted_nodes[b, :count] = torch.tensor(accepted, dtype=torch.int32)
        token_ids[b, : count + 1] = torch.tensor([*(drafts[node] for node in accepted), last])
    device = draft_ids.device
    return token_ids.to(device), num_accepted.to(device), accepted_nodes.to(device)


def check_tree(parents, method):
    for node, parent in enumerate(parents):
        check(-1 <= parent < node, OP, "parents must be -1 or an earlier node", f"{parent} for node {node}")
        if method == "block":
            rule = "parents must be a chain for block verification"
            check(parent == node - 1, OP, rule, f"{parent} for node {node}")


class NoProbabilities(Exception):
    """What a verdict rests on is not what it should be."""


class Sequence:
    """One sequence: what it drafted, and what is left of the target after some of its nodes were rejected."""

    def __init__(self, drafts, parents, target, draft_probs, uniforms):
        self.drafts, self.parents, self.target = drafts, parents, target
        self._draft_probs, self._uniforms = draft_probs, uniforms
        self.size = target.shape[-1] if target.dim() == 2 else 0

    def is_child(self, node, at):
        return self.parents[node] == at and 0 <= self.drafts[node] < self.size

    def uniform(self, index):
        u = self._uniforms[index]
        return u if 0 <= u < 1 else fail()

    def best(self, row):
        """The target's likeliest token."""
        if self.target.dim() == 1:
            best = self.target[row].item()
            return best if best >= 0 else fail()
        logits = self.target[row]
        highest = logits.max()  # NaN where there is one
        return (logits == highest).nonzero()[0].item() if highest.isfinite() else fail()

    def p(self, row, at=slice(None)):
        return probabilities(self.target[row, at])

    def q_of(self, node, at=slice(None)):
        if self._draft_probs is not None:
            return probabilities(self._draft_probs[node, at])
        one_hot = torch.zeros(self.size, dtype=torch.float64, device=self.target.device)
        one_hot[self.drafts[node]] = 1
        return one_hot[at]

    def residual(self, row, weight, rejected, at=slice(None)):
        """``weight`` times the target's row, less what each of ``rejected``, (node, mass before), has taken."""
        left = weight * self.p(row, at)
        for node, mass in rejected:
            left = (left - mass * self.q_of(node, at)).clamp(min=0)
        return left

    def mass(self, row, weight, rejected):
        return integers(self.residual(row, weight, rejected)).sum().item() / SCALE

    def draw(self, row, weight, rejected):
        """A token out of what is left; out of the row itself where nothing is."""
        weights = integers(self.residual(row, weight, rejected))
        if rejected and weights.sum() == 0:
            weights = integers(self.p(row))
        total = weights.sum().item()
        if total == 0:
            fail()
        at = min(int(self.uniform(-1) * float(total)), total - 1)
        return torch.searchsorted(weights.cumsum(0), at, right=True).item()


def fail():
    raise NoProbabilities


def probabilities(values):
    values = values.double()
    return values if ((values >= 0) & (values < 2)).all() else fail()


def integers(values):
    return (values * SCALE).round().long()


def greedy(s):
    at, accepted, best = -1, [], s.best(0)
    for node, x in enumerate(s.drafts):
        if s.parents[node] == at and x == best:
            accepted.append(node)
            at, best = node, s.best(node + 1)
    return accepted, best


def rejection(s):
    at, accepted, rejected, mass = -1, [], [], 1.0
    for node, x in enumerate(s.drafts):
        if not s.is_child(node, at):
            continue
        p, q = s.residual(at + 1, 1.0, rejected, x).item(), s.q_of(node, x).item()
        if s.uniform(node) * q * mass < p:
            accepted.append(node)
            at, rejected, mass = node, [], 1.0
        else:
            rejected.append((node, mass))
            mass = s.mass(at + 1, 1.0, rejected)
            if mass == 0:
                rejected, mass = [], 1.0
    return accepted, s.draw(at + 1, 1.0, rejected)


def block(s):
    length = next((node for node in range(len(s.drafts)) if not s.is_child(node, node - 1)), len(s.drafts))
    keep = [1.0]  # of each prefix: the share of its probability under the drafts that the target has too
    for node in range(length):
        p, q = keep[-1] * s.p(node, s.drafts[node]).item(), s.q_of(node, s.drafts[node]).item()
        keep.append(min(p / q, 1.0) if q > 0 else float(p > 0))
    if length == 0 or s.uniform(length - 1) < keep[length]:
        return list(range(length)), s.draw(length, 1.0, [])
    for node in range(length - 1, 0, -1):
        left = s.mass(node, keep[node], [(node, 1.0)])
        if s.uniform(node - 1) * (left + (1.0 - keep[node])) < left:
            return list(range(node)), s.draw(node, keep[node], [(node, 1.0)])
    return [], s.draw(0, 1.0, [(0, 1.0)])


def typical(s, threshold, alpha):
    def least(row):
        p = s.p(row)
        entropy = integers(-torch.special.xlogy(p, p)).sum().item() / SCALE
        return min(threshold, alpha * math.exp(-entropy))

    at, accepted, bound = -1, [], None
    for node, x in enumerate(s.drafts):
        if s.is_child(node, at):
            bound = least(at + 1) if bound is None else bound
            if s.p(at + 1, x).item() > bound:
                accepted.append(node)
                at, bound = node, None
    return accepted, s.draw(at + 1, 1.0, [])


def example(T, N, V, dtype=torch.float32, method="rejection", tree=None, ids=False, chosen=False, seed=0):
    """``tree``: the parents, a chain by default; ``chosen``: the drafts come without probabilities."""
    B, generator = T, torch.Generator().manual_seed(seed)
    parents = torch.tensor(range(-1, N - 1) if tree is None else tree, dtype=torch.int32)
    rows = (parents + 1).long()
    logits = 2 * torch.randn(B, N + 1, V, generator=generator)
    draft_probs = (0.9 * logits[:, rows] + 0.5 * torch.randn(B, N, V, generator=generator)).softmax(-1)
    draft_ids = draft_probs.cumsum(-1).gt(torch.rand(B, N, 1, generator=generator)).long().argmax(-1)
    uniforms = torch.rand(B, N + 1, generator=generator)
    target = logits.softmax(-1)
    if method == "greedy":
        target = logits.to(dtype)
        likeliest = target.float().argmax(-1)
        draft_ids = torch.where(uniforms[:, :N] < 0.6, likeliest[:, rows], draft_ids)
        target, draft_probs, uniforms = likeliest if ids else target, None, None
    draft_ids[1::3, N // 2 :] = -1  # shorter drafts
    return draft_ids, parents, target, None if chosen else draft_probs, uniforms, method, 0.09, 0.3


TREE = (-1, -1, 0, 0, 1, 2, -1, 2)
register(
    OP,
    outputs,
    reference,
    inference=True,
    exact=(0, 1, 2),
    example=example,
    cases=(
        dict(T=0, N=4, V=9),
        dict(T=1, N=1, V=1),
        dict(T=8, N=5, V=33),
        dict(T=5, N=4, V=5000),
        dict(T=8, N=4, V=33, chosen=True),
        dict(T=8, N=8, V=12, tree=TREE),
        dict(T=5, N=8, V=3000, tree=TREE),
        dict(T=5, N=8, V=12, tree=TREE, chosen=True),
        dict(T=8, N=4, V=33, method="block"),
        dict(T=5, N=6, V=3000, method="block"),
        dict(T=5, N=4, V=33, method="block", chosen=True),
        dict(T=8, N=8, V=40, method="typical", tree=TREE),
        dict(T=8, N=8, V=3000, method="greedy", tree=TREE),
        dict(T=8, N=5, V=33, method="greedy", ids=True),
        dict(T=3, N=0, V=9),  # nothing drafted: a sample
    ),
)
