"""The generator of questions: every answer computed again another way, and no held-out problem in training."""

import random
import re
from datetime import datetime, timedelta

import pytest

from pangu_ops.checkpoints.questions import KINDS, ask, held_out_questions, in_words


def questions_of(kind, number=300):
    rng = random.Random(kind)
    return [ask(kind, rng, held_out=rng.random() < 0.5) for _ in range(number)]


def numbers(text):
    return [int(digits) for digits in re.findall(r"\d+", text)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_asks_the_same_questions(kind):
    assert questions_of(kind, 20) == questions_of(kind, 20)
    assert len({question.text for question in questions_of(kind)}) > 150


def test_held_out_questions_are_all_different_and_take_the_kinds_in_turn():
    questions = held_out_questions(500)
    assert len({question.text for question in questions}) == 500
    counts = [sum(question.kind == kind for question in questions) for kind in KINDS]
    assert max(counts) - min(counts) <= 1
    assert questions == held_out_questions(500) != held_out_questions(500, seed=1)


def test_no_held_out_question_is_ever_trained_on():
    held_out = {question.text for question in held_out_questions(500)}
    rng = random.Random(1)
    trained = {ask(kind, rng, held_out=False).text for kind in KINDS for _ in range(2000)}
    assert not held_out & trained


def test_every_wording_of_a_problem_is_on_the_same_side():
    rng, side = random.Random(2), {}
    for _ in range(4000):
        held_out = rng.random() < 0.5
        question = ask("add", rng, held_out)
        assert side.setdefault(tuple(sorted(numbers(question.text))), held_out) == held_out


@pytest.mark.parametrize(
    "kind, operation",
    [
        ("add", lambda a, b: a + b),
        ("subtract", lambda a, b: abs(a - b)),
        ("double", lambda a: a + a),
        ("halve", lambda a: a / 2),
    ],
)
def test_arithmetic(kind, operation):
    for question in questions_of(kind):
        assert int(question.answer) == operation(*numbers(question.text)) >= 0, question


@pytest.mark.parametrize("kind", ["compare", "extreme"])
def test_larger_and_smaller(kind):
    for question in questions_of(kind):
        pick = min if "small" in question.text else max
        assert int(question.answer) == pick(numbers(question.text)), question


def test_sort():
    for question in questions_of("sort"):
        assert numbers(question.answer) == sorted(numbers(question.text), reverse="falling" in question.text)


def test_parity():
    for question in questions_of("parity"):
        even = str(numbers(question.text)[0])[-1] in "02468"
        assert question.answer in (("even", "偶数") if even else ("odd", "奇数")), question


def test_number_words():
    assert [in_words(n) for n in (7, 13, 40, 85, 100, 612)] == [
        "seven",
        "thirteen",
        "forty",
        "eighty-five",
        "one hundred",
        "six hundred and twelve",
    ]
    assert len({in_words(n) for n in range(1000)}) == 1000
    for question in questions_of("words"):
        assert question.answer == in_words(numbers(question.text)[0])
    for question in questions_of("figures"):
        assert question.text == f"Write {in_words(int(question.answer))} in figures."


def test_month():
    for question in questions_of("month"):
        shift, relation, start = re.fullmatch(r"Which month is (\d+) months? (\w+) (.*)\?", question.text).groups()
        start, end = (datetime.strptime(month, "%B %Y") for month in (start, question.answer))
        passed = 12 * (end.year - start.year) + end.month - start.month
        assert passed == int(shift) * (1 if relation == "after" else -1), question


def test_month_order():
    for question in questions_of("month_order"):
        asked, said = question.text.removeprefix("Put in order: ").split(", "), question.answer.split(", ")
        assert said == sorted(asked, key=lambda month: datetime.strptime(month, "%B")), question


def test_month_length():
    for question in questions_of("month_length"):
        if "年" in question.text:
            year, month = numbers(question.text)
        else:
            parsed = datetime.strptime(re.search(r"in (.*)\?", question.text)[1], "%B %Y")
            year, month = parsed.year, parsed.month
        last = next(day for day in (31, 30, 29, 28) if is_date(year, month, day))
        assert int(question.answer) == last, question


def is_date(year, month, day):
    try:
        return bool(datetime(year, month, day))
    except ValueError:
        return False


def test_calendar():
    for question in questions_of("calendar"):
        if "月" in question.text:
            pattern = r"今天是(\d+)月(\d+)日星期(.)。(明天|昨天)呢？"
            month, day, weekday, other = re.fullmatch(pattern, question.text).groups()
            start, week, form = datetime(2001, int(month), int(day)), "一二三四五六日", "{0.month}月{0.day}日星期{1}"
        else:
            pattern = r"It is (\w+), (\w+ \d+)\. What \w+ (tomorrow|yesterday)\?"
            weekday, day, other = re.fullmatch(pattern, question.text).groups()
            start, form = datetime.strptime(f"{day} 2001", "%B %d %Y"), "{1}, {0:%B} {0.day}"
            week = [f"{datetime(2024, 1, i):%A}" for i in range(1, 8)]
        step = 1 if other in ("明天", "tomorrow") else -1
        expected = form.format(start + timedelta(step), week[(week.index(weekday) + step) % 7])
        assert question.answer == expected, question


def test_clock():
    for question in questions_of("clock"):
        shift, relation, time = re.fullmatch(r"What time is (\d+) hours? (\w+) ([\d:]+)\?", question.text).groups()
        shift = timedelta(hours=int(shift) if relation == "after" else -int(shift))
        assert question.answer == f"{datetime.strptime(time, '%H:%M') + shift:%H:%M}", question


def test_units():
    factors = {"hour": 60, "metre": 100, "euro": 100}
    for question in questions_of("units"):
        a, b = numbers(question.text)
        assert int(question.answer) == a * factors[re.search(r"are \d (\w+?)s? ", question.text)[1]] + b, question


def test_words_in_lists():
    for question in questions_of("count"):
        letter, items = re.fullmatch(r"How many times is (\w) in: (.*)\?", question.text).groups()
        assert int(question.answer) == items.split().count(letter), question
    for question in questions_of("backwards"):
        assert question.text.split()[2:] == question.answer.split()[::-1], question
    pairs = [re.findall(r"(\w+) and (\w+)", q.text + " " + q.answer) for q in questions_of("opposites")]
    opposite = {word: other for asked, said in pairs for word, other in zip(asked, said, strict=True)}
    assert opposite["hot"] == "cold" and all(opposite[opposite[word]] == word for word in opposite)
