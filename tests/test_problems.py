"""The generator of problems: every step and answer computed again another way, and nothing held out in training."""

import random
import re

import pytest

from pangu_ops.checkpoints.lessons import LESSONS
from pangu_ops.checkpoints.problems import KINDS, LEVELS, different_problems, pose
from pangu_ops.thinking.modes import parse

GRID = [(kind, level) for kind in KINDS for level in LEVELS]


def problems_of(kind, level, number=200):
    rng = random.Random(f"{kind} {level}")
    return [pose(kind, level, rng, held_out=rng.random() < 0.5) for _ in range(number)]


def computed(text):
    """The answer, from the question alone."""
    numbers = [int(digits) for digits in re.findall(r"\d+", text)]
    if "加" in text or "+" in text:
        return sum(numbers)
    if "减" in text or " - " in text:
        return numbers[0] - numbers[1]
    if "*" in text or re.match(r"What is \d+ times", text):
        return numbers[0] * numbers[1]
    have = numbers[0]
    for fact in text.split(". ")[1:]:
        numbers = [int(digits) for digits in re.findall(r"\d+", fact)]
        if "twice" in fact:
            have *= 2
        elif "times" in fact:
            have += numbers[0] * numbers[1]
        elif numbers:
            have += numbers[0] if "come in" in fact else -numbers[0]
    return have


@pytest.mark.parametrize("kind, level", GRID)
def test_every_step_and_answer_is_right(kind, level):
    for problem in problems_of(kind, level):
        assert int(problem.answer) == computed(problem.text), problem
        assert problem.steps.endswith(f":{problem.answer}")
        equations = re.findall(r"([\d+*-]+)=(\d+)", problem.steps)
        assert equations
        for left, right in equations:
            terms = [
                int(a) * int(b or 1) for a, b in re.findall(r"(?<![\d*])(\d+)(?:\*(\d+))?", left.replace("-", "+"))
            ]
            total = terms[0] - sum(terms[1:]) if "-" in left else sum(terms)
            assert total == int(right), (problem, left, right)


def digits(problem):
    """The digits of a sum's steps, put together as its answer."""
    columns = [right for _, right in re.findall(r"([^,:]+)=(\d+)", problem.steps)]
    return int(columns[-1] + "".join(column[-1] for column in columns[-2::-1]))


@pytest.mark.parametrize("kind", ["add", "subtract"])
def test_the_columns_make_the_answer(kind):
    for level in LEVELS:
        for problem in problems_of(kind, level):
            assert digits(problem) == int(problem.answer), problem


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_level_takes_more_steps(kind):
    steps = [sum(len(problem.steps) for problem in problems_of(kind, level)) for level in LEVELS]
    assert steps == sorted(steps) and steps[-1] > 1.2 * steps[0]


def test_held_out_problems_are_different_and_never_trained_on():
    held_out = different_problems(500)
    texts = {problem.text for problem in held_out}
    assert len(texts) == 500 and held_out == different_problems(500) != different_problems(500, seed=1)
    rng = random.Random(1)
    assert not texts & {pose(kind, level, rng, held_out=False).text for kind, level in GRID for _ in range(1000)}
    counts = [sum((problem.kind, problem.level) == key for problem in held_out) for key in GRID]
    assert min(counts) >= 20  # of about 42: of the small products there are no more


def test_more_problems_than_a_kind_has_are_still_found():
    assert len({problem.text for problem in different_problems(3000)}) == 3000


def test_the_lesson_answers_each_mode_in_its_way():
    lesson, rng = LESSONS["embedded"], random.Random(0)
    for key in lesson.keys:
        kind, level, mode = key.split()
        for _ in range(20):
            example = lesson.example(key, rng)
            thought = parse(example.answer)
            question = example.messages[-1]["content"]
            tag = {"fast": " /no_think", "slow": "?", "model": " /auto_think"}[mode]
            assert question.endswith(tag) or mode == "slow" and "/" not in question
            assert int(thought.answer) == computed(question)
            assert bool(thought.thinking) == (mode == "slow" or mode == "model" and level == "3")
    lengths = {len(lesson.example(lesson.keys[0], rng).messages) for _ in range(100)}
    assert lengths == {1, 3}  # some have an earlier turn
