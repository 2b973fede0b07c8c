"""Keeps a model that thinks within bounds while it generates: a budget of thoughts, and a way out of repetition."""

from pangu_ops.models.config import ModelError
from pangu_ops.thinking.modes import CLOSE, END, OPEN, SpanTracker
from pangu_ops.thinking.repetition import WAY_OUT, RepetitionDetector


class Steering:
    """The ``steer`` of :func:`pangu_ops.generate`: says which ids to put behind one that the model made.

    Args:
        tokenizer: the checkpoint's.
        max_thinking_tokens: so many thoughts, then the span is closed and the model answers; None for any number. A
            model that goes on to think after that has its answer ended.
        repair: whether to lead the model out of repetition.
        way_out: the text that ends a repetition. Inside a thinking span it is followed by the end of the span; in an
            answer the model goes on from it, and when it falls into repetition again the answer ends.

    ``repairs`` counts the ways out taken.
    """

    def __init__(self, tokenizer, max_thinking_tokens=None, repair=True, way_out=WAY_OUT):
        check_budget(max_thinking_tokens)
        open_id, self.close_id, self.end_id = (tokenizer.control_ids.get(name) for name in (OPEN, CLOSE, END))
        self.spans = SpanTracker(open_id, self.close_id)
        self.max_thinking_tokens, self.repair = max_thinking_tokens, repair
        # An answer may well hold a long number or a table; thoughts that go round thrice have nothing to add.
        self.detectors = {
            "thinking": RepetitionDetector(),
            "answer": RepetitionDetector(n=48, window=384, limit=4),
        }
        self.way_out = tokenizer.encode(way_out)[1:]  # without BOS
        self.repairs, self._answers_repaired, self._closed, self._skip = 0, 0, 0, 0

    def __call__(self, token):
        part = self.spans.push(token)
        if self._skip:  # what was put in is not asked about
            self._skip -= 1
            return []
        if self.repair and part != "marker" and self.detectors[part].push(token):
            self.detectors[part].reset()
            self.repairs += 1
            if part == "thinking":
                return self._put([*self.way_out, self.close_id])
            self._answers_repaired += 1
            return self._put(self.way_out if self._answers_repaired == 1 else [self.end_id])
        budget = self.max_thinking_tokens
        if self.spans.thinking and budget is not None and self.spans.count >= budget:
            self._closed += 1
            return self._put([self.close_id] if self._closed == 1 else [self.close_id, self.end_id])
        return []

    def _put(self, ids):
        ids = [id for id in ids if id is not None]
        self._skip = len(ids)
        return ids


def check_budget(max_thinking_tokens):
    if max_thinking_tokens is not None and max_thinking_tokens < 0:
        raise ModelError(f"thinking: max_thinking_tokens must be at least 0, came {max_thinking_tokens}")
