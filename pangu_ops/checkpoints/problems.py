"""Arithmetic of graded difficulty that the small dual-system checkpoint is trained on and asked.

``python -m pangu_ops.checkpoints.problems`` prints some. A kind of problem is a function of a random generator and a
level from 1 (a child does it in the head) to 3 (most people take a sheet of paper); it returns the problem, one
wording of it, the worked steps and the answer. As in questions.py a hash of the problem holds one in ten out.
"""

import itertools
import random
from typing import NamedTuple

from pangu_ops.checkpoints.questions import is_held_out

LEVELS = (1, 2, 3)
NAMES = ("Tom", "Eva", "Rob", "Ina", "Leo", "Mia")
THINGS = ("stones", "stars", "birds", "cents", "fish", "tables")


class Problem(NamedTuple):
    kind: str
    level: int
    text: str
    steps: str
    answer: str


def number(rng, digits):
    return rng.randint(10 ** (digits - 1), 10**digits - 1)


def operands(rng, level):
    """Two numbers of up to 2, 3 or 5 digits."""
    if level == 1:
        return number(rng, rng.choice((1, 2, 2, 2))), number(rng, rng.choice((1, 2, 2, 2)))
    digits = 3 if level == 2 else rng.choice((4, 5))
    return number(rng, digits), number(rng, digits - rng.choice((0, 0, 1)))


def columns(a, b):
    """Column addition from the right: the sum of every pair of digits, with what is carried."""
    steps, carry = [], 0
    while a or b:
        x, y = a % 10, b % 10
        total = x + y + carry
        steps.append(f"{x}+{y}{'+1' if carry else ''}={total}")
        carry, a, b = total // 10, a // 10, b // 10
    return ",".join(steps)


def borrowing(a, b):
    """Column subtraction ``a - b`` from the right; what a column borrows is added to its upper digit at once."""
    steps, borrow = [], 0
    while a or b:
        x, y = a % 10 - borrow, b % 10
        borrow = int(x < y)
        steps.append(f"{x + 10 * borrow}-{y}={x + 10 * borrow - y}")
        a, b = a // 10, b // 10
    return ",".join(steps)


def digit_product(a, b):
    """Products of the digits of ``a`` with the digit ``b``, from the right, with what is carried."""
    steps, carry = [], 0
    while a:
        total = a % 10 * b + carry
        steps.append(f"{a % 10}*{b}{f'+{carry}' if carry else ''}={total}")
        carry, a = total // 10, a // 10
    return ",".join(steps)


def add(rng, level):
    a, b = operands(rng, level)
    text = rng.choice(("What is {} + {}?", "{} + {} = ?", "{}加{}等于多少？")).format(a, b)
    return (min(a, b), max(a, b)), text, f"{a}+{b}:{columns(a, b)}:{a + b}", a + b


def subtract(rng, level):
    b, a = sorted(operands(rng, level))
    text = rng.choice(("What is {} - {}?", "{} - {} = ?", "{}减{}等于多少？")).format(a, b)
    return (a, b), text, f"{a}-{b}:{borrowing(a, b)}:{a - b}", a - b


def multiply(rng, level):
    if level < 3:
        a, b = number(rng, rng.choice({1: (1, 1, 2), 2: (2, 3, 3)}[level])), rng.randint(2, 5 if level == 1 else 9)
        steps = f"{a}*{b}:{digit_product(a, b)}:{a * b}"
    else:
        a, b = rng.randint(11, 99), rng.randint(11, 99)
        ones, tens = a * (b % 10), 10 * a * (b // 10)
        steps = f"{a}*{b % 10}={ones},{a}*{b // 10}0={tens}:{columns(ones, tens)}:{a * b}"
    text = rng.choice(("What is {} * {}?", "{} * {} = ?", "What is {} times {}?")).format(a, b)
    return (min(a, b), max(a, b)), text, steps, a * b


def story(rng, level):
    """Somebody's things become more and fewer, in 1, 2 or 4 steps; the numbers of two steps are small."""
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    most = 15 if level == 2 else 40
    have = rng.randint(2, 20 if level == 2 else 60)
    facts, steps, path = [f"{name} has {have} {things}."], [], [have]
    for change in changes(rng, {1: 1, 2: 2, 3: 4}[level]):
        if change == "more":
            more = rng.randint(2, most)
            fact, step, now = f"{more} come in.", f"{have}+{more}", have + more
        elif change == "fewer" and have > 3:
            fewer = rng.randint(2, min(have - 1, most))
            fact, step, now = f"{fewer} are out.", f"{have}-{fewer}", have - fewer
        elif change == "twice" and have < 120:
            fact, step, now = "Then twice as many.", f"{have}+{have}", 2 * have
        else:
            times, each = rng.randint(2, 6), rng.randint(2, 5 if level == 2 else 9)
            steps.append(f"{times}*{each}={times * each}")
            fact, step, now = f"{times} times {each} come in.", f"{have}+{times * each}", have + times * each
        facts.append(fact)
        steps.append(f"{step}={now}")
        path.append(now)
        have = now
    text = f"{' '.join(facts)} How many {things} has {name}?"
    return facts, text, f"{path[0]},{','.join(steps)}:{have}", have


def changes(rng, count):
    return [rng.choice(("more", "more", "fewer", "fewer", "twice", "times")) for _ in range(count)]


KINDS = {kind.__name__: kind for kind in (add, subtract, multiply, story)}


def pose(kind, level, rng, held_out):
    """One :class:`Problem` from the held-out ones or from those for training."""
    while True:
        problem, text, steps, answer = KINDS[kind](rng, level)
        if is_held_out(kind, problem) == held_out:
            return Problem(kind, level, text, steps, str(answer))


def different_problems(number, seed=0, held_out=True):
    """``number`` different problems, the kinds and levels in turn; one that has no more is passed over."""
    rng, problems = random.Random(seed), {}
    for kind, level in itertools.cycle([(kind, level) for level in LEVELS for kind in KINDS]):
        if len(problems) == number:
            return list(problems.values())
        problem = pose(kind, level, rng, held_out)
        problems.setdefault(problem.text, problem)


if __name__ == "__main__":
    for problem in different_problems(2 * len(LEVELS) * len(KINDS)):
        print(f"{problem.kind} {problem.level}  {problem.text}  ->  {problem.steps}  ->  {problem.answer}")
