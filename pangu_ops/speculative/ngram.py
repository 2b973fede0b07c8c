"""Prompt lookup: what followed the same few tokens earlier in the text (Saxena 2023; Yang et al. 2023, LLMA)."""

from pangu_ops.models.config import ModelError
from pangu_ops.speculative.drafter import Drafter


class NGram(Drafter):
    """Proposes what came after the latest earlier occurrence of the text's last tokens; needs no weights.

    Args:
        most: longest draft.
        longest, shortest: numbers of last tokens that are looked up, the longest first.
    """

    def __init__(self, most=8, longest=4, shortest=2):
        for name, value, least in (("most", most, 1), ("shortest", shortest, 1), ("longest", longest, shortest)):
            if value < least:
                raise ModelError(f"draft: {name} must be at least {least}, came {value}")
        self.most, self.sizes = most, range(longest, shortest - 1, -1)
        self._ids, self._after = [], {}

    def propose(self, ids, count, sampling):
        self._read(ids)
        for size in self.sizes:
            at = self._after.get(tuple(ids[-size:]))
            if at is not None:
                # What follows may run into the end of the text, and goes on as it would in a loop.
                period = len(ids) - at
                drafts = [ids[at + index % period] for index in range(count)]
                ends = (index for index, token in enumerate(drafts) if token in sampling.stop_ids)
                return drafts[: next(ends, count) + 1], None
        return [], None

    def _read(self, ids):
        """Note where every n-gram of ``ids`` ends, but for those at its very end."""
        held, self._ids = self._ids, []  # so that an interruption leaves nothing half read
        known = len(held)
        if known == 0 or ids[:known] != held:
            known, self._after = 0, {}
        for end in range(max(known, 1), len(ids)):
            for size in self.sizes:
                if size <= end:
                    self._after[tuple(ids[end - size : end])] = end
        self._ids = list(ids)
