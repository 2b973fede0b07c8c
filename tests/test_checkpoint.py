"""The checkpoint that ships: its files, its tokenizer and what it answers."""

import json
import random
import re

import pytest
import torch

from pangu_ops import demo, load_model
from pangu_ops.checkpoints import DRAFT, EMBEDDED, PRO_MOE, tokenizer
from pangu_ops.checkpoints.evaluate import evaluate
from pangu_ops.checkpoints.lessons import LESSONS
from pangu_ops.checkpoints.questions import held_out_questions
from pangu_ops.checkpoints.train import IGNORED, batch_of, orthogonal
from pangu_ops.models.loader import stored_tensors
from pangu_ops.models.tokenizer import Tokenizer, chat_text

FILES = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.model",
    "tokenizer_config.json",
}


DRAFTING = r"(\d+) tokens in (\d+) passes of Pangu Pro MoE, (\d+) of (\d+) drafted tokens accepted"


@pytest.fixture(scope="module")
def shipped():
    return Tokenizer(PRO_MOE)


@pytest.mark.parametrize(
    "folder, more, most",
    [
        (PRO_MOE, {"firp.safetensors"}, 8e6),
        (EMBEDDED, {"firp.safetensors", "modes.md", "modes.png"}, 12e6),
        (DRAFT, {"drafts.md", "drafts.png"}, 3e6),
    ],
)
def test_the_directory_is_small_and_whole(folder, more, most):
    assert {file.name for file in folder.iterdir()} == FILES | more
    assert sum(file.stat().st_size for file in folder.iterdir()) <= most


def test_the_dual_system_checkpoint_has_official_names_and_the_same_tokenizer():
    stored, config = stored_tensors(EMBEDDED), load_model(EMBEDDED).config
    assert len(stored) == 13 * config.num_hidden_layers + 3
    assert all(tensor.dtype == "BF16" for tensor in stored.values())
    rows = config.num_key_value_heads * config.head_dim
    assert stored["model.layers.0.self_attn.k_proj.bias"].shape == (rows,)
    assert stored["model.layers.0.mlp.down_proj.weight"].shape == (config.hidden_size, config.intermediate_size)
    assert (EMBEDDED / "tokenizer.model").read_bytes() == (PRO_MOE / "tokenizer.model").read_bytes()


def test_the_draft_model_knows_the_tokens_of_the_one_it_drafts_for():
    model = load_model(DRAFT)
    assert sum(parameter.numel() for parameter in model.parameters()) < 0.7e6
    assert (DRAFT / "tokenizer.model").read_bytes() == (PRO_MOE / "tokenizer.model").read_bytes()
    answered = evaluate(DRAFT, held_out_questions(100, seed=1))
    assert sum(said == question.answer for question, said in answered) >= 85


def test_names_and_shapes_are_the_official_ones():
    stored, config = stored_tensors(PRO_MOE), load_model(PRO_MOE).config
    assert (config.num_experts, config.num_experts_per_tok) == (64, 8)
    layers, hidden, inner = config.num_hidden_layers, config.hidden_size, config.moe_intermediate_size
    assert len(stored) == 207 * layers + 3
    mlp = f"model.layers.{layers - 1}.mlp"
    for name, shape in {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "lm_head.weight": (config.vocab_size, hidden),
        "model.layers.0.self_attn.o_proj.bias": (hidden,),
        f"{mlp}.gate.weight": (64, hidden),
        f"{mlp}.router_scale": (1, 64),
        f"{mlp}.experts.63.down_proj.weight": (hidden, inner),
        f"{mlp}.shared_expert.up_proj.weight": (config.shared_expert_intermediate_size, hidden),
    }.items():
        assert stored[name].shape == shape
        assert stored[name].dtype == ("F32" if name.endswith("router_scale") else "BF16")


def test_the_configs_agree_with_the_tokenizer(shipped):
    config = json.loads((PRO_MOE / "config.json").read_text())
    generation = json.loads((PRO_MOE / "generation_config.json").read_text())
    end = shipped.control_ids["[unused10]"]
    assert config["eos_token_id"] == generation["eos_token_id"] == end
    assert config["vocab_size"] == len(shipped.pieces)
    added = json.loads((PRO_MOE / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert {int(id): token["content"] for id, token in added.items()} == {
        id: shipped.pieces.id_to_piece(id) for id in range(len(tokenizer.CONTROL) + 3)
    }


def test_control_tokens_and_the_chat_format(shipped):
    assert [shipped.pieces.id_to_piece(id) for id in range(3)] == ["<unk>", "<s>", "</s>"]
    assert {f"[unused{i}]" for i in range(34)} <= set(shipped.control_ids)
    ids = shipped.encode_chat([{"role": "user", "content": "Hi"}])
    names = [shipped.pieces.id_to_piece(id) for id in ids]
    assert names[:6] == ["<s>", "[unused9]", "系统：", "[unused10]", "[unused9]", "用户："]
    assert names[-3:] == ["[unused10]", "[unused9]", "助手："]


@pytest.mark.parametrize("text", ["What is 1203 + 45?", "2024年2月有几天？", "Zürich, 東京: voilà 🙂", " two  spaces "])
def test_any_text_comes_back(shipped, text):
    ids = shipped.encode(text)
    assert shipped.decode(ids) == text and 0 not in ids
    assert all(len(shipped.pieces.id_to_piece(id)) == 1 for id in ids if shipped.decode([id]).isdigit())


def test_the_tokenizer_can_be_made_again(shipped, tmp_path):
    tokenizer.train(tmp_path)
    again = Tokenizer(tmp_path).pieces  # not the bytes: another SentencePiece may write other settings beside them
    assert [again.id_to_piece(id) for id in range(len(again))] == [
        shipped.pieces.id_to_piece(id) for id in range(len(shipped.pieces))
    ]
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / name).read_text() == (PRO_MOE / name).read_text()


def test_it_answers_held_out_questions():
    answered = evaluate(PRO_MOE, held_out_questions(100, seed=1))
    assert sum(said == question.answer for question, said in answered) >= 95


@pytest.mark.parametrize("family", LESSONS)
def test_training_reads_the_chat_format_and_learns_the_answer_only(shipped, family):
    lesson = LESSONS[family]
    examples = [lesson.example(key, random.Random(i), held_out=True) for i, key in enumerate(lesson.keys)]
    ids, labels = batch_of(shipped.pieces, examples)
    for row, answers, example in zip(ids.tolist(), labels.tolist(), examples, strict=True):
        prompt = shipped.encode(chat_text(example.messages))
        learnt = [label for label in answers if label != IGNORED]
        start = answers.index(learnt[0])
        assert row[: start + 1] == prompt and row[start + 1 : start + len(learnt)] == learnt[:-1]
        assert (
            shipped.decode(learnt[:-1], control=True) == example.answer
            and learnt[-1] == shipped.control_ids["[unused10]"]
        )


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_the_update_of_muon_is_nearly_orthogonal(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    values = (u.T @ orthogonal(matrix) @ vt.T).diag()
    assert 0.6 < values.min() and values.max() < 1.3


def test_the_demo_runs(capsys):
    demo.main()
    shown = capsys.readouterr().out
    answers = [
        "85",
        "532",
        "17, 38, 52",
        "29",
        "Monday, March 18",
        "02:50",
        "cold and late",
        "four hundred and twenty-seven",
        "3月18日星期一",
    ]
    lines = [line for line in shown.splitlines() if line.startswith("  ")]
    lines, thinking = lines[: len(demo.QUESTIONS)], lines[len(demo.QUESTIONS) :]
    right = sum(line == f"  {q}  {a}" for line, q, a in zip(lines, demo.QUESTIONS, answers, strict=True))
    assert right >= 8
    moge = next(line.split() for line in shown.splitlines() if line.startswith("MoGE"))
    plain = next(line.split() for line in shown.splitlines() if line.startswith("ordinary"))
    assert float(moge[-2]) == 1.0 and float(moge[-1]) == 0.0
    assert float(plain[-2]) > 1.0
    made, passes, accepted, drafted = map(int, re.search(DRAFTING, shown).groups())
    # how much is drafted, the clock decides; of an answer whose end was drafted, the token after it is dropped
    assert passes <= made <= accepted + passes and accepted >= 0.7 * drafted
    easy, fast, easy_answer, hard, slow, thoughts, hard_answer = map(str.split, thinking)
    assert fast[:2] == ["chosen", "fast:"] and easy_answer[:2] == ["answer", "15"]
    assert slow[:2] == ["chosen", "slow:"] and thoughts[0] == "thinking" and hard_answer[:2] == ["answer", "4042"]
