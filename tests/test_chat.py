"""Conversations: the modes' tags, bounds on thinking, the way out of repetition, and the cache of the common prefix."""

import pytest
import torch

import pangu_ops
from pangu_ops.chat import Chat, tool_calls
from pangu_ops.checkpoints import PRO_MOE
from pangu_ops.generate import generation_defaults
from pangu_ops.models import EmbeddedConfig, EmbeddedForCausalLM, KVCache, ModelError
from pangu_ops.models.tokenizer import Tokenizer
from pangu_ops.thinking.auto import Metacognition
from pangu_ops.thinking.modes import CLOSE, END, OPEN
from pangu_ops.thinking.repetition import WAY_OUT

TOKENIZER = Tokenizer(PRO_MOE)
CONFIG = EmbeddedConfig(
    vocab_size=len(TOKENIZER.pieces),
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=24,
    max_position_embeddings=512,
    initializer_range=0.2,
    eos_token_id=TOKENIZER.control_ids[END],
)


def ids_of(text):
    return TOKENIZER.encode(text)[1:]


class Script:
    """Stands for a model: says ``thoughts`` over and over until the span is closed, and then ``answer``."""

    def __init__(self, thoughts, answer):
        self.config, self.embed = CONFIG, torch.nn.Embedding(1, 1)
        self.thoughts, self.answer, self.seen = ids_of(thoughts), ids_of(answer), []

    def __call__(self, step, cache, last):
        del self.seen[cache.lengths[0] :]
        cache.extend([step.shape[1]])
        self.seen += step[0].tolist()
        start = self.seen[::-1].index(ids_of("助手：")[-1])  # ids since the assistant's turn began
        said = self.seen[len(self.seen) - start :]
        close = TOKENIZER.control_ids[CLOSE]
        if close in said:
            rest = said[len(said) - said[::-1].index(close) :]
            token = [*self.answer, TOKENIZER.control_ids[END]][len(rest)] if len(rest) <= len(self.answer) else 0
        else:
            token = self.thoughts[(len(said) - 1) % len(self.thoughts)] if said else TOKENIZER.control_ids[OPEN]
        return torch.nn.functional.one_hot(torch.tensor([[token]]), CONFIG.vocab_size).float()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return EmbeddedForCausalLM(CONFIG).requires_grad_(False)


STOP = dict(stop_ids=(CONFIG.eos_token_id,))


def test_a_budget_closes_the_span_and_lets_the_model_answer():
    for budget in (0, 1, 7):
        reply = Chat(Script("1+2=3,4+5=9;", "42"), TOKENIZER, max_thinking_tokens=budget).ask("?", **STOP)
        thoughts = ids_of("1+2=3,4+5=9;")[:budget]
        assert reply.thinking == TOKENIZER.decode(thoughts) and reply.text == "42" and reply.repairs == 0


def test_a_loop_is_led_out_by_the_control_text_and_answered():
    reply = Chat(Script("4+5=9,", "9"), TOKENIZER).ask("?", **STOP)
    assert reply.repairs == 1 and reply.text == "9"
    assert reply.thinking.endswith(WAY_OUT.strip()) and reply.thinking.startswith("4+5=9,4+5=9,")
    assert len(reply.new_ids) < 80  # and not the 256 that it could have had


def test_a_looping_answer_is_led_out_once_and_then_ended():
    for thoughts, budget, in_thoughts in (("1", 0, 0), ("4+5=9,", None, 1)):
        reply = Chat(Script(thoughts, "7,8;" * 200), TOKENIZER, max_thinking_tokens=budget).ask("?", **STOP)
        assert reply.repairs == in_thoughts + 2 and reply.new_ids[-1] == CONFIG.eos_token_id
        assert WAY_OUT.strip() in reply.text and len(reply.new_ids) < 250
    free = Chat(Script("1", "7,8;" * 200), TOKENIZER, max_thinking_tokens=0, repair=False).ask("?", **STOP)
    assert free.repairs == 0 and len(free.new_ids) == 256


@pytest.mark.parametrize(
    "answer", ["1000000000000000", "0.333333333333333333", "|---|---|---|---|", "1,000,000,000,000,000,000"]
)
def test_an_answer_may_repeat_itself_a_little_and_say_what_was_thought(answer):
    reply = Chat(Script(f"{answer} {answer} a{CLOSE}", answer), TOKENIZER).ask("?", **STOP)
    assert reply.repairs == 0 and reply.text == answer


def test_a_model_that_will_not_stop_thinking_is_ended():
    reply = Chat(Script("1", f"{OPEN}2{OPEN}3"), TOKENIZER, max_thinking_tokens=0).ask("?", **STOP)
    assert reply.new_ids == ids_of(f"{OPEN}{CLOSE}{OPEN}{CLOSE}{END}") and reply.text == ""


def test_the_turn_ends_where_the_model_ends_it():
    reply = Chat(Script("1", "42"), TOKENIZER, max_thinking_tokens=1).ask("?")  # no stop_ids
    assert reply.new_ids == ids_of(f"{OPEN}1{CLOSE}42{END}")


def test_the_callback_gets_thoughts_and_answer_apart():
    parts = {"thinking": "", "answer": ""}

    def callback(part, text):
        parts[part] += text

    reply = Chat(Script("1+2=3,4", "42"), TOKENIZER, max_thinking_tokens=7).ask("?", callback, **STOP)
    assert parts == {"thinking": reply.thinking, "answer": reply.text} == {"thinking": "1+2=3,4", "answer": "42"}


def test_the_modes_put_their_tags(model):
    for mode, tag in (("slow", ""), ("fast", " /no_think"), ("model", " /auto_think")):
        chat = Chat(model, TOKENIZER, mode)
        reply = chat.ask("What is 2 + 3?", max_new_tokens=4)
        assert chat.messages[1] == {"role": "user", "content": f"What is 2 + 3?{tag}"}
        assert reply.mode == mode and reply.decision is None
    with pytest.raises(ModelError, match="chat: thinking must be one of fast, slow, auto, model, came deep"):
        Chat(model, TOKENIZER, "deep")
    with pytest.raises(ModelError, match="max_thinking_tokens must be at least 0, came -1"):
        Chat(model, TOKENIZER, max_thinking_tokens=-1)


def test_auto_decides_and_learns(model):
    metacognition = Metacognition()
    chat = Chat(model, TOKENIZER, "auto", metacognition=metacognition)
    easy = chat.ask("What is 2 + 3?", max_new_tokens=4)
    hard = chat.ask("Prove that the square root of 2 is irrational, step by step.", max_new_tokens=4)
    assert (easy.mode, hard.mode) == ("fast", "slow") == (easy.decision.mode, hard.decision.mode)
    assert not easy.decision.measured and hard.decision.measured
    again = chat.ask("What is 4 + 1?", max_new_tokens=4)
    assert again.decision.signal == "similar" and again.mode == "fast"


def test_later_turns_keep_the_cache_of_what_they_share(model):
    chat = Chat(model, TOKENIZER)
    replies = [chat.ask(text, max_new_tokens=6) for text in ("What is 2 + 3?", "And 7 - 4?", "Sort: 3, 1, 2")]
    assert replies[0].cached_tokens == 0
    asked = [{"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": replies[0].text}]
    asked.append({"role": "user", "content": "And 7 - 4?"})
    prompt = TOKENIZER.encode_chat(asked)
    assert replies[1].prompt_tokens == len(prompt) and replies[1].cached_tokens >= replies[0].prompt_tokens
    assert replies[2].cached_tokens >= replies[1].prompt_tokens
    assert chat.cache.lengths[0] == replies[2].prompt_tokens + len(replies[2].new_ids) - 1  # nothing is fed twice
    assert replies[1].new_ids == pangu_ops.generate(model, prompt, max_new_tokens=6)  # as without a cache


def test_the_oldest_turns_are_dropped_where_room_ends(model):
    chat = Chat(model, TOKENIZER, context=100)
    for number in range(6):
        chat.ask(f"What is {number} + 3?", max_new_tokens=2)
    assert chat.messages[0]["role"] == "system" and len(chat.messages) < 9
    assert chat.messages[-2]["content"] == "What is 5 + 3?"


def test_an_interruption_inside_the_model_leaves_no_token_that_was_not_computed(model, monkeypatch):
    chat = Chat(model, TOKENIZER)
    chat.ask("What is 2 + 3?", max_new_tokens=6)
    held = chat.cache.lengths[0]

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chat.ask("Sort: 3, 1, 2", max_new_tokens=6)
    monkeypatch.undo()
    assert chat.cache.lengths[0] == len(chat.held) < held + 6
    for cache in (chat.cache.keys, chat.cache.values):
        cache[:, chat.cache._free] = torch.nan  # what memory nobody wrote may hold
    wanted = Chat(model, TOKENIZER)
    wanted.ask("What is 2 + 3?", max_new_tokens=6)
    question = "Sort: 3, 1, 2"
    assert chat.ask(question, max_new_tokens=6).new_ids == wanted.ask(question, max_new_tokens=6).new_ids


def test_the_cache_grows_with_the_conversation():
    """Past the 1024 tokens that it begins with, without computing again what it holds."""
    torch.manual_seed(0)
    sizes = {name: getattr(CONFIG, name) for name in ("vocab_size", "hidden_size", "num_attention_heads")}
    small = EmbeddedConfig(**sizes, num_hidden_layers=1, num_key_value_heads=2, intermediate_size=24)
    chat = Chat(EmbeddedForCausalLM(small).requires_grad_(False), TOKENIZER)
    first = chat.ask("a b c " * 200, max_new_tokens=2)
    assert chat.cache.max_length == 1024 > first.prompt_tokens
    second = chat.ask("d e f " * 250, max_new_tokens=2)
    assert chat.cache.max_length == 2048 and second.cached_tokens >= first.prompt_tokens
    alone = Chat(chat.model, TOKENIZER)
    alone.messages = chat.messages[:-2]
    assert alone.ask("d e f " * 250, max_new_tokens=2).new_ids == second.new_ids


def test_pro_moe_knows_slow_thinking_only():
    with pytest.raises(ModelError, match="thinking must be slow for Pangu Pro MoE, which knows no other, came auto"):
        Chat(pangu_ops.load_model(PRO_MOE), TOKENIZER, "auto")


def test_a_tool_result_goes_back(model):
    chat = Chat(model, TOKENIZER)
    chat.ask("What is 2 + 3?", max_new_tokens=2)
    chat.ask("5", role="tool", max_new_tokens=2)
    assert chat.messages[-2] == {"role": "tool", "content": "5"}


def test_an_interrupted_answer_leaves_the_conversation_as_it_was(model):
    class Enough(Exception):
        pass

    def callback(part, text):
        raise Enough

    chat = Chat(model, TOKENIZER)
    before = list(chat.messages)
    with pytest.raises(Enough):
        chat.ask("What is 2 + 3?", callback, max_new_tokens=6)
    assert chat.messages == before and len(chat.held) == chat.cache.lengths[0]
    wanted = Chat(model, TOKENIZER).ask("What is 2 + 3?", max_new_tokens=6)
    assert chat.ask("What is 2 + 3?", max_new_tokens=6).new_ids == wanted.new_ids


@pytest.mark.parametrize(
    "answer, text, calls",
    [
        ('Look: [unused11][{"name": "f", "arguments": {}}][unused12]', "Look:", [{"name": "f", "arguments": {}}]),
        ('[unused11]{"name": "f"}[unused12] done', "done", [{"name": "f"}]),
        ('[unused11][{"a": 1}][unused12] and [unused11]{"b": 2}[unused12]', "and", [{"a": 1}, {"b": 2}]),
        ("[unused11]not JSON[unused12]", "[unused11]not JSON[unused12]", []),
        ("[unused11][1, 2][unused12]", "[unused11][1, 2][unused12]", []),
        ('[unused11][{"name": "f"}]', '[unused11][{"name": "f"}]', []),
        ("plain", "plain", []),
    ],
)
def test_tool_calls(answer, text, calls):
    assert tool_calls(answer) == (text, calls)


def test_a_tool_call_comes_out_of_a_reply():
    reply = Chat(Script("1", '[unused11][{"name": "f"}][unused12]'), TOKENIZER, max_thinking_tokens=0).ask("?", **STOP)
    assert reply.tool_calls == [{"name": "f"}] and reply.text == ""


def test_steered_ids_count_and_stay_in_bounds(model):
    prompt = TOKENIZER.encode_chat([{"role": "user", "content": "Hi"}])
    free = pangu_ops.generate(model, prompt, max_new_tokens=6)
    assert pangu_ops.generate(model, prompt, max_new_tokens=6, steer=lambda token: []) == free

    def steer(token):
        return [5, 6] if token == free[0] else []

    steered = pangu_ops.generate(model, prompt, max_new_tokens=6, steer=steer)
    assert steered[:3] == [free[0], 5, 6] and len(steered) == 6
    assert steered[3:] == pangu_ops.generate(model, [*prompt, *steered[:3]], max_new_tokens=3, steer=steer)
    assert pangu_ops.generate(model, prompt, max_new_tokens=2, steer=steer) == [free[0], 5]
    assert pangu_ops.generate(model, prompt, max_new_tokens=6, steer=steer, stop_ids=(5,)) == [free[0], 5]


def test_a_cache_that_holds_the_whole_prompt_is_refused(model):
    cache, prompt = KVCache(CONFIG, 1, 64), list(range(9))
    model(torch.tensor([prompt]), cache=cache)
    with pytest.raises(ModelError, match="the cache must hold less than the prompt of 9 tokens, came 9"):
        pangu_ops.generate(model, prompt, cache=cache)


def test_generation_defaults(tmp_path):
    greedy = dict(temperature=0.0, top_k=0, top_p=1.0, stop_ids=(CONFIG.eos_token_id,))
    assert generation_defaults(tmp_path, CONFIG) == greedy  # no file
    file = tmp_path / "generation_config.json"
    file.write_text('{"do_sample": false, "temperature": 0.7}')
    assert generation_defaults(tmp_path, CONFIG) == greedy
    file.write_text('{"do_sample": true, "temperature": 1.0, "top_k": 0, "top_p": 0.8, "eos_token_id": [3, 4]}')
    assert generation_defaults(tmp_path, CONFIG) == dict(temperature=1.0, top_k=0, top_p=0.8, stop_ids=(3, 4))
    for text, message in (
        ('{"eos_token_id": "end"}', "generation_config.json: eos_token_id must be ids of the vocabulary, came 'end'"),
        ('{"eos_token_id": [3, 720]}', "eos_token_id must be ids of the vocabulary, came 720"),
        (
            '{"do_sample": true, "top_p": "all"}',
            "generation_config.json: top_p must be above 0 and at most 1, came 'all'",
        ),
        ('{"do_sample": true, "top_p": NaN}', "top_p must be above 0 and at most 1, came nan"),
        ('{"do_sample": true, "temperature": Infinity}', "temperature must be a number of at least 0, came inf"),
        ('{"do_sample": true, "top_k": 0.9}', "top_k must be an integer of at least 0, came 0.9"),
        ('{"do_sample": "no"}', "do_sample must be true or false, came 'no'"),
    ):
        file.write_text(text)
        with pytest.raises(ModelError, match=message):
            generation_defaults(tmp_path, CONFIG)
