"""How many tokens to draft: as many as pay, by the measured acceptance and cost, and none where none do."""

KEEP = 0.9  # of what was measured so far, at every new measurement
ROW = 0.05  # what a further row adds to a step, before that is measured
PATIENCE = 4, 128  # steps without drafts until they are tried again: at first, and at most


class DraftLength:
    """Chooses the length of every draft, at most ``most``.

    Args:
        most: longest draft.
        cost: of drafting a token, as a share of a step, before that is measured.
        clock: whether to measure time. Without it ``cost`` and ROW are all that counts, so that the lengths are the
            same at every run.

    The first step has no draft: its time is what the others are compared with.
    """

    def __init__(self, most, cost=0.0, clock=True):
        self.most, self.cost, self.clock = most, cost, clock
        self.accepted, self.rejected = 1.5, 0.5  # a belief to begin with, soon forgotten
        self.steps = {}  # rows to seconds
        self.draft_seconds = None  # for one token
        self.seed_seconds = None  # of a step after a rejection that makes no more than the next draft and one token
        self._wait, self._patience, self._waited = 0, PATIENCE[0], False

    def choose(self, room):
        """The number of tokens to draft now, at most ``room``."""
        most = min(self.most, room)
        if most < 1 or (self.clock and 1 not in self.steps):
            return 0
        if self._wait:
            self._wait -= 1
            return 0
        speeds = self.speeds(most)
        best = max(range(len(speeds)), key=speeds.__getitem__)
        if best:
            self._patience, self._waited = PATIENCE[0], False
        elif self._waited:  # long enough: what pays best may pay now
            best = max(range(1, len(speeds)), key=speeds.__getitem__)
        else:
            self._wait, self._waited = self._patience - 1, True
            self._patience = min(2 * self._patience, PATIENCE[1])
        return best

    def speeds(self, most):
        """For each length of a draft, the tokens for the time of a step without drafts."""
        rate = self.accepted / (self.accepted + self.rejected)
        one = self.steps[1] if self.clock else 1.0
        draft = self.cost if not self.clock or self.draft_seconds is None else self.draft_seconds / one
        known = sorted(self.steps.items()) if self.clock else [(1, 1.0)]
        speeds, tokens, last, below = [], 0.0, 1.0, 0
        for count in range(most + 1):
            tokens, last = tokens + last, last * rate
            while below + 1 < len(known) and known[below + 1][0] <= count + 1:
                below += 1
            rows, seconds = known[below]
            if below + 1 < len(known):  # between two that were measured
                more, most_seconds = known[below + 1]
                seconds += (most_seconds - seconds) * (count + 1 - rows) / (more - rows)
                step = seconds / one
            else:
                step = seconds / one + ROW * (count + 1 - rows)
            again = 1 - rate**count if self.seed_seconds is not None else 0
            seed = self.seed_seconds / one if again and self.clock else 1.0
            speeds.append((tokens + again) / (step + count * draft + again * seed))
        return speeds

    def record(self, drafted, accepted, draft_seconds, step_seconds, seeds=False):
        """Learn from a step: how many tokens were drafted and accepted, and how long both parts took.

        ``draft_seconds`` is None for a draft that took other work besides; ``seeds`` tells a step without a draft that
        made the next one.
        """
        if seeds:
            self.seed_seconds = mixed(self.seed_seconds, step_seconds)
            return
        self.steps[drafted + 1] = mixed(self.steps.get(drafted + 1), step_seconds)
        if drafted:
            self._waited = False
            if draft_seconds is not None:
                self.draft_seconds = mixed(self.draft_seconds, draft_seconds / drafted)
            self.accepted = KEEP * self.accepted + accepted
            self.rejected = KEEP * self.rejected + (accepted < drafted)


def mixed(old, new):
    """A running mean that is quick to fall: what takes longer than usual is mostly the machine's doing."""
    return new if old is None else old + (0.5 if new < old else 1 - KEEP) * (min(new, 4 * old) - old)
