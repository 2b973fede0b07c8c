"""The length of a draft follows what is accepted and what it costs; the clock is made up here."""

import random

from pangu_ops.speculative.length import DraftLength


def simulate(length, rate, cost, row, steps=400, seed=0):
    """Tokens per second over steps without drafts' one token per second, and the drafts of the last steps."""
    rng, tokens, seconds, counts = random.Random(seed), 0, 0.0, []
    for _ in range(steps):
        count = length.choose(room=100)
        accepted = next((index for index in range(count) if rng.random() >= rate), count)
        draft, step = count * cost, 1 + row * count
        length.record(count, accepted, draft, step)
        tokens, seconds = tokens + accepted + 1, seconds + draft + step
        counts.append(count)
    return tokens / seconds, counts


def test_the_length_follows_what_pays():
    speed, counts = simulate(DraftLength(8), rate=0.95, cost=0.01, row=0.02)
    assert counts[0] == 0 and min(counts[-50:]) >= 6 and speed > 4
    speed, counts = simulate(DraftLength(8), rate=0.6, cost=0.1, row=0.1)
    assert 1 <= min(counts[-50:]) and max(counts[-50:]) <= 4 and speed > 1.3
    for cost, row in ((0.5, 0.05), (0.0, 1.0), (0.2, 0.2)):  # nothing is right, or all is but costs too much
        speed, counts = simulate(DraftLength(8), rate=0.0, cost=cost, row=row)
        assert sum(map(bool, counts[-100:])) <= 2 and speed > 0.95
    speed, counts = simulate(DraftLength(8), rate=0.99, cost=1.5, row=0.5)
    assert speed > 0.95


def test_the_length_comes_back():
    length = DraftLength(8)
    simulate(length, rate=0.0, cost=0.05, row=0.05, steps=300)
    speed, counts = simulate(length, rate=0.95, cost=0.05, row=0.05, steps=300)
    assert min(counts[-50:]) >= 4 and speed > 2


def test_a_draft_that_has_to_be_begun_again_pays_later():
    """Half of the drafts fail, and each failure takes a step that makes one token: that is part of the price."""
    lengths = []
    for seeds in (False, True):
        length = DraftLength(1)
        length.choose(1)
        length.record(0, 0, 0.0, 1.0)
        for accepted in [1, 0] * 50:
            length.record(1, accepted, 0.0, 1.4)
            if seeds:
                length.record(0, 0, 0.0, 2.0, seeds=True)
        lengths.append(length.choose(1))
    assert lengths == [1, 0]  # 1.5 tokens for 1.4 steps; but 2 tokens for 1.4 and half of 2


def test_without_a_clock_lengths_repeat():
    runs = []
    for seconds in (1.0, 3.0):
        length = DraftLength(6, cost=0.2, clock=False)
        runs.append([])
        for step in range(60):
            runs[-1].append(length.choose(6))
            length.record(runs[-1][-1], runs[-1][-1] // 2, seconds * step, seconds, seeds=step % 3 == 0)
    assert runs[0] == runs[1] and max(runs[0]) > 0
