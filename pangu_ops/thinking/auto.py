"""Chooses between fast and slow thinking for every query (Pangu Embedded report: metacognition by the wrapper)."""

import functools
import time
from typing import NamedTuple

from pangu_ops.models.config import ModelError
from pangu_ops.thinking.latency import LatencyEstimate
from pangu_ops.thinking.query import difficulty
from pangu_ops.thinking.recent import RecentQueries

BASE, BUSIEST = 0.5, 0.9  # the threshold of difficulty on an idle machine, and what it moves up to under load
HALF_WAY = 4  # requests beside this one that move it half of that way
ALIKE = 0.25  # queries whose difficulties are farther apart are not similar, however many words they share


class Targets(NamedTuple):
    """Seconds that an answer should take: to a query that needs no slow thinking, and to one that does."""

    simple: float = 0.050
    hard: float = 0.300


class Decision(NamedTuple):
    mode: str  # "fast" or "slow"
    signal: str  # what decided: "difficulty", "similar", "load" or "latency"
    difficulty: float
    threshold: float  # of difficulty, at this load
    similarity: float  # to the similar recent query, 0 without one
    expected: dict  # mode -> seconds
    measured: bool  # whether a measured speed stands behind that
    target: float  # seconds for a query of this class
    within_target: bool
    budget: float | None  # seconds that no answer should exceed
    load: int
    seconds: float  # that deciding took

    def explain(self):
        """One line for a user."""
        reason = {
            "difficulty": f"difficulty {self.difficulty:.2f}, slow from {self.threshold:.2f}",
            "similar": f"as a similar query before ({self.similarity:.2f}) showed",
            "load": f"difficulty {self.difficulty:.2f}, slow from {self.threshold:.2f} with {self.load} other requests",
            "latency": f"slow would take {shown(self.expected['slow'])}, over the budget of {shown(self.budget or 0)}",
        }[self.signal]
        expected = f"expected {shown(self.expected[self.mode])}{'' if self.measured else ' (nothing measured yet)'}"
        side = "within" if self.within_target else "over"
        return f"{self.mode}: {reason}; {expected}, {side} the {shown(self.target)} target"


class Metacognition:
    """Decides query by query and learns from :meth:`record`.

    Args:
        targets: what is aimed at; it only informs.
        budget: seconds that an answer must not be expected to exceed by slow thinking, or None.
        recent, latency: the memories to use, new ones by default.
    """

    def __init__(self, targets=Targets(), budget=None, recent=None, latency=None):  # noqa: B008 (immutable)
        if budget is not None and not budget > 0:
            raise ModelError(f"auto: budget must be above 0 seconds, came {budget}")
        self.targets, self.budget = targets, budget
        self._difficulty = functools.lru_cache(1024)(difficulty)  # a similar query's is asked for again and again
        self.recent = RecentQueries() if recent is None else recent
        self.latency = LatencyEstimate() if latency is None else latency

    def decide(self, text, prompt_tokens, load=0):
        """The :class:`Decision` for ``text``; ``load`` is the requests that wait or run besides it.

        A similar recent query decides before the difficulty does. Then load and budget may turn slow into fast, but
        load never where a fast answer has failed.
        """
        start = time.perf_counter()
        if load < 0:
            raise ModelError(f"auto: load must be at least 0, came {load}")
        hard, match = self._difficulty(text), self.recent.find(text)
        if match and abs(self._difficulty(match.entry.text) - hard) > ALIKE:
            match = None
        threshold = BASE + (BUSIEST - BASE) * load / (load + HALF_WAY)
        expected = {mode: self.latency.estimate(prompt_tokens, mode) for mode in ("fast", "slow")}
        if match:
            similarity, entry = match
            mode, signal = entry.advice, "similar"
            expected[entry.mode] = self.latency.estimate(prompt_tokens, entry.mode, entry.tokens)
        else:
            similarity, mode, signal = 0.0, "slow" if hard >= BASE else "fast", "difficulty"
        target = self.targets.hard if mode == "slow" else self.targets.simple
        if mode == "slow" and hard < threshold and load and not (match and entry.fast_failed):
            mode, signal = "fast", "load"
        if mode == "slow" and self.budget is not None and expected["slow"] > self.budget:
            mode, signal = "fast", "latency"
        return Decision(
            mode=mode,
            signal=signal,
            difficulty=hard,
            threshold=threshold,
            similarity=similarity,
            expected=expected,
            measured=self.latency.measured,
            target=target,
            within_target=expected[mode] <= target,
            budget=self.budget,
            load=load,
            seconds=time.perf_counter() - start,
        )

    def record(self, text, decision, prompt_tokens, prefill_seconds, new_tokens, decode_seconds, ok=None):
        """Learn from the answer that was given to ``text``; ``ok``: whether it was good, where somebody knows."""
        self.latency.observe(prompt_tokens, prefill_seconds, new_tokens, decode_seconds, decision.mode)
        # That load or latency made it fast says nothing about the next such query, unless the answer did.
        if ok is not None or decision.signal in ("difficulty", "similar"):
            self.recent.record(text, decision.mode, new_tokens, prefill_seconds + decode_seconds, ok)


def shown(seconds):
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
