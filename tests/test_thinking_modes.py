"""Tags, and the reading of what a thinking model says: texts as the official model writes them, taken apart by hand."""

import copy

import pytest

from pangu_ops.models.config import ModelError
from pangu_ops.thinking.modes import CLOSE, MODES, OPEN, TAGS, SpanTracker, Thought, parse, tagged

CHAT = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "four"},
]


@pytest.mark.parametrize("mode, ending", [("fast", " /no_think"), ("slow", ""), ("model", " /auto_think")])
def test_the_tag_goes_to_the_end_of_the_last_user_turn_alone(mode, ending):
    before = copy.deepcopy(CHAT)
    messages = tagged(CHAT, mode)
    assert [message["content"] for message in messages] == ["S", "one", "two", f"three{ending}", "four"]
    assert CHAT == before and not any(new is old for new, old in zip(messages, CHAT))
    assert set(MODES) == {*TAGS, "auto"}
    turn = {"role": "user", "content": "five"}
    again = tagged([*tagged(CHAT[:2], mode), turn], mode)  # an earlier turn's tag does not count
    assert [message["content"] for message in again] == ["S", f"one{ending}", f"five{ending}"]


@pytest.mark.parametrize(
    "content, expected",
    [
        ("three /no_think", "three /no_think"),
        ("three\n/no_think \n", "three\n/no_think \n"),
        ("/no_think", "/no_think"),
        ("three /auto_think", "three /auto_think /no_think"),  # the last one counts
        ("a/no_think", "a/no_think /no_think"),
        ("/no_think is a tag", "/no_think is a tag /no_think"),
        ("", " /no_think"),
    ],
)
def test_a_tag_that_the_user_wrote_is_not_put_twice(content, expected):
    assert tagged([{"role": "user", "content": content}], "fast")[0]["content"] == expected


def test_refusals():
    for mode in ("auto", "quick"):
        with pytest.raises(ModelError, match=f"^mode: must be one of slow, fast, model, came {mode}$"):
            tagged(CHAT, mode)
    with pytest.raises(ModelError, match="^chat: must have a user turn for /no_think, came none$"):
        tagged(CHAT[:1], "fast")
    assert tagged(CHAT[:1], "slow") == CHAT[:1]


@pytest.mark.parametrize(
    "text, thinking, answer",
    [
        (f"{OPEN} a b \n{CLOSE} c [unused10]", "a b", "c"),
        (f"{OPEN}{CLOSE}c[unused10]", "", "c"),
        (f"{OPEN} a{CLOSE}c", "a", "c"),
        (f" a {CLOSE} c[unused10]", "a", "c"),  # without OPEN
        (f"{OPEN} a b", "a b", ""),  # without CLOSE
        (f"x{OPEN} a b[unused10]", "a b", ""),
        (" c d [unused10]", "", "c d"),  # the 1B never thinks
        (f"x{OPEN}y{OPEN}a{CLOSE}c", "a", "c"),
        (f"{OPEN}a{CLOSE}b{CLOSE}c", "a", "c"),
        (f"{OPEN}a{CLOSE}c[unused10]d", "a", "c"),
        (f"{OPEN}a{CLOSE}", "a", ""),
        ("", "", ""),
    ],
)
def test_a_text_is_parsed_by_the_official_reading(text, thinking, answer):
    assert parse(text) == Thought(thinking, answer)


@pytest.mark.parametrize(
    "ids, kinds, count, thinking",
    [
        ([16, 1, 2, 17, 3, 10], "mttmaa", 2, False),
        ([16, 17, 3], "mma", 0, False),
        ([3, 4], "aa", 0, False),
        ([1, 17, 3], "ama", 0, False),  # that it was thinking shows too late
        ([16, 1, 16, 2], "mtmt", 2, True),
        ([16, 1, 17, 3, 16, 4], "mtmamt", 2, True),
    ],
)
def test_a_stream_is_told_apart_token_by_token(ids, kinds, count, thinking):
    tracker = SpanTracker(16, 17)
    names = {"m": "marker", "t": "thinking", "a": "answer"}
    assert [tracker.push(id) for id in ids] == [names[kind] for kind in kinds]
    assert tracker.count == count and tracker.thinking is thinking
