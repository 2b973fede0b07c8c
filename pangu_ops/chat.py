"""A conversation with a model in the official chat format, with fast, slow or automatic thinking."""

import dataclasses
import json
import os
import time

from pangu_ops.generate import generate
from pangu_ops.models.cache import KVCache
from pangu_ops.models.config import ModelError, ProMoEConfig
from pangu_ops.models.tokenizer import StreamDecoder
from pangu_ops.thinking.auto import Decision, Metacognition
from pangu_ops.thinking.modes import CLOSE, MODES, OPEN, SpanTracker, parse, tagged
from pangu_ops.thinking.steering import Steering, check_budget

TOOLS_BEGIN, TOOLS_END = "[unused11]", "[unused12]"


@dataclasses.dataclass
class Reply:
    text: str  # the answer, without thoughts and tool calls
    answer: str  # with the tool calls, as the conversation keeps it
    thinking: str
    tool_calls: list  # what the model wrote between TOOLS_BEGIN and TOOLS_END, read as JSON
    mode: str
    decision: Decision | None  # in mode auto
    new_ids: list
    prompt_tokens: int
    cached_tokens: int  # of the prompt, which did not have to be computed again
    prefill_seconds: float
    decode_seconds: float  # from the first new token to the last
    repairs: int  # repetitions that were cut short


class Chat:
    """Keeps the messages, and the cache of all that a prompt shares with the one before it.

    Args:
        model, tokenizer: as :func:`load_model` and ``Tokenizer`` give them.
        thinking: "fast", "slow" (the released models' own default, and all that Pangu Pro MoE knows), "auto"
            (:class:`Metacognition` decides for every question) or "model" (the model decides).
        max_thinking_tokens: thoughts before the model must answer, None for any number.
        repair: whether to lead the model out of repetition (:class:`Steering`).
        metacognition: the one to ask and to teach in mode auto, a new one by default.
        context: most tokens of the conversation, None for all that the model allows.
        system: the system turn, empty by default.
    """

    def __init__(
        self,
        model,
        tokenizer,
        thinking="slow",
        max_thinking_tokens=None,
        repair=True,
        metacognition=None,
        context=None,
        system="",
    ):
        check_thinking(model.config, thinking, max_thinking_tokens)
        self.model, self.tokenizer, self.thinking = model, tokenizer, thinking
        self.max_thinking_tokens, self.repair = max_thinking_tokens, repair
        self.metacognition = metacognition or Metacognition()
        weight, most = model.embed.weight, model.config.max_position_embeddings
        self.context = most if context is None else min(context, most)
        # It grows with the conversation: room for the whole context of a large model would be gigabytes.
        self.cache = KVCache(model.config, 1, min(self.context, 1024), weight.device, weight.dtype)
        self.held = []  # the ids in the cache
        self.messages = [{"role": "system", "content": system}]

    def ask(self, text, callback=None, load=0, role="user", **options):
        """The :class:`Reply` to the user's ``text``, which then belongs to the conversation.

        ``callback(part, text)`` gets the reply as it comes, ``part`` being "thinking" or "answer". ``load`` is the
        number of other requests, for mode auto. ``role`` is "tool" for the result of a tool call. ``options`` are those
        of :func:`pangu_ops.generate`; the model's end-of-turn id stops it by default. Where the conversation would fill
        more than half of the context, the oldest turns are dropped until a quarter is left.
        """
        asked = [*self.messages, {"role": role, "content": text}]
        ids = self.tokenizer.encode_chat(asked)
        if 2 * len(ids) > self.context:  # the new answer needs room
            while len(asked) > 2 and 4 * len(ids) > self.context:
                del asked[1:3]
                ids = self.tokenizer.encode_chat(asked)
        decision, mode = None, self.thinking
        if mode == "auto":
            decision = self.metacognition.decide(text, len(ids) - self._shared(ids), load)
            mode = decision.mode
        asked = tagged(asked, mode)
        reply = self._generate(self.tokenizer.encode_chat(asked), mode, decision, callback, options)
        if decision is not None:
            new_tokens = max(0, len(reply.new_ids) - 1)  # the first one is the prefill's
            times = reply.prefill_seconds, new_tokens, reply.decode_seconds
            self.metacognition.record(text, decision, reply.prompt_tokens - reply.cached_tokens, *times)
        # The thoughts are not repeated to the model, as in the official recipe.
        self.messages = [*asked, {"role": "assistant", "content": reply.answer}]
        return reply

    def _shared(self, ids):
        """How many of the first ids are in the cache; the last one has to be computed for its logits."""
        return len(os.path.commonprefix([self.held, ids[:-1]]))

    def _generate(self, ids, mode, decision, callback, options):
        options = {"stop_ids": (self.model.config.eos_token_id,), "max_new_tokens": 256} | options
        shared = self._shared(ids)
        del self.held[shared:]
        self.cache.truncate(0, shared)
        wanted = min(self.context, len(ids) + options["max_new_tokens"])
        if wanted > self.cache.max_length:
            self.cache.grow(min(self.context, max(wanted, 2 * self.cache.max_length)))
        steering = Steering(self.tokenizer, self.max_thinking_tokens, self.repair)
        spans = SpanTracker(*(self.tokenizer.control_ids.get(name) for name in (OPEN, CLOSE)))
        decoders = {part: StreamDecoder(self.tokenizer) for part in ("thinking", "answer")}
        new_ids, times = [], [time.perf_counter()]

        def on_token(token):
            times.append(time.perf_counter())
            new_ids.append(token)
            part = spans.push(token)
            if callback is not None and part != "marker":
                callback(part, decoders[part].push(token))

        try:
            generate(self.model, ids, callback=on_token, steer=steering, cache=self.cache, **options)
        finally:
            self.held = [*ids, *new_ids][: self.cache.lengths[0]]
        if callback is not None:
            for part, decoder in decoders.items():
                callback(part, decoder.finish())
        thinking, answer = parse(self.tokenizer.decode(new_ids, control=True))
        text, calls = tool_calls(answer)
        return Reply(
            text=text,
            answer=answer,
            thinking=thinking,
            tool_calls=calls,
            mode=mode,
            decision=decision,
            new_ids=new_ids,
            prompt_tokens=len(ids),
            cached_tokens=shared,
            prefill_seconds=times[1] - times[0],
            decode_seconds=times[-1] - times[1],
            repairs=steering.repairs,
        )


def check_thinking(config, thinking, max_thinking_tokens):
    """Refuse a mode that there is not, or that the model with ``config`` does not know."""
    if thinking not in MODES:
        raise ModelError(f"chat: thinking must be one of {', '.join(MODES)}, came {thinking}")
    if isinstance(config, ProMoEConfig) and thinking != "slow":
        raise ModelError(f"chat: thinking must be slow for {config.NAME}, which knows no other, came {thinking}")
    check_budget(max_thinking_tokens)


def tool_calls(answer):
    """The answer without its tool-call spans, and the calls: JSON lists, a single object counting as one.

    A span that is not closed or holds no such JSON is left in the text.
    """
    text, calls, rest = "", [], answer
    while True:
        before, begun, rest = rest.partition(TOOLS_BEGIN)
        text += before
        inside, ended, after = rest.partition(TOOLS_END)
        if not begun or not ended:
            return (text + begun + rest).strip(), calls
        try:
            found = json.loads(inside)
        except (ValueError, RecursionError):
            found = None
        found = found if isinstance(found, list) else [found]
        if all(isinstance(call, dict) for call in found):
            calls += found
        else:
            text += begun + inside + ended
        rest = after
