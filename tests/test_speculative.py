"""Speculative decoding changes how fast a text comes, never which one."""

import math
import random
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pangu_ops
from pangu_ops.checkpoints import DRAFT, EMBEDDED, PRO_MOE
from pangu_ops.models import EmbeddedConfig, EmbeddedForCausalLM, ModelError
from pangu_ops.models.cache import KVCache
from pangu_ops.models.tokenizer import Tokenizer
from pangu_ops.speculative import Drafter, DraftModel, Firp, NGram, uniforms
from pangu_ops.speculative.length import DraftLength
from pangu_ops.speculative.sampling import Sampling

DATA = Path(__file__).parent / "data"
PROMPT = load_file(DATA / "pro-moe-tiny" / "golden.safetensors")["greedy.prompt"][0].tolist()
QUESTIONS = ("What is 47 + 38?", "Sort in rising order: 52, 17, 38", "Write 427 in words.", "748 - 26 = ?")


def always(drafter, count):
    """Drafts ``count`` tokens whenever there is something to draft, whatever that takes."""
    length = DraftLength(count, clock=False)
    length.choose = lambda room: max(0, min(count, room))
    drafter.length = lambda sampling: length
    return drafter


class Guess(Drafter):
    """Drafts whatever ``next_token(ids)`` says."""

    most = 5

    def __init__(self, next_token):
        self.next_token = next_token

    def propose(self, ids, count, sampling):
        ids, drafts = list(ids), []
        for _ in range(count):
            drafts.append(self.next_token(ids))
            ids.append(drafts[-1])
        return drafts, None


def mostly_right(text, vocabulary, share, seed=0):
    """Guesses the known ``text``, but for some tokens."""
    rng = random.Random(seed)

    def next_token(ids):
        return text[len(ids)] if len(ids) < len(text) and rng.random() < share else rng.randrange(vocabulary)

    return always(Guess(next_token), 5)


def random_maps(model, count=3):
    hidden = model.config.hidden_size
    generator = torch.Generator().manual_seed(0)
    weight = torch.eye(hidden) + 0.1 * torch.randn(count, hidden, hidden, generator=generator)
    return always(Firp(weight, torch.zeros(count, hidden), 1), count)


@pytest.fixture(scope="module", params=["pro-moe-tiny", "embedded-tiny", "pro-moe", "embedded"])
def case(request):
    """A model in float32, prompts, and what it says to them by itself."""
    path = {"pro-moe": PRO_MOE, "embedded": EMBEDDED}.get(request.param, DATA / request.param)
    model = pangu_ops.load_model(path, dtype=torch.float32)
    prompts = [PROMPT, [7, 7, 7, 7]]
    if path in (PRO_MOE, EMBEDDED):
        tokenizer = Tokenizer(path)
        prompts = [tokenizer.encode_chat([{"role": "user", "content": question}]) for question in QUESTIONS]
    return model, [(prompt, pangu_ops.generate(model, prompt, max_new_tokens=40)) for prompt in prompts]


def drafter_of(kind, model, text):
    vocabulary = model.config.vocab_size
    share = {"right": 1.0, "half": 0.6, "wrong": 0.0}
    if kind in share:
        return mostly_right(text, vocabulary, share[kind])
    drafter = {"ngram": NGram(shortest=1), "model": DraftModel(model), "firp": random_maps(model)}.get(kind)
    return drafter and always(drafter, 3)


@pytest.mark.parametrize("kind", ["ngram", "model", "firp", "right", "half", "wrong"])
def test_greedy_text_is_the_models_own(case, kind):
    model, texts = case
    for prompt, output in texts:
        drafter, cache = drafter_of(kind, model, prompt + output), KVCache(model.config, 1, len(prompt) + 40)
        assert pangu_ops.generate(model, prompt, max_new_tokens=40, speculative=drafter, cache=cache) == output
        assert cache.lengths == [len(prompt) + 39]
        if kind == "right":
            assert (drafter.passes, drafter.accepted) == (7, 33)  # six tokens a pass
        if kind == "model":
            assert drafter.accepted == drafter.drafted > 0  # it is the model itself


@pytest.mark.parametrize("kind", ["ngram", "firp", "half"])
@pytest.mark.parametrize("path", [PRO_MOE, EMBEDDED])
def test_and_in_bfloat16_where_batches_change_no_bit(path, kind):
    model, tokenizer = pangu_ops.load_model(path), Tokenizer(path)
    assert model.embed.weight.dtype == torch.bfloat16
    with pangu_ops.batch_invariant():
        for question in QUESTIONS:
            prompt = tokenizer.encode_chat([{"role": "user", "content": question}])
            output = pangu_ops.generate(model, prompt, max_new_tokens=40)
            drafter = drafter_of(kind, model, prompt + output)
            assert pangu_ops.generate(model, prompt, max_new_tokens=40, speculative=drafter) == output


@pytest.mark.parametrize("kind", ["ngram", "model", "firp"])
def test_and_with_the_length_that_pays(case, kind):
    model, texts = case
    drafter = drafter_of(kind, model, [])
    del drafter.length
    for prompt, output in texts * 2:
        assert pangu_ops.generate(model, prompt, max_new_tokens=40, speculative=drafter) == output
    assert drafter.drafted > 0


def test_the_shipped_drafters_are_accepted():
    model, tokenizer = pangu_ops.load_model(PRO_MOE), Tokenizer(PRO_MOE)
    for drafter, share in (always(DraftModel.load(DRAFT, PRO_MOE), 4), 0.8), (always(Firp.load(PRO_MOE), 3), 0.3):
        for question in QUESTIONS[:3] * 3:
            ids = tokenizer.encode_chat([{"role": "user", "content": question}])
            pangu_ops.generate(model, ids, max_new_tokens=30, stop_ids=(13,), speculative=drafter)
        assert drafter.accepted > share * drafter.drafted > 0


def test_rejected_tokens_leave_nothing_in_the_cache(case):
    model, ((prompt, output), *_) = case
    caches = []
    for drafter in (None, mostly_right(prompt + output, model.config.vocab_size, 0.5), random_maps(model)):
        caches.append(KVCache(model.config, 1, len(prompt) + 40, block_size=8))
        pangu_ops.generate(model, prompt, max_new_tokens=40, speculative=drafter, cache=caches[-1])
    held = [read_out(cache) for cache in caches]
    assert torch.equal(held[0], held[1]) and torch.equal(held[0], held[2])
    assert caches[0].free_blocks == caches[1].free_blocks == caches[2].free_blocks


def read_out(cache):
    """Keys and values of the sequence, ``[2, L, Hk, S, D]``."""
    rows = torch.stack([cache.keys, cache.values])[:, :, cache._blocks[0]]
    return rows.transpose(2, 3).flatten(3, 4)[:, :, :, : cache.lengths[0]]


def test_it_ends_where_it_would(case):
    model, ((prompt, output), *_) = case
    for most in range(1, 9):
        drafter = mostly_right(prompt + output, model.config.vocab_size, 0.8, seed=most)
        assert pangu_ops.generate(model, prompt, max_new_tokens=most, speculative=drafter) == output[:most]
    stop = output[5]
    cache, drafter = KVCache(model.config, 1, len(prompt) + 40), mostly_right(prompt + output, 9, 1.0)
    options = dict(max_new_tokens=40, stop_ids=(stop,), cache=cache, speculative=drafter)
    first = output[: output.index(stop) + 1]
    assert pangu_ops.generate(model, prompt, **options) == first
    assert cache.lengths == [len(prompt) + len(first) - 1]


def test_steering_meets_the_same_text(case):
    """Ids put in after the third token, where drafts were accepted beyond it; they are steered too."""
    model, ((prompt, output), *_) = case

    def steered(drafter):
        seen = []

        def steer(token):
            seen.append(token)
            return {3: [5, 6], 5: [7], 12: [8]}.get(len(seen), [])

        cache = KVCache(model.config, 1, len(prompt) + 30)
        ids = pangu_ops.generate(model, prompt, max_new_tokens=30, steer=steer, speculative=drafter, cache=cache)
        assert cache.lengths == [len(prompt) + 29]
        return ids, read_out(cache)

    plain = steered(None)
    assert plain[0][3:6] == [5, 6, 7]
    for kind in ("right", "half", "ngram", "model", "firp"):
        drafter = drafter_of(kind, model, prompt + output)
        came = steered(drafter)
        assert came[0] == plain[0] and torch.equal(came[1], plain[1])


def test_a_callback_that_gives_up_leaves_a_cache_to_go_on_with(case):
    model, ((prompt, output), *_) = case
    seen, cache = [], KVCache(model.config, 1, len(prompt) + 40)

    def callback(token):
        seen.append(token)
        if len(seen) == 3:
            raise KeyboardInterrupt

    drafter = mostly_right(prompt + output, 9, 1.0)
    with pytest.raises(KeyboardInterrupt):
        pangu_ops.generate(model, prompt, max_new_tokens=40, callback=callback, speculative=drafter, cache=cache)
    assert cache.lengths == [len(prompt) + 2]
    assert pangu_ops.generate(model, prompt + seen, max_new_tokens=4, cache=cache) == output[3:7]


@pytest.fixture(scope="module")
def tiny():
    return pangu_ops.load_model(DATA / "embedded-tiny")


@pytest.mark.parametrize("kind", ["ngram", "model", "firp"])
def test_an_interrupted_drafter_goes_on(case, kind, monkeypatch):
    """Whatever line it is stopped at, it drafts for the next text, and for the same one again."""
    model, ((first, one), (second, two), *_) = case
    drafter = drafter_of(kind, model, [])
    assert pangu_ops.generate(model, first, max_new_tokens=40, speculative=drafter) == one
    for stop_at in range(1, 40, 3):
        calls = 0

        def trace(frame, event, argument):
            nonlocal calls
            if event == "line" and "speculative" in frame.f_code.co_filename:
                calls += 1
                if calls == 7 * stop_at:  # noqa: B023
                    raise KeyboardInterrupt
            return trace

        cache = KVCache(model.config, 1, len(second) + 40)
        seen = []
        sys.settrace(trace)
        try:
            pangu_ops.generate(model, second, max_new_tokens=40, speculative=drafter, cache=cache, callback=seen.append)
        except KeyboardInterrupt:
            assert cache.lengths[0] < len(second) + max(1, len(seen))
        finally:
            sys.settrace(None)
        assert seen == two[: len(seen)]
        if stop_at % 2:
            assert pangu_ops.generate(model, first, max_new_tokens=8, speculative=drafter) == one[:8]
        rest = pangu_ops.generate(model, second + seen, max_new_tokens=5, speculative=drafter, cache=cache)
        assert rest == two[len(seen) : len(seen) + 5] or len(seen) > 35
        assert pangu_ops.generate(model, first, max_new_tokens=8, speculative=drafter) == one[:8]


def other_model():
    """Like the tiny one, but for one layer."""
    model = pangu_ops.load_model(DATA / "embedded-tiny")
    with torch.no_grad():
        model.layers[1].down.weight.mul_(-1)
    return model


@pytest.mark.parametrize("kind", ["none", "ngram", "model", "firp"])
def test_a_seed_gives_the_same_tokens_again(tiny, kind, monkeypatch):
    def new():
        firp = random_maps(tiny)
        del firp.length
        return {"ngram": NGram(shortest=1), "model": DraftModel(other_model()), "firp": firp}.get(kind)

    def run(seed, drafter, prompt=PROMPT * 2, count=40):
        return pangu_ops.generate(tiny, prompt, count, temperature=0.7, top_k=20, seed=seed, speculative=drafter)

    drafter = new()
    wanted = run(3, drafter)
    assert drafter is None or drafter.accepted < drafter.drafted and (kind == "ngram" or drafter.accepted > 0)
    assert run(3, new()) == wanted != run(4, new())
    for count in range(len(PROMPT) - 4, len(PROMPT) + 5):  # it has seen another text, about as long as the prompt
        run(9, drafter, PROMPT[::-1], count)
        assert run(3, drafter) == wanted
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() / 1000)  # a faster machine
    assert run(3, new()) == wanted


def three_tokens(seed):
    """A random model that knows no more than three tokens, so that every text of it can be counted."""
    torch.manual_seed(seed)
    sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
    model = EmbeddedForCausalLM(EmbeddedConfig(vocab_size=3, eos_token_id=2, initializer_range=0.7, **sizes))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["none", "repeat", "model", "firp"])
def test_sampled_text_has_the_models_distribution(kind):
    """The first three tokens of 2000 texts: every share of the 27 within 4.5 deviations."""
    model, prompt, options, counts, runs = three_tokens(0), [0, 1, 2], dict(temperature=4.0, top_p=0.97), {}, 2000
    drafter = {
        "repeat": always(Guess(lambda ids: ids[-1]), 2),
        "model": always(DraftModel(three_tokens(1)), 2),
        "firp": random_maps(model, 2),
        "none": None,
    }[kind]
    for seed in range(runs):
        text = tuple(pangu_ops.generate(model, prompt, 3, seed=seed, speculative=drafter, **options))
        counts[text] = counts.get(text, 0) + 1
    if drafter is not None:
        assert 0.1 * drafter.drafted < drafter.accepted < 0.95 * drafter.drafted

    def follow(text, probability):
        if len(text) == 3:
            return {text: probability}
        logits = model(torch.tensor([prompt + list(text)]), last=1)[0]
        probs = pangu_ops.sampling_probs(logits, **options)[0].tolist()
        return {k: v for token, p in enumerate(probs) for k, v in follow((*text, token), probability * p).items()}

    wanted = follow((), 1.0)
    assert len(wanted) == 27 and sum(wanted.values()) == pytest.approx(1)
    for text, share in wanted.items():
        deviation = math.sqrt(share * (1 - share) / runs)
        assert abs(counts.get(text, 0) / runs - share) <= 4.5 * deviation, (text, counts.get(text, 0) / runs, share)


def test_uniforms_belong_to_their_request():
    numbers = uniforms([3, -5, 2**64 - 1], [10, 11, 10], 4)
    assert numbers.shape == (3, 5) and numbers.dtype == torch.float32
    for row, (seed, position) in enumerate(((3, 10), (-5, 11), (-1, 10))):
        assert torch.equal(uniforms([seed], [position], 4)[0], numbers[row])  # not on its batch mates
    short = uniforms([3], [10], 2)[0]
    assert torch.equal(short[:2], numbers[0, :2]) and short[2] == numbers[0, 4]  # nor on the padding
    assert len({*numbers.flatten().tolist(), *uniforms([3], [10], 4, stream=1)[0].tolist()}) == 20
    many = uniforms(range(2000), [7] * 2000, 3)
    assert 0 <= many.min() < 0.001 and 0.999 < many.max() < 1
    assert abs(many.mean() - 0.5) < 0.015 and abs(torch.corrcoef(many.T)[0, 1]) < 0.1


def test_ngrams_by_hand():
    drafter, sampling = NGram(most=4, longest=3, shortest=2), Sampling()
    assert drafter.propose([1, 2, 3, 4, 1, 2], 3, sampling) == ([3, 4, 1], None)
    assert drafter.propose([1, 2, 3, 4, 1, 2, 9, 1, 2], 2, sampling) == ([9, 1], None)  # the latest one
    assert drafter.propose([1, 2, 3, 4, 1, 2, 9, 1, 2, 9], 3, sampling) == ([1, 2, 9], None)  # and round again
    assert drafter.propose([1, 2, 3], 3, sampling) == ([], None)  # another text
    assert drafter.propose([5, 5, 5], 4, sampling) == ([5, 5, 5, 5], None)
    assert NGram().propose([5], 4, sampling) == ([], None)


def test_an_ngram_drafter_that_was_stopped_reads_again():
    class Stops(list):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            if self.reads == 12:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    drafter, sampling = NGram(), Sampling()
    with pytest.raises(KeyboardInterrupt):
        drafter.propose(Stops([1, 2, 3, 4, 1, 2, 3, 9, 9]), 4, sampling)
    assert drafter.propose([1, 2, 3, 4], 4, sampling) == ([], None)


def test_a_draft_model_must_know_the_same_tokens(tiny, tmp_path):
    with pytest.raises(ModelError, match="^draft: the vocabulary must be the model's, of 300 tokens, came 720$"):
        pangu_ops.generate(tiny, PROMPT, speculative=DraftModel(pangu_ops.load_model(DRAFT)))
    with pytest.raises(ModelError, match="^tokenizer.model: must be in .*, which has no such file$"):
        DraftModel.load(DRAFT, tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"another")
    with pytest.raises(ModelError, match="^draft: tokenizer.model of .* must be that of .*, came another one$"):
        DraftModel.load(DRAFT, tmp_path)


def test_drafts_need_no_room_that_the_text_does_not(tiny):
    prompt = list(range(50))
    wanted = pangu_ops.generate(tiny, prompt, 15)
    for kind in ("right", "firp", "model"):
        for options in (dict(max_length=65), dict(max_length=500, num_blocks=2)):
            cache = KVCache(tiny.config, 1, **options)
            drafter = drafter_of(kind, tiny, prompt + wanted)
            assert pangu_ops.generate(tiny, prompt, 15, cache=cache, speculative=drafter) == wanted


def test_generate_refuses_what_is_no_drafter_and_two_sequences(tiny):
    with pytest.raises(ModelError, match="^generate: speculative must be a Drafter, came ngram$"):
        pangu_ops.generate(tiny, PROMPT, speculative="ngram")
    with pytest.raises(ModelError, match="^generate: the cache must be for one sequence, came 2$"):
        pangu_ops.generate(tiny, PROMPT, cache=KVCache(tiny.config, 2, 64))


def test_drafters_refuse_what_makes_no_sense(tiny, tmp_path):
    for options in (dict(most=0), dict(shortest=0), dict(longest=1)):
        with pytest.raises(ModelError, match="^draft: .* must be at least [12], came [01]$"):
            NGram(**options)
    with pytest.raises(ModelError, match="^draft: most must be at least 1, came 0$"):
        DraftModel(tiny, 0)
    with pytest.raises(ModelError, match="^draft: firp.safetensors must be in .*, came without it$"):
        Firp.load(tmp_path)
    (tmp_path / Firp.FILE).write_bytes(b"\0" * 9)
    with pytest.raises(ModelError, match="^firp.safetensors: must hold weight, bias and the layer, came others"):
        Firp.load(tmp_path)
    hidden, layers = tiny.config.hidden_size, tiny.config.num_hidden_layers
    for firp in (
        Firp(torch.zeros(2, 3, 3), torch.zeros(2, 3), 1),
        *(Firp(torch.zeros(2, hidden, hidden), torch.zeros(2, hidden), at) for at in (0, layers)),
    ):
        with pytest.raises(ModelError, match=f"^draft: maps must be .k, {hidden}, {hidden}. before a layer from 1 to"):
            pangu_ops.generate(tiny, PROMPT, speculative=firp)
