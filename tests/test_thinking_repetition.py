"""The detector against a count over the whole window, on loops, and on arithmetic that only looks like one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangu_ops.checkpoints import PRO_MOE
from pangu_ops.checkpoints.problems import KINDS, LEVELS, pose
from pangu_ops.models.config import ModelError
from pangu_ops.models.tokenizer import Tokenizer
from pangu_ops.thinking.repetition import WAY_OUT, RepetitionDetector


@given(
    ids=st.lists(st.integers(0, 2), max_size=60),
    n=st.integers(1, 4),
    more=st.integers(0, 16),
    limit=st.integers(2, 4),
)
def test_it_equals_a_count_over_the_window(ids, n, more, limit):
    detector = RepetitionDetector(n, n + more, limit)
    for end in range(1, len(ids) + 1):
        seen = ids[max(0, end - n - more) : end]
        grams = [seen[start : start + n] for start in range(len(seen) - n + 1)]
        assert detector.push(ids[end - 1]) == (end >= n and grams.count(seen[-n:]) >= limit)
    assert len(detector.grams) <= more + 1 and sum(detector.counts.values()) == len(detector.grams)
    assert 0 not in detector.counts.values()


def pushed_until_found(detector, ids):
    return next((count for count, id in enumerate(ids, 1) if detector.push(id)), None)


@pytest.mark.parametrize("period", [*range(1, 17), 116])
def test_loops_are_found(period):
    rng = random.Random(period)
    before = rng.sample(range(1000, 2000), 100)
    loop = rng.sample(range(1000), period)
    found = pushed_until_found(RepetitionDetector(), before + loop * 40)
    assert found == len(before) + 2 * period + 24


def test_a_loop_longer_than_the_window_holds_is_not_found():
    assert pushed_until_found(RepetitionDetector(), list(range(117)) * 20) is None


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(PRO_MOE)


def test_worked_arithmetic_is_no_loop(tokenizer):
    rng = random.Random(0)
    for number in range(300):
        problem = pose(list(KINDS)[number % 4], LEVELS[number // 4 % 3], rng, held_out=number % 2 == 0)
        ids = tokenizer.encode(f"[unused16]{problem.steps}[unused17]{problem.answer}[unused10]")
        assert pushed_until_found(RepetitionDetector(), ids) is None, problem


def test_an_answer_that_repeats_its_steps_is_a_loop(tokenizer):
    ids = tokenizer.encode("[unused16]" + "47+38:7+8=15,4+3+1=8:85," * 3)
    assert pushed_until_found(RepetitionDetector(), ids) is not None


def test_nothing_is_known_after_a_reset():
    detector = RepetitionDetector(n=2, window=20, limit=2)
    ids = [1, 2, 3]
    assert [detector.push(id) for id in ids * 2] == [False] * 4 + [True] * 2
    detector.reset()
    assert [detector.push(id) for id in ids * 2] == [False] * 4 + [True] * 2


def test_the_way_out_is_short_text(tokenizer):
    ids = tokenizer.encode(WAY_OUT)
    assert len(ids) < 64 and not set(ids[1:]) & set(tokenizer.control_ids.values())


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(n=0), "n must be at least 1, came 0"),
        (dict(n=8, window=7), "window must be at least 8, came 7"),
        (dict(limit=1), "limit must be at least 2, came 1"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ModelError, match=f"^repetition: {message}$"):
        RepetitionDetector(**options)
