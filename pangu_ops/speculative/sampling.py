"""Drawing tokens with numbers that belong to a place in a text, not to the order in which they were asked for."""

import functools

import numpy
import torch

from pangu_ops.ops import sampling_probs, spec_verify


def uniforms(seeds, positions, num_nodes=0, stream=0):
    """``[B, num_nodes + 1]`` float32 in [0, 1), as :func:`spec_verify` takes them: the last is for the last token.

    Philox (Salmon et al. 2011), keyed by the seed and the position of each of B requests: no number depends on the
    other requests of a batch, or on how many nodes there are. Every ``stream`` has numbers of its own.
    """
    rows = []
    for seed, position in zip(seeds, positions, strict=True):
        key = numpy.array([seed % 2**64, position], dtype=numpy.uint64)
        generator = numpy.random.Philox(key=key, counter=[0, 0, 0, stream])
        rows.append(numpy.roll(generator.random_raw(num_nodes + 1), -1) >> 40)
    numbers = numpy.array(rows, dtype=numpy.float32).reshape(-1, num_nodes + 1)
    return torch.from_numpy(numbers * numpy.float32(2.0**-24))


@functools.lru_cache(maxsize=64)
def chain(num_nodes, device):
    return torch.arange(-1, num_nodes - 1, dtype=torch.int32, device=device)


class Sampling:
    """How the tokens of a sequence are chosen, and which end it; the options of :func:`pangu_ops.generate`."""

    def __init__(self, temperature=0.0, top_k=0, top_p=1.0, seed=0, stop_ids=()):
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.seed, self.stop_ids = seed, stop_ids

    def verify(self, logits, drafts, draft_probs, position):
        """The tokens that a model makes at ``position``: the drafts that it accepts, and one more.

        ``logits [N + 1, V]`` are the model's after the context and after each of the N ``drafts``, which were drawn
        from ``draft_probs [N, V]``, or chosen where there is none. None for logits that are no numbers.
        """
        device, nodes = logits.device, len(drafts)
        tree, drafts = chain(nodes, device), torch.tensor([drafts], dtype=torch.int64, device=device)
        if self.temperature == 0:
            tokens, count, _ = spec_verify(drafts, tree, logits[None], method="greedy")
        else:
            target = sampling_probs(logits, self.temperature, self.top_k, self.top_p)[None]
            draft_probs = None if draft_probs is None else draft_probs[None]
            numbers = uniforms([self.seed], [position], nodes).to(device)
            tokens, count, _ = spec_verify(drafts, tree, target, draft_probs, numbers, "block")
        accepted = count.item()
        return None if accepted < 0 else tokens[0, : accepted + 1].tolist()

    def draft(self, logits, position, index):
        """A drafter's choice from its ``logits [1, V]``, the ``index``-th of a draft for ``position``.

        Returns the token, None where nothing can be drawn, and the ``[1, V]`` that it was drawn from: None where
        the likeliest was taken.
        """
        if self.temperature == 0:
            return logits[0].argmax().item(), None
        probs = sampling_probs(logits, self.temperature, self.top_k, self.top_p)
        numbers = uniforms([self.seed], [position], stream=1 + index).to(logits.device)
        nothing = torch.empty(1, 0, dtype=torch.int64, device=logits.device)
        tokens, count, _ = spec_verify(nothing, chain(0, logits.device), probs[None], None, numbers)
        return tokens[0, 0].item() if count >= 0 else None, probs
