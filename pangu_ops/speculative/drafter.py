"""What the generation loop asks of a drafter."""

from pangu_ops.speculative.length import DraftLength


class Drafter:
    """Drafts nothing; the others build on it.

    ``most`` is the longest draft, ``in_pass`` whether the model's own pass makes the next one. ``cost`` is what
    drafting one token takes, as a share of a step of the model: a guess, which the loop uses until it has measured,
    and throughout where a seed has to give the same tokens again. ``passes``, ``drafted`` and ``accepted`` count the
    passes of the model so far, and the tokens.
    """

    cost, most, in_pass = 0.0, 0, False
    passes = drafted = accepted = 0
    caught_up = True  # whether the last draft took nothing but drafting
    _length = None

    def length(self, sampling):
        """The :class:`DraftLength` to ask: one that remembers earlier texts, unless a seed has to repeat."""
        if sampling.temperature > 0:
            return DraftLength(self.most, self.cost, clock=False)
        self._length = self._length or DraftLength(self.most, self.cost)
        return self._length

    def record(self, drafted, accepted):
        self.passes += 1
        self.drafted += drafted
        self.accepted += accepted

    def check(self, model):
        """Raise :class:`ModelError` where this cannot draft for ``model``."""

    def propose(self, ids, count, sampling):
        """Up to ``count`` tokens that may follow the list ``ids``, all of the sequence so far.

        Returns a list, and ``[N, V]`` float32 probabilities that they were drawn from with ``sampling``, or None where
        they were not drawn but chosen.
        """
        return [], None

    def forward(self, model, ids, cache, last, count):
        """The model's pass over ``ids [1, S]``; for a drafter that needs its own ``count`` of rows in it."""
        return model(ids, cache=cache, last=last)


def shared_prefix(a, b):
    """How many of the first elements of two lists are the same."""
    length = min(len(a), len(b))
    if a[:length] == b[:length]:
        return length
    return next(index for index in range(length) if a[index] != b[index])
