"""How long choosing between fast and slow thinking takes, with a full memory of recent queries."""

import itertools
import random

import pytest

from pangu_ops.checkpoints.problems import different_problems
from pangu_ops.testing.bench import Contest
from pangu_ops.thinking.auto import Metacognition
from pangu_ops.thinking.general import EASY, HARD

ON_GPU = False  # it runs on the CPU alone
PROBLEMS = different_problems(5000, seed=1)
RNG = random.Random(0)
# More of each than the difficulty is remembered of.
TEXTS = {
    "mixed queries": [*EASY, *HARD, *(problem.text for problem in PROBLEMS)],
    "stories alike": [problem.text for problem in PROBLEMS if problem.kind == "story"],
    "long texts": [" ".join(RNG.sample([*EASY, *HARD], 60)) for _ in range(1500)],
}


def prepare(texts):
    metacognition, turn = Metacognition(), itertools.cycle(texts)
    for text in texts[:512]:
        metacognition.recent.record(text, "fast", 20, 0.05)
    return lambda: metacognition.decide(next(turn), prompt_tokens=40), {}


def contests():
    for name, texts in TEXTS.items():
        yield Contest(f"decide, {name}", lambda texts=texts: prepare(texts))


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_thinking(benchmark, contest):
    contest.benchmark(benchmark)
