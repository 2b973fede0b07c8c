"""Recent queries against Jaccard indices by hand, latency by hand, and decisions in which every signal has its say."""

import random

import pytest

from pangu_ops.models.config import ModelError
from pangu_ops.thinking.auto import BASE, BUSIEST, Metacognition, Targets
from pangu_ops.thinking.latency import DECODE, FAST_TOKENS, PREFILL, SLOW_LENGTH, WEIGHT, LatencyEstimate
from pangu_ops.thinking.recent import RecentQueries, shingles

EASY, BETWEEN, HARD = "What is 47 + 38?", "Who was the best of all painters?", "What is 83184 + 58089?"


@pytest.fixture(autouse=True)
def difficulty(monkeypatch):
    """A difficulty that no refit changes: between BASE and BUSIEST for BETWEEN."""
    values = {BETWEEN: 0.7, HARD: 0.95, "What is 48123 + 99171?": 0.95, "Prove it.": 0.95}
    monkeypatch.setattr("pangu_ops.thinking.auto.difficulty", lambda text: values.get(text, 0.1))


@pytest.mark.parametrize(
    "first, second, similarity",
    [
        (EASY, "What is 52 + 19?", 1),
        (EASY, "what is 52 +19", 1),
        (EASY, HARD, 2 / 10),  # pairs: _ what, what is, is #2, #2 +, + #2, #2 _; the first two are shared
        (EASY, "What is 47 - 38?", 4 / 8),
        ("1+2", "1+2+3", 4 / 6),  # the second + 1 and 1 + are shingles of their own
        ("Name a red fruit that we like to eat", "Name a red flower that we like to eat", 8 / 12),
        ("法国的首都", "德国的首都", 4 / 8),
        ("one two", "three four", 0),
    ],
)
def test_similarity_by_hand(first, second, similarity):
    recent = RecentQueries(least=0.01)
    recent.record(first, "fast", 5, 0.1)
    match = recent.find(second)
    assert (match.similarity if match else 0) == pytest.approx(similarity)
    assert (with_entries(first).find(second) is not None) == (similarity >= 0.6)


def with_entries(*texts, **options):
    recent = RecentQueries(**options)
    for text in texts:
        recent.record(text, "fast", 5, 0.1)
    return recent


def test_the_most_similar_of_many_is_found_as_by_comparing_all():
    rng = random.Random(0)
    words = "name a red fruit we eat".split()
    texts = [" ".join(rng.choices(words, k=rng.randint(3, 9))) for _ in range(300)]
    recent = with_entries(*texts, least=0.5)
    found = 0
    for _ in range(300):
        text = " ".join(rng.choices(words, k=rng.randint(3, 9)))
        mine = shingles(text)
        best = max(len(mine & key) / len(mine | key) for key in recent.entries)
        match = recent.find(text)
        assert (match.similarity if match else None) == (best if best >= 0.5 else None)
        found += match is not None
    assert 50 < found < 250


def test_of_equally_similar_ones_the_latest_used_is_found():
    one, other, asked = (f"tell me all about the {colour} cat on my mat" for colour in ("red", "blue", "green"))
    for _ in range(5):
        recent = with_entries(one, other, least=0.5)
        assert recent.find(asked).entry.text == other
        recent.find(one)
        assert recent.find(asked).entry.text == one


def test_outcomes_of_a_shape_are_put_together():
    recent = RecentQueries()
    recent.record(EASY, "fast", 4, 0.2)
    recent.record("What is 52 + 19?", "fast", 8, 0.4, ok=True)
    entry = recent.find(EASY).entry
    assert (entry.text, entry.mode, entry.count, entry.tokens, entry.ok) == ("What is 52 + 19?", "fast", 2, 6, True)
    assert entry.seconds == pytest.approx(0.3) and entry.advice == "fast"
    recent.record(EASY, "slow", 40, 2.0)  # another mode begins anew
    assert (entry.mode, entry.count, entry.tokens, entry.seconds, entry.ok) == ("slow", 1, 40, 2.0, None)
    recent.record(EASY, "fast", 4, 0.2, ok=False)
    recent.record(EASY, "slow", 40, 2.0, ok=True)
    assert entry.advice == "slow" and entry.fast_failed and entry.ok
    recent.record(EASY, "fast", 4, 0.2, ok=True)
    assert entry.advice == "fast" and len(recent.entries) == 1


def test_the_longest_unused_shape_goes_first_and_leaves_nothing():
    recent = with_entries("aa", "bb", "cc", capacity=3)
    recent.find("aa")
    recent.record("dd", "fast", 5, 0.1)
    assert [recent.find(text) is not None for text in ("aa", "bb", "cc", "dd")] == [True, False, True, True]
    for number in range(50):
        recent.record(f"query {'x' * number}", "fast", 5, 0.1)
    assert len(recent.entries) == 3 and len(recent.holders) <= 9


def test_latency_by_hand():
    latency = LatencyEstimate()
    assert not latency.measured and latency.estimate(100, "fast") == 100 / PREFILL + FAST_TOKENS / DECODE
    assert latency.estimate(100, "slow") == 100 / PREFILL + SLOW_LENGTH * FAST_TOKENS / DECODE
    latency.observe(100, 0.5, 10, 1.0, "fast")  # 200 and 10 tokens/s
    assert latency.measured and latency.estimate(100, "fast") == pytest.approx(0.5 + 1)
    assert latency.estimate(100, "slow") == pytest.approx(0.5 + SLOW_LENGTH)
    assert latency.estimate(100, "slow", new_tokens=5) == pytest.approx(0.5 + 0.5)
    latency.observe(100, 1.0, 20, 1.0, "fast")  # 100 and 20
    decode = length = 10 + WEIGHT * 10  # the seconds stay 1
    assert latency.estimate(100, "fast") == pytest.approx((0.5 + WEIGHT * 0.5) + length / decode)
    latency.observe(10000, 100.0, 0, 0.0, "fast")  # what was long says more about the speed
    assert latency.estimate(100, "fast") > 0.9
    latency.observe(0, 0.0, 40, 0.0, "slow")  # teaches no speed
    assert latency.estimate(0, "slow") == pytest.approx(40 / decode)


def test_a_fast_answer_not_yet_seen_goes_by_the_slow_one():
    latency = LatencyEstimate()
    latency.observe(10, 0.1, 80, 1.0, "slow")
    assert latency.length("fast") == 80 / SLOW_LENGTH
    with pytest.raises(ModelError, match="^latency: mode must be one of fast, slow, came auto$"):
        latency.observe(10, 0.1, 80, 1.0, "auto")


def answered(mind, text, new_tokens=10, decode_seconds=0.1, ok=None, **options):
    decision = mind.decide(text, 20, **options)
    mind.record(text, decision, 20, 0.01, new_tokens, decode_seconds, ok)
    return decision


def test_difficulty_decides_first():
    for text, hard, mode, target in ((EASY, 0.1, "fast", 0.05), (HARD, 0.95, "slow", 0.3)):
        decision = Metacognition().decide(text, 20)
        assert (decision.mode, decision.signal, decision.target) == (mode, "difficulty", target)
        assert decision.difficulty == hard and decision.threshold == BASE and decision.similarity == 0
        assert set(decision.expected) == {"fast", "slow"} and decision.seconds > 0


def test_a_similar_query_decides():
    mind = Metacognition()
    assert answered(mind, HARD, new_tokens=30).signal == "difficulty"
    answered(mind, "Prove it.", new_tokens=300)
    again = mind.decide("What is 48123 + 99171?", 20)
    assert (again.mode, again.signal, again.similarity) == ("slow", "similar", 1)
    # how long that query's answer was counts, not how long slow answers are by now
    assert mind.latency.measured and mind.latency.length("slow") == pytest.approx(30 + WEIGHT * 270)
    assert again.expected["slow"] == pytest.approx(mind.latency.estimate(20, "slow", 30))


def test_what_a_similar_query_decided_is_remembered_too():
    mind = Metacognition()
    assert [answered(mind, text).signal for text in (EASY, "What is 52 + 19?")] == ["difficulty", "similar"]
    assert mind.recent.find(EASY).entry.count == 2


def test_a_bad_fast_answer_makes_the_next_similar_query_slow():
    mind = Metacognition()
    assert answered(mind, EASY, ok=False).mode == "fast"
    again = answered(mind, "What is 52 + 19?", load=100)
    assert (again.mode, again.signal, again.target) == ("slow", "similar", mind.targets.hard)
    assert mind.decide(EASY, 20).mode == "slow"  # and it stays so after the slow answer
    assert mind.decide("Who wrote Faust?", 20).mode == "fast"
    good = Metacognition()
    answered(good, EASY, ok=True)
    assert good.decide("What is 52 + 19?", 20).mode == "fast"


def test_similar_words_of_another_difficulty_do_not_decide():
    mind = Metacognition()
    answered(mind, "Who was the best of all singers?", ok=True)
    assert mind.recent.find(BETWEEN).similarity >= 0.6
    assert mind.decide(BETWEEN, 20)[:2] == ("slow", "difficulty")
    assert mind.decide("Who was the best of all dancers?", 20)[:2] == ("fast", "similar")


def test_load_moves_the_threshold_and_turns_slow_into_fast():
    text, mind = BETWEEN, Metacognition()
    thresholds = [mind.decide(text, 20, load=load).threshold for load in (0, 1, 4, 10, 10**6)]
    assert thresholds == sorted(set(thresholds)) and thresholds[0] == BASE and thresholds[2] == (BASE + BUSIEST) / 2
    assert thresholds[-1] == pytest.approx(BUSIEST, abs=1e-5)
    assert mind.decide(text, 20).mode == "slow"
    busy = mind.decide(text, 20, load=10**6)
    assert (busy.mode, busy.signal, busy.target) == ("fast", "load", mind.targets.hard)
    easy = mind.decide(EASY, 20, load=10**6)
    assert (easy.mode, easy.signal) == ("fast", "difficulty")  # the load changed nothing
    hardest = mind.decide(HARD, 20, load=10**6)
    assert (hardest.mode, hardest.signal) == ("slow", "difficulty")


def test_a_forced_mode_is_not_remembered_unless_its_answer_was_judged():
    text, mind = BETWEEN, Metacognition()
    assert answered(mind, text, load=10**6).signal == "load"
    assert mind.decide(text, 20).signal == "difficulty"
    answered(mind, text, load=10**6, ok=True)
    assert mind.decide(text, 20)[:2] == ("fast", "similar")


def test_a_budget_that_slow_would_exceed_forces_fast():
    mind = Metacognition(budget=0.5)
    mind.latency.observe(20, 0.01, 10, 0.1, "fast")  # 100 tokens/s
    mind.latency.observe(20, 0.01, 100, 1.0, "slow")
    decision = mind.decide(HARD, 20)
    assert (decision.mode, decision.signal) == ("fast", "latency") and decision.expected["slow"] > 0.5
    assert mind.decide(EASY, 20).signal == "difficulty"
    mind.budget = 2.0
    assert mind.decide(HARD, 20)[:2] == ("slow", "difficulty")
    mind.budget = None
    assert mind.decide(HARD, 20).mode == "slow"


def test_targets_only_inform():
    mind = Metacognition(Targets(simple=0.2, hard=0.3))
    mind.latency.observe(20, 0.01, 10, 0.1, "fast")
    assert mind.decide(EASY, 20).within_target
    decision = mind.decide(HARD, 20)
    assert decision.mode == "slow" and not decision.within_target and decision.target == 0.3


def test_explanations():
    mind = Metacognition(Targets(simple=0.05, hard=0.3), budget=3.0)
    mind.latency.observe(20, 0.02, 10, 0.1, "fast")
    mind.latency.observe(20, 0.02, 40, 0.4, "slow")
    assert mind.decide(HARD, 20).explain().endswith(", slow from 0.50; expected 420 ms, over the 300 ms target")
    assert mind.decide(EASY, 20).explain().startswith("fast: difficulty 0.10, slow from 0.50; ")
    assert "with 1000000 other requests; expected" in mind.decide(BETWEEN, 20, load=10**6).explain()
    mind.latency.lengths["slow"] = 400
    assert mind.decide(HARD, 20).explain().startswith("fast: slow would take 4.0 s, over the budget of 3.0 s; ")
    answered(mind, EASY)
    assert mind.decide("What is 52 + 19?", 0).explain() == (
        "fast: as a similar query before (1.00) showed; expected 100 ms, over the 50 ms target"
    )
    assert "(nothing measured yet)" in Metacognition().decide(EASY, 20).explain()
    assert "within the 50 ms target" in Metacognition().decide(EASY, 20)._replace(within_target=True).explain()


def test_refusals():
    with pytest.raises(ModelError, match="^auto: budget must be above 0 seconds, came 0$"):
        Metacognition(budget=0)
    with pytest.raises(ModelError, match="^auto: load must be at least 0, came -1$"):
        Metacognition().decide(EASY, 20, load=-1)
