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
        self._idle, self._patience = 0, PATIENCE[0]

    def choose(self):
        """The number of tokens to draft now."""
        if self.most == 0 or (self.clock and 1 not in self.steps):
            return 0
        best = max(range(self.most + 1), key=self.speed)
        if best == 0:
            self._idle += 1
            if self._idle < self._patience:
                return 0
            self._idle, self._patience = 0, min(2 * self._patience, PATIENCE[1])
            return max(range(1, self.most + 1), key=self.speed)
        self._idle, self._patience = 0, PATIENCE[0]
        return best

    def speed(self, count):
        """Tokens for the time of a step without drafts, when ``count`` are drafted."""
        rate = self.accepted / (self.accepted + self.rejected)
        tokens = sum(rate**index for index in range(count + 1))
        return tokens / (self.step(count + 1) + count * self.draft())

    def step(self, rows):
        """The time of a step with ``rows`` tokens, in steps of one."""
        known = [at for at in self.steps if self.clock]
        if rows == 1 or not known:
            return 1 + ROW * (rows - 1)
        below = max(at for at in known if at <= rows)
        above = min((at for at in known if at >= rows), default=None)
        one = self.steps[1]
        if above is None:
            return self.steps[below] / one + ROW * (rows - below)
        share = (rows - below) / (above - below) if above > below else 0
        return (self.steps[below] + share * (self.steps[above] - self.steps[below])) / one

    def draft(self):
        if not self.clock or self.draft_seconds is None:
            return self.cost
        return self.draft_seconds / self.steps[1]

    def record(self, drafted, accepted, draft_seconds, step_seconds):
        """Learn from a step: how many tokens were drafted and accepted, and how long both parts took.

        ``draft_seconds`` is None for a draft that took other work besides.
        """
        self.steps[drafted + 1] = mixed(self.steps.get(drafted + 1), step_seconds)
        if drafted:
            if draft_seconds is not None:
                self.draft_seconds = mixed(self.draft_seconds, draft_seconds / drafted)
            self.accepted = KEEP * self.accepted + accepted
            self.rejected = KEEP * self.rejected + (accepted < drafted)


def mixed(old, new):
    """A running mean that is quick to fall: what takes longer than usual is mostly the machine's doing."""
    return new if old is None else old + (0.5 if new < old else 1 - KEEP) * (min(new, 4 * old) - old)
