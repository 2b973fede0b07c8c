"""Features counted by hand, difficulty on queries that the fit never saw, and the fit itself."""

import json
import math
import random

import numpy as np
import pytest

import pangu_ops
from pangu_ops.checkpoints import PRO_MOE
from pangu_ops.checkpoints.problems import KINDS, LEVELS, different_problems, pose
from pangu_ops.checkpoints.questions import is_held_out
from pangu_ops.models.config import ModelError
from pangu_ops.models.tokenizer import Tokenizer
from pangu_ops.thinking import fit, query
from pangu_ops.thinking.general import EASY, HARD
from pangu_ops.thinking.query import FITTED, Query, analyse, difficulty


@pytest.mark.parametrize(
    "text, expected",
    [
        ("What is 47 + 138?", dict(numbers=2, longest=3, two_longest=5, operators=1, sentences=1, facts=1, direct=1)),
        ("What is the 3 1,000.5 time?", dict(numbers=2, longest=5, two_longest=6)),
        ("12, 3456, 7 and 891", dict(numbers=4, longest=4, two_longest=7)),
        ("12 * 345 = ?", dict(multiplication=1, product_digits=6, operators=2)),
        ("2 * 3 + 45 * 67 - 8 * 9", dict(multiplication=3, product_digits=4)),
        ("What is 12 times 34?", dict(multiplication=1, product_digits=4, operators=0)),
        ("12乘以3是多少？", dict(multiplication=1, product_digits=2, cjk=1.0)),
        ("Tom has 3 fish. 4 come in. Where?", dict(sentences=3, facts=2, story=6)),
        ("Version 3.5 came. Fine", dict(numbers=1, longest=2, sentences=2, facts=1, story=0)),
        ("Prove it and explain why", dict(work=1, reasoning=2)),
        ("Debug def f(x): return {}", dict(work=1, code=5)),
        ("证明并解释为什么", dict(work=1, reasoning=2)),
        ("It must cost at most that", dict(constraints=2, distinct=1.0, word_length=20 / 6)),
        ("no no No yes", dict(distinct=0.5, length=math.log(5), sentence_length=math.log(5))),
        ("中文 words", dict(cjk=2 / 3, length=math.log(3), word_length=5)),
        ("", dict.fromkeys(Query._fields, 0)),
        ("???", dict(length=0, numbers=0, facts=0)),
    ],
)
def test_features(text, expected):
    assert {name: getattr(analyse(text), name) for name in expected} == pytest.approx(expected)


def test_only_the_beginning_and_the_end_of_a_long_text_are_read():
    ends = "begins here " * 50, " ends here" * 60
    assert analyse(ends[0] + "prove 123 * 456 " * 50000 + ends[1]) == analyse(ends[0] + " " * 1000 + ends[1])
    assert analyse(ends[0] + " prove it").work == 1


PAIRS = [
    ("What is the capital of Spain?", "Prove that the sum of two even numbers is even."),
    ("Who discovered penicillin?", "Derive the formula for the volume of a sphere."),
    ("Translate cat into German.", "Implement a binary search tree with deletion in Rust."),
    ("How are you?", "Why does my React component render twice? Find the bug and fix it."),
    (
        "Recommend me a good book.",
        "Plan a conference for 200 people with a budget of 10000 euro and at least three speakers each day.",
    ),
    ("意大利的首都是哪里？", "证明三角形内角和等于180度。"),
    ("什么是民主？", "设计一个分布式锁，并分析它在网络分区下的正确性。"),
]
ARITHMETIC = [
    ("What is 7 + 5?", "What is 83184 + 58089?"),
    ("8加5等于多少？", "83184加58089等于多少？"),
    ("What is 6 * 9?", "What is 67 * 94?"),
    ("Eva has 5 cents. 4 come in. How many cents has Eva?", "Eva has 5 cents. 4 come in. 3 are out. 12 come in. "
     "7 times 4 come in. How many cents has Eva?"),
]  # fmt: skip


@pytest.mark.parametrize("easy, hard", PAIRS)
def test_difficulty_of_queries_that_were_not_fitted(easy, hard):
    assert not {easy, hard} & {*EASY, *HARD}
    assert 0 <= difficulty(easy) < 0.5 < difficulty(hard) <= 1
    assert difficulty(analyse(hard)) == difficulty(hard)


@pytest.fixture
def fitted_by_level(monkeypatch, tmp_path):
    """The shipped file may follow what a checkpoint gets wrong; here it is what the levels say."""
    fit.main(["--problems", "600", "--out", str(tmp_path / "difficulty.json")])
    monkeypatch.setattr(query, "FITTED", tmp_path / "difficulty.json")


@pytest.mark.parametrize("easy, hard", ARITHMETIC)
def test_difficulty_of_arithmetic(fitted_by_level, easy, hard):
    assert difficulty(easy) < 0.5 < difficulty(hard)


def test_difficulty_of_different_problems(fitted_by_level):
    means = []
    for level in LEVELS:
        found = [difficulty(problem.text) for problem in different_problems(600) if problem.level == level]
        means.append(sum(found) / len(found))
    assert means[0] < 0.1 and means[0] < means[1] < 0.4 and means[2] > 0.7


def test_difficulty_of_any_text_is_a_probability():
    rng = random.Random(0)
    alphabet = ["9", "*", " ", ".", "prove ", "{", "多", "！", "\n", "if ", "\ud800", "\x00", "²", "٣", "𝟗"]
    for _ in range(500):
        assert 0 <= difficulty("".join(rng.choices(alphabet, k=rng.randint(0, 400)))) <= 1
    for far in (1e9, -1e9):
        assert 0 <= difficulty(Query(*[far] * len(Query._fields))) <= 1


def test_coefficients_of_other_features_are_refused(tmp_path):
    fitted = json.loads(FITTED.read_text())
    del fitted["features"]["story"]
    (tmp_path / "difficulty.json").write_text(json.dumps(fitted))
    with pytest.raises(ModelError, match="^difficulty.json: must have the features of Query .*, came "):
        query.coefficients(tmp_path / "difficulty.json")


def test_the_fit_gives_the_same_file_twice(tmp_path, capsys):
    shipped = FITTED.read_bytes()
    for name in ("a.json", "b.json"):
        fit.main(["--problems", "120", "--out", str(tmp_path / name)])
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"] and FITTED.read_bytes() == shipped
    assert capsys.readouterr().out.count("% right") == 4
    fitted = json.loads((tmp_path / "a.json").read_text())
    assert fitted["problem_labels"] == "level 3" and fitted["held_out_accuracy"]["general"] > 0.85
    assert len(query.coefficients(tmp_path / "a.json")[1]) == len(Query._fields)


@pytest.mark.parametrize(
    "text, carries, borrows",
    [
        ("What is 47 + 38?", 1, 0),
        ("999 + 1 = ?", 3, 0),
        ("120加34等于多少？", 0, 0),
        ("748 - 26 = ?", 0, 0),
        ("1000 minus 1", 0, 3),
        ("52减17等于多少？", 0, 1),
        ("3 + 9, then 12 - 4 and 30 - 4", 1, 1),
        ("no numbers", 0, 0),
    ],
)
def test_carries_and_borrows(text, carries, borrows):
    query = analyse(text)
    assert (query.carries, query.borrows) == (carries, borrows)


def test_regression_against_the_condition_of_its_minimum():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = (x @ [2.0, -1.0, 0.0] + rng.logistic(size=200) > 0.5).astype(float)
    weights = rng.uniform(0.5, 2, 200)
    w = fit.regress(x, y, weights)
    p = 1 / (1 + np.exp(-(x @ w[:-1] + w[-1])))
    gradient = (weights * (p - y)) @ np.column_stack([x, np.ones(200)]) / weights.sum()
    np.testing.assert_allclose(gradient + fit.PENALTY * np.append(w[:-1], 0), 0, atol=1e-9)
    assert w[0] > 1 and w[1] < -0.5


def test_both_groups_count_the_same_whatever_their_size():
    fitted = fit.fit({"few": [("Prove it", True)] * 20, "many": [("Prove it", False)] * 100}, {"few": 1.0, "many": 1.0})
    assert fitted["bias"] == pytest.approx(0, abs=1e-9)


def test_a_wrong_answer_weighs_what_it_costs():
    """One feature text and nothing to tell apart: the odds are those of the labels, times the cost of a missed one."""
    queries = [("Prove it", index % 4 == 0) for index in range(400)]  # one in four
    for cost in (1.0, 3.0):
        share = 1 / (1 + np.exp(-fit.fit({"group": queries}, {"group": cost})["bias"]))
        assert share == pytest.approx(cost / (cost + 3), abs=0.03)


def test_a_fifth_is_left_out_of_the_fit():
    order = list(range(10))
    random.Random(0).shuffle(order)
    labels = dict(zip(order, [True, True, True, False, False] * 2))  # the first of every five only measures
    fitted = fit.fit({"group": [("Prove it", labels[index]) for index in range(10)]}, {"group": 1.0})
    assert fitted["bias"] == pytest.approx(0, abs=1e-9)


def test_problems_that_are_fitted_on_are_never_held_out(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "pangu_ops.checkpoints.problems.is_held_out", lambda *problem: seen.append(problem) or is_held_out(*problem)
    )
    problems = fit.different_problems(360, held_out=False)
    assert len({problem.text for problem in problems}) == len(problems) == 360
    assert not {problem.text for problem in problems} & {problem.text for problem in different_problems(600)}
    assert seen and {(problem.kind, problem.level) for problem in problems} == {
        (kind, level) for kind in KINDS for level in LEVELS
    }


def test_wrong_answers_of_a_checkpoint_become_labels(monkeypatch, tmp_path):
    """A model that knows only the answers of level 1, and thinks nothing first."""
    tokenizer = Tokenizer(PRO_MOE)
    rng = random.Random(0)
    problems = [pose(kind, level, rng, held_out=False) for kind in KINDS for level in LEVELS]
    answers = {f"{problem.text} /no_think": problem.answer for problem in problems if problem.level == 1}

    def generate(model, ids, max_new_tokens, stop_ids):
        said = next((answer for text, answer in answers.items() if text in tokenizer.pieces.decode(ids)), "no idea")
        return tokenizer.encode(f"[unused16][unused17]{said}[unused10]")[1:]

    monkeypatch.setattr(pangu_ops, "generate", generate)
    assert fit.wrong_when_fast(PRO_MOE, problems) == [problem.level > 1 for problem in problems]
    monkeypatch.setattr(fit, "wrong_when_fast", lambda path, problems: [problem.level > 1 for problem in problems])
    fit.main(["--problems", "60", "--out", str(tmp_path / "d.json"), "--checkpoint", str(PRO_MOE)])
    assert json.loads((tmp_path / "d.json").read_text())["problem_labels"] == "wrong in fast mode by pro_moe"
