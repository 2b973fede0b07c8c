"""The recent queries and how they were served, found again by similar ones."""

import dataclasses
from collections import Counter
from typing import NamedTuple

from pangu_ops.thinking.query import tokens


@dataclasses.dataclass
class Entry:
    """Queries of one shape, and the means of the answers that they got in the mode that served them last."""

    text: str  # of the latest one
    mode: str
    used: int = 0  # the higher, the later
    count: int = 0
    tokens: float = 0.0
    seconds: float = 0.0
    ok: bool | None = None  # whether the answers in this mode were good, None unless someone said
    fast_failed: bool = False  # an answer in fast mode was not good

    @property
    def advice(self):
        """The mode that the next such query should have."""
        return "slow" if self.fast_failed else self.mode


class Match(NamedTuple):
    similarity: float
    entry: Entry


class RecentQueries:
    """The last ``capacity`` shapes of queries; the one that was not used for longest goes first.

    Args:
        capacity: shapes.
        least: the similarity, 0 to 1, from which on a query counts as a near-duplicate.

    Similarity is the Jaccard index of the pairs of neighbouring words, Chinese characters, operators and numbers, a
    number being known by how many digits it has: 47 + 38 is like 52 + 19 and unlike 83184 + 58089.
    """

    def __init__(self, capacity=512, least=0.6):
        self.capacity, self.least = capacity, least
        self.entries, self.clock = {}, 0  # entries by their shingles; uses so far
        self.holders = {}  # shingle -> the keys of the entries that have it

    def find(self, text):
        """The most similar :class:`Match`, the latest used of equal ones, or None when none is a near-duplicate."""
        wanted = shingles(text)
        key, similarity = (wanted, 1.0) if wanted in self.entries else self._closest(wanted)
        return Match(similarity, self._use(key)) if key is not None else None

    def _closest(self, wanted):
        # Whoever shares none of so many shingles, any of them, is not similar enough: the rarest are looked at soonest.
        rarest = sorted(wanted, key=lambda shingle: len(self.holders.get(shingle, ())))
        rarest = rarest[: 1 + int((1 - self.least) * len(wanted) + 1e-9)]
        best, similarity, used = None, self.least, -1
        for key in set().union(*(self.holders.get(shingle, ()) for shingle in rarest)):
            shared = len(wanted & key)
            jaccard = shared / (len(wanted) + len(key) - shared)
            if jaccard >= similarity and (jaccard, self.entries[key].used) > (similarity, used):
                best, similarity, used = key, jaccard, self.entries[key].used
        return best, similarity

    def _use(self, key):
        self.clock += 1
        self.entries[key].used = self.clock
        return self.entries[key]

    def record(self, text, mode, new_tokens, seconds, ok=None):
        """Note that ``text`` was served in ``mode`` with ``new_tokens`` in ``seconds``; ``ok``: was it good?"""
        key = shingles(text)
        self.entries.setdefault(key, Entry(text, mode))
        for shingle in key:
            self.holders.setdefault(shingle, set()).add(key)
        entry = self._use(key)
        if mode != entry.mode:
            entry.mode, entry.count, entry.ok = mode, 0, None
        entry.text = text
        entry.count += 1
        entry.tokens += (new_tokens - entry.tokens) / entry.count
        entry.seconds += (seconds - entry.seconds) / entry.count
        if ok is not None:
            entry.ok = ok
            if mode == "fast":
                entry.fast_failed = not ok
        if len(self.entries) > self.capacity:
            oldest = min(self.entries, key=lambda key: self.entries[key].used)
            del self.entries[oldest]
            for shingle in oldest:
                self.holders[shingle].remove(oldest)
                if not self.holders[shingle]:
                    del self.holders[shingle]


def shingles(text):
    """The pairs of neighbouring tokens, each with how often it came before: twice the same pair is two shingles."""
    shapes = ["", *(f"#{sum(map(str.isdecimal, t))}" if t[0].isdecimal() else t for t in tokens(text)), ""]
    pairs = Counter(map(" ".join, zip(shapes, shapes[1:])))
    return frozenset(f"{pair} {index}" for pair, count in pairs.items() for index in range(count))
