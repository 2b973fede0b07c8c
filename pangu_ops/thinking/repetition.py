"""Finds a model that repeats itself while it generates, and the words that lead it out (Pangu Embedded report)."""

from collections import Counter, deque

from pangu_ops.models.config import ModelError

# Put at the end of an open thinking span before that is closed; a caller may take other words.
WAY_OUT = "\nI am repeating myself, so I stop here and give the answer.\n"


class RepetitionDetector:
    """Watches token ids that come one by one for an n-gram that keeps coming back; O(n) for every id.

    Args:
        n: ids of an n-gram.
        window: how many of the last ids are looked at.
        limit: how often an n-gram must occur there, overlaps counted, to be called a repetition.

    A loop of p ids is found once ``(limit - 1) * p + n`` of them are out, if that is within the window: with the
    defaults 3.5 rounds of 16 ids, 26 of a single one, and none of more than 116. Less would not do: with one token
    per digit, worked arithmetic repeats itself too (in 72000 problems of problems.py with their steps some 4-grams
    came five times in an answer), and so do long numbers and the lines of a table.
    """

    def __init__(self, n=24, window=256, limit=3):
        for name, value, least in (("n", n, 1), ("window", window, n), ("limit", limit, 2)):
            if value < least:
                raise ModelError(f"repetition: {name} must be at least {least}, came {value}")
        self.n, self.window, self.limit = n, window, limit
        self.reset()

    def push(self, id):
        """Whether the n-gram that ends with ``id`` has occurred at least ``limit`` times in the window."""
        self.last.append(id)
        if len(self.last) < self.n:
            return False
        gram = tuple(self.last)
        self.grams.append(gram)
        self.counts[gram] += 1
        if len(self.grams) > self.window - self.n + 1:  # so many fit wholly into the window
            oldest = self.grams.popleft()
            self.counts[oldest] -= 1
            if not self.counts[oldest]:
                del self.counts[oldest]
        return self.counts[gram] >= self.limit

    def reset(self):
        """Forget everything, as after the way out was taken."""
        self.last, self.grams, self.counts = deque(maxlen=self.n), deque(), Counter()
