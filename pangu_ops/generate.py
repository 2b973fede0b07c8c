"""Text generation: one token for each pass of the model, or several that were drafted."""

import secrets
import time
from pathlib import Path

import torch

from pangu_ops.models.cache import KVCache
from pangu_ops.models.config import SHOWN, ModelError, read_json
from pangu_ops.speculative.drafter import Drafter
from pangu_ops.speculative.sampling import Sampling


@torch.inference_mode()
def generate(
    model,
    ids,
    max_new_tokens=256,
    temperature=0.0,
    top_k=0,
    top_p=1.0,
    seed=None,
    stop_ids=(),
    callback=None,
    steer=None,
    cache=None,
    speculative=None,
):
    """Continue the token ids ``ids`` (a list, ``[S]`` or ``[1, S]``) and return the new ones as a list.

    Args:
        model: as :func:`load_model` returns it.
        ids: the prompt.
        max_new_tokens: at most so many; fewer when the context is full.
        temperature: 0 always takes the likeliest token, else tokens are drawn from :func:`sampling_probs`.
        top_k: draw from the ``top_k`` likeliest tokens only, 0 from all.
        top_p: draw from the fewest likeliest tokens that hold this share of the probability.
        seed: the same seed gives the same tokens, with the same drafter if any; None takes a new one.
        stop_ids: generation ends with one of these, which is the last id returned.
        callback: called with each new id as soon as it is there.
        steer: called with each new id after ``callback``; ids that it returns follow as if the model had made them.
        cache: a :class:`KVCache` of one sequence that may hold the first ids of the prompt already; it then holds all
            but the last id. None takes a new one.
        speculative: a :class:`Drafter`, whose tokens are verified many in one pass. What comes out is what the model
            itself would make: greedy the same tokens (in bfloat16 with :func:`batch_invariant`), else the same
            distribution.

    Raises :class:`ModelError` for a prompt that is empty, has ids outside the vocabulary or leaves no room in the
    context, for options out of range, and when the model's logits overflow or its weights are not numbers.
    """
    config = model.config
    check_options(max_new_tokens, temperature, top_k, top_p, seed)
    try:
        prompt = torch.as_tensor(ids)
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"generate: the prompt must be integers of shape [S] or [1, S], came others: {error}"
        ) from None
    need(prompt.numel() > 0, "the prompt must have at least one id", "none")
    need(
        prompt.dtype in (torch.int64, torch.int32) and (prompt.dim() == 1 or (prompt.dim() == 2 and len(prompt) == 1)),
        "the prompt must be integers of shape [S] or [1, S]",
        f"{prompt.dtype} {list(prompt.shape)}",
    )
    prompt = prompt.reshape(1, -1).long()
    outside = prompt[(prompt < 0) | (prompt >= config.vocab_size)]
    need(len(outside) == 0, f"ids must be 0 to {config.vocab_size - 1}", outside[0].item() if len(outside) else "")
    context = config.max_position_embeddings if cache is None else min(config.max_position_embeddings, cache.max_length)
    room = context - prompt.shape[1]
    need(room >= 1, f"the prompt must be shorter than the context of {context} tokens", prompt.shape[1])
    need(cache is None or cache.batch_size == 1, "the cache must be for one sequence", cache and cache.batch_size)
    need(speculative is None or isinstance(speculative, Drafter), "speculative must be a Drafter", speculative)
    held = 0 if cache is None else cache.lengths[0]
    need(held < prompt.shape[1], f"the cache must hold less than the prompt of {prompt.shape[1]} tokens", held)

    drafter = speculative or Drafter()
    drafter.check(model)
    max_new_tokens = min(max_new_tokens, room)
    sampling = Sampling(temperature, top_k, top_p, secrets.randbits(64) if seed is None else seed, stop_ids)
    weight, length = model.embed.weight, drafter.length(sampling)
    if cache is None:
        cache = KVCache(config, 1, prompt.shape[1] + max_new_tokens, weight.device, weight.dtype)
    ids, new_ids = prompt[0].tolist(), []  # all of the sequence, and what of it is new
    try:
        while True:
            begin, held = time.perf_counter(), cache.lengths[0]
            # a draft must not need room that the text itself does not
            room = min(max_new_tokens - len(new_ids), cache.room(0) - (len(ids) - held) + 1) - 1
            most = length.choose(room)
            drafts, draft_probs = drafter.propose(ids, most, sampling) if most else ([], None)
            drafted = time.perf_counter()
            step = torch.tensor([ids[held:] + drafts], device=weight.device)
            logits = drafter.forward(model, step, cache, len(drafts) + 1, most)[0]
            made = sampling.verify(logits, drafts, draft_probs, len(ids))
            need(made is not None, "the model's logits must be finite", f"NaN or infinity in {weight.dtype}")
            kept = len(made) - 1  # of the new ids, how many are in the cache
            cache.truncate(0, len(ids) + kept)
            drafter.record(len(drafts), kept)
            if len(ids) - held == 1:
                draft_seconds = drafted - begin if drafter.caught_up else None
                seeds = drafter.in_pass and not drafts and most > 0
                length.record(len(drafts), kept, draft_seconds, time.perf_counter() - drafted, seeds)
            for index, token in enumerate(made):  # which grows by what steer puts behind a token
                ids.append(token)
                new_ids.append(token)
                if callback is not None:
                    callback(token)
                if token in stop_ids or len(new_ids) == max_new_tokens:
                    return new_ids
                more = steer(token) if steer is not None else ()
                if more:
                    if index < kept:  # what was accepted after this token is not what follows
                        del made[index + 1 :]
                        kept = index
                        cache.truncate(0, len(ids))
                    made.extend(more)
    finally:  # of an interruption too: the cache holds what was told, and never more
        cache.truncate(0, min(len(ids) - 1, cache.lengths[0]))


def check_options(max_new_tokens, temperature, top_k, top_p, seed):
    """Refuse options of :func:`generate` that are out of range."""
    need(max_new_tokens >= 1, "max_new_tokens must be at least 1", max_new_tokens)
    need(0 <= temperature < float("inf"), "temperature must be at least 0", temperature)
    need(top_k >= 0, "top_k must be at least 0", top_k)
    need(0 < top_p <= 1, "top_p must be above 0 and at most 1", top_p)
    need(seed is None or -(2**63) <= seed < 2**64, "seed must be from -2**63 to 2**64 - 1", seed)


def need(condition, rule, came):
    if not condition:
        raise ModelError(f"generate: {rule}, came {came}")


def generation_defaults(path, config):
    """What generation_config.json in the checkpoint directory ``path`` asks for, as options of :func:`generate`.

    A checkpoint without the file, or whose file does not sample, takes the likeliest token.
    """
    file = Path(path) / "generation_config.json"
    data = read_json(file) if file.exists() else {}

    def field(name, default, kinds, rule, holds):
        value = data.get(name)
        value = default if value is None else value
        if type(value) not in kinds or not holds(value):
            raise ModelError(f"generation_config.json: {name} must be {rule}, came {SHOWN.repr(value)}")
        return value

    ends = data.get("eos_token_id")
    ends = [config.eos_token_id] if ends is None else ends if isinstance(ends, list) else [ends]
    for end in ends:
        if type(end) is not int or not 0 <= end < config.vocab_size:
            raise ModelError(
                f"generation_config.json: eos_token_id must be ids of the vocabulary, came {SHOWN.repr(end)}"
            )
    options = {
        "temperature": field("temperature", 1.0, (int, float), "a number of at least 0", lambda t: 0 <= t < 1e9),
        "top_k": field("top_k", 0, (int,), "an integer of at least 0", lambda k: k >= 0),
        "top_p": field("top_p", 1.0, (int, float), "above 0 and at most 1", lambda p: 0 < p <= 1),
    }
    if not field("do_sample", False, (bool,), "true or false", lambda _: True):
        options = {"temperature": 0.0, "top_k": 0, "top_p": 1.0}
    return options | {"stop_ids": tuple(ends)}
