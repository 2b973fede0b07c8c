"""The questions that the shipped checkpoint is trained on and asked: ``python -m pangu_ops.checkpoints.questions``.

A kind of question is a function of a random generator that returns the problem, one wording of it and the answer.
The problem decides by its hash whether a question is held out, so that no wording of a held-out problem, and no
swap of its operands, is ever trained on.
"""

import hashlib
import random
from datetime import date, timedelta
from typing import NamedTuple

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
CHINESE_DAYS = ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
ONES = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
OPPOSITES = (
    ("hot", "cold"),
    ("big", "small"),
    ("tall", "short"),
    ("fast", "slow"),
    ("old", "new"),
    ("wet", "dry"),
    ("light", "dark"),
    ("hard", "soft"),
    ("open", "closed"),
    ("full", "empty"),
    ("high", "low"),
    ("early", "late"),
    ("near", "far"),
    ("rich", "poor"),
    ("strong", "weak"),
    ("happy", "sad"),
    ("clean", "dirty"),
    ("left", "right"),
    ("true", "false"),
    ("loud", "quiet"),
)
OPPOSITE = dict(OPPOSITES) | {second: first for first, second in OPPOSITES}
NOUNS = (
    "apple",
    "bird",
    "boat",
    "book",
    "cat",
    "chair",
    "cloud",
    "dog",
    "fish",
    "house",
    "moon",
    "river",
    "road",
    "star",
    "stone",
    "sun",
    "table",
    "tree",
    "water",
    "wind",
)
HELD_OUT_SHARE = 10  # one problem in ten


class Question(NamedTuple):
    kind: str
    text: str
    answer: str
    held_out: bool


def number(rng, most_digits):
    """A number of 1 to ``most_digits`` digits; long ones are the more likely, as they are more and harder."""
    digits = max(rng.randint(1, most_digits), rng.randint(1, most_digits))
    return rng.randint(10 ** (digits - 1), 10**digits - 1)


def add(rng):
    a, b = number(rng, 2), number(rng, 2)
    text = rng.choice(("What is {} + {}?", "{} + {} = ?", "Add {} and {}.", "{}加{}等于多少？")).format(a, b)
    return (min(a, b), max(a, b)), text, a + b


def subtract(rng):
    b, a = sorted((number(rng, 2), number(rng, 2)))
    text = rng.choice(("What is {0} - {1}?", "{0} - {1} = ?", "Subtract {1} from {0}.", "{0}减{1}等于多少？"))
    return (a, b), text.format(a, b), a - b


def double(rng):
    a = number(rng, 3)
    return a, rng.choice(("What is twice {}?", "Double {}.")).format(a), 2 * a


def halve(rng):
    a = 2 * rng.randint(1, 499)
    return a, rng.choice(("What is half of {}?", "Halve {}.")).format(a), a // 2


def compare(rng):
    a, b = rng.sample(range(1, 1000), 2)
    if rng.random() < 0.5:  # numbers that share their first digits are rare otherwise
        b = a // 10 * 10 + (a + rng.randint(1, 9)) % 10
    text, pick = rng.choice(
        (("Which is larger, {} or {}?", max), ("Which is smaller, {} or {}?", min), ("{}和{}哪个大？", max))
    )
    return (min(a, b), max(a, b)), text.format(a, b), pick(a, b)


def extreme(rng):
    numbers = rng.sample(range(10, 100), 3)
    word, pick = rng.choice((("largest", max), ("smallest", min)))
    text = f"What is the {word} of {', '.join(map(str, numbers))}?"
    return sorted(numbers), text, pick(numbers)


def sort(rng):
    numbers = rng.sample(range(10, 100), 3)
    word, falling = rng.choice((("rising", False), ("falling", True)))
    text = f"Sort in {word} order: {', '.join(map(str, numbers))}"
    return sorted(numbers), text, ", ".join(map(str, sorted(numbers, reverse=falling)))


def parity(rng):
    a = number(rng, 4)
    if rng.random() < 0.25:
        return a, f"{a}是奇数还是偶数？", "偶数" if a % 2 == 0 else "奇数"
    return a, f"Is {a} odd or even?", "even" if a % 2 == 0 else "odd"


def words(rng):
    a = rng.randint(1, 999)
    return a, rng.choice(("Write {} in words.", "Spell out {}.")).format(a), in_words(a)


def figures(rng):
    a = rng.randint(1, 999)
    return a, f"Write {in_words(a)} in figures.", a


def in_words(a):
    if a >= 100:
        rest = f" and {in_words(a % 100)}" if a % 100 else ""
        return f"{ONES[a // 100]} hundred{rest}"
    if a < 20:
        return ONES[a]
    return TENS[a // 10] + (f"-{ONES[a % 10]}" if a % 10 else "")


def month_length(rng):
    year, index = rng.randint(1901, 2099), rng.choice((rng.randint(1, 12), 2))
    length = (date(year + index // 12, index % 12 + 1, 1) - date(year, index, 1)).days
    text = rng.choice((f"How many days are in {MONTHS[index - 1]} {year}?", f"{year}年{index}月有几天？"))
    return (year, index), text, length


def month(rng):
    start, year, shift = rng.randrange(12), rng.randint(1901, 2099), rng.randint(1, 11)
    before = rng.random() < 0.5
    years, index = divmod(start - shift if before else start + shift, 12)
    text = f"Which month is {plural(shift, 'month')} {'before' if before else 'after'} {MONTHS[start]} {year}?"
    return (start, year, shift, before), text, f"{MONTHS[index]} {year + years}"


def month_order(rng):
    months = rng.sample(MONTHS, rng.randint(3, 4))
    return sorted(months), f"Put in order: {', '.join(months)}", ", ".join(sorted(months, key=MONTHS.index))


def calendar(rng):
    """The day before or after one of a year in which February has 28 days."""
    weekday, day = rng.randrange(7), date(2001, 1, 1) + timedelta(rng.randrange(365))
    shift = rng.choice((-1, 1))
    other = (weekday + shift) % 7, day + timedelta(shift)
    if rng.random() < 0.25:
        text = f"今天是{day.month}月{day.day}日{CHINESE_DAYS[weekday]}。{'明天' if shift > 0 else '昨天'}呢？"
        answer = f"{other[1].month}月{other[1].day}日{CHINESE_DAYS[other[0]]}"
    else:
        question = "What is tomorrow?" if shift > 0 else "What was yesterday?"
        text = f"It is {DAYS[weekday]}, {in_month(day)}. {question}"
        answer = f"{DAYS[other[0]]}, {in_month(other[1])}"
    return (weekday, day.month, day.day, shift), text, answer


def clock(rng):
    hour, minute, shift = rng.randrange(24), rng.randrange(60), rng.randint(1, 12)
    before = rng.random() < 0.5
    text = f"What time is {plural(shift, 'hour')} {'before' if before else 'after'} {hour:02}:{minute:02}?"
    return (hour, minute, shift, before), text, f"{(hour - shift if before else hour + shift) % 24:02}:{minute:02}"


def units(rng):
    large, small, factor = rng.choice((("hour", "minute", 60), ("metre", "centimetre", 100), ("euro", "cent", 100)))
    a, b = rng.randint(1, 3 if factor == 60 else 9), rng.randint(1, factor - 1)
    text = f"How many {small}s are {plural(a, large)} and {plural(b, small)}?"
    return (large, a, b), text, a * factor + b


def count(rng):
    letter, others = rng.choice("abcdex"), rng.choice(("mn", "rst", "yz"))
    items = [letter if rng.random() < 0.45 else rng.choice(others) for _ in range(rng.randint(3, 8))]
    return (letter, *items), f"How many times is {letter} in: {' '.join(items)}?", items.count(letter)


def opposites(rng):
    asked = rng.sample(sorted(OPPOSITE), 2)
    return asked, f"What are the opposites of {listed(asked)}?", listed([OPPOSITE[word] for word in asked])


def backwards(rng):
    asked = rng.sample(NOUNS, rng.randint(2, 3))
    return asked, f"Say backwards: {' '.join(asked)}", " ".join(reversed(asked))


def plural(amount, unit):
    return f"{amount} {unit}{'' if amount == 1 else 's'}"


def listed(items):
    return f"{', '.join(items[:-1])} and {items[-1]}"


def in_month(day):
    return f"{MONTHS[day.month - 1]} {day.day}"


KINDS = {
    kind.__name__: kind
    for kind in (
        add,
        subtract,
        double,
        halve,
        compare,
        extreme,
        sort,
        parity,
        words,
        figures,
        month_length,
        month,
        month_order,
        calendar,
        clock,
        units,
        count,
        opposites,
        backwards,
    )
}


def is_held_out(kind, problem):
    """Whether a hash keeps ``problem`` away from training; the same on every machine."""
    digest = hashlib.sha256(f"{kind} {problem}".encode()).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0


def ask(kind, rng, held_out):
    """One :class:`Question` of ``kind`` from the held-out problems or from those for training."""
    while True:
        problem, text, answer = KINDS[kind](rng)
        if is_held_out(kind, problem) == held_out:
            return Question(kind, text, str(answer), held_out)


def held_out_questions(number, seed=0):
    """``number`` different held-out questions, the kinds in turn."""
    rng, questions, kinds = random.Random(seed), {}, list(KINDS)
    while len(questions) < number:
        question = ask(kinds[len(questions) % len(kinds)], rng, held_out=True)
        questions.setdefault(question.text, question)
    return list(questions.values())


if __name__ == "__main__":
    for question in held_out_questions(2 * len(KINDS)):
        print(f"{question.kind:13} {question.text}  ->  {question.answer}")
