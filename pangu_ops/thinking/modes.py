"""The thinking modes of Pangu Embedded: the tags that ask for them, and the span that holds the thoughts."""

from typing import NamedTuple

from pangu_ops.models.config import ModelError

# What the official recipe puts at the end of the user's turn (openPangu Embedded, inference/generate.py).
TAGS = {"slow": "", "fast": " /no_think", "model": " /auto_think"}
MODES = ("fast", "slow", "auto", "model")  # auto: Metacognition turns it into fast or slow before the tag is put
OPEN, CLOSE = "[unused16]", "[unused17]"
END = "[unused10]"


class Thought(NamedTuple):
    thinking: str
    answer: str


def tagged(messages, mode):
    """New messages with the tag of ``mode``, one of TAGS, at the end of the last user turn.

    A tag that the user wrote there already is not put twice. :class:`ModelError` for another mode, and for a tag
    that has no user turn to go to.
    """
    if mode not in TAGS:
        raise ModelError(f"mode: must be one of {', '.join(TAGS)}, came {mode}")
    messages, tag = [dict(message) for message in messages], TAGS[mode]
    users = [message for message in messages if message["role"] == "user"]
    if tag and not users:
        raise ModelError(f"chat: must have a user turn for{tag}, came none")
    if tag and users[-1]["content"].split()[-1:] != [tag.strip()]:
        users[-1]["content"] += tag
    return messages


def parse(text):
    """The :class:`Thought` of a generated text that still has its control tokens, by the official reading.

    Thinking is what stands between the last OPEN before the first CLOSE and that CLOSE, from the beginning where
    OPEN is missing and to the end where CLOSE is; the answer is what follows the last CLOSE. A text without either
    is all answer. The turn ends with the first END.
    """
    text = text.split(END)[0]
    parts = text.split(CLOSE)
    before, opened, thinking = parts[0].rpartition(OPEN)
    if len(parts) == 1 and not opened:
        thinking, answer = "", text
    else:
        answer = parts[-1] if len(parts) > 1 else ""
    return Thought(thinking.strip(), answer.strip())


class SpanTracker:
    """Says of token ids that come one by one what they are, before the end is known.

    Args:
        open_id, close_id: the ids of OPEN and CLOSE.
    """

    def __init__(self, open_id, close_id):
        self.open_id, self.close_id = open_id, close_id
        self.thinking, self.count = False, 0  # inside an open span now; thinking tokens so far

    def push(self, id):
        """``"marker"``, ``"thinking"`` or ``"answer"``, which everything outside a span is."""
        if id in (self.open_id, self.close_id):
            self.thinking = id == self.open_id
            return "marker"
        self.count += self.thinking
        return "thinking" if self.thinking else "answer"
