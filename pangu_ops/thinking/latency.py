"""How long an answer will take, learnt from the answers before it."""

from pangu_ops.models.config import ModelError

# Before anything is measured: a model of some billion parameters on one accelerator, and short answers.
PREFILL = 2000.0  # tokens/s
DECODE = 50.0  # tokens/s
FAST_TOKENS = 128.0  # of an answer
# A slow answer is so many times as long as a fast one, and the reverse: the report saves 88 % on simple questions.
SLOW_LENGTH = 8.0
WEIGHT = 0.2  # of the newest value in the running averages


class LatencyEstimate:
    """Running averages of prefill and decode speed (tokens/s) and of the answer's length in every mode (tokens)."""

    def __init__(self):
        self._prefill = self._decode = (None, None)  # tokens and seconds: few tokens say little about the speed
        self.lengths = {"fast": None, "slow": None}

    @property
    def measured(self):
        """Whether estimates rest on a measured speed."""
        return self.decode is not None

    @property
    def prefill(self):
        return speed(self._prefill)

    @property
    def decode(self):
        return speed(self._decode)

    def observe(self, prompt_tokens, prefill_seconds, new_tokens, decode_seconds, mode):
        """Learn from an answer of ``new_tokens`` in ``mode``; what took no time teaches no speed."""
        self._check(mode)
        if prompt_tokens > 0 and prefill_seconds > 0:
            self._prefill = tuple(map(average, self._prefill, (prompt_tokens, prefill_seconds)))
        if new_tokens > 0 and decode_seconds > 0:
            self._decode = tuple(map(average, self._decode, (new_tokens, decode_seconds)))
        self.lengths[mode] = average(self.lengths[mode], new_tokens)

    def length(self, mode):
        """Tokens that an answer in ``mode`` is expected to have; a mode not seen yet goes by the other one."""
        self._check(mode)
        fast, slow = self.lengths["fast"], self.lengths["slow"]
        if mode == "fast":
            return fast if fast is not None else FAST_TOKENS if slow is None else slow / SLOW_LENGTH
        return slow if slow is not None else SLOW_LENGTH * self.length("fast")

    def estimate(self, prompt_tokens, mode, new_tokens=None):
        """Seconds until the end of an answer in ``mode``, of ``new_tokens`` where they are known better."""
        new_tokens = self.length(mode) if new_tokens is None else new_tokens
        return prompt_tokens / (self.prefill or PREFILL) + new_tokens / (self.decode or DECODE)

    def _check(self, mode):
        if mode not in self.lengths:
            raise ModelError(f"latency: mode must be one of {', '.join(self.lengths)}, came {mode}")


def speed(averages):
    tokens, seconds = averages
    return None if tokens is None else tokens / seconds


def average(old, new):
    return float(new) if old is None else old + WEIGHT * (new - old)
