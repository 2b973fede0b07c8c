"""The ``pangu`` command: what it prints, and that what it refuses takes one line and a non-zero status."""

import io
import json
import os
import subprocess
import sys

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file

import pangu_ops
from pangu_ops import cli
from pangu_ops.cli import main
from pangu_ops.models import ProMoEConfig, ProMoEForCausalLM, save_pretrained
from pangu_ops.models.tokenizer import Tokenizer

CONTROL = [f"[unused{number}]" for number in (9, 10, 16, 17)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A random model of one layer, with a tokenizer; its config has the tokenizer's own end of turn."""
    path = tmp_path_factory.mktemp("checkpoint")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["what is one and one ?", "系统：用户：助手："] * 20),
        model_prefix=str(path / "tokenizer"),
        model_type="bpe",
        vocab_size=300,
        hard_vocab_limit=False,
        byte_fallback=True,
        user_defined_symbols=CONTROL,
        minloglevel=2,
        num_threads=1,
    )
    tokenizer = Tokenizer(path)
    torch.manual_seed(1)
    config = ProMoEConfig(
        vocab_size=len(tokenizer.pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
        max_position_embeddings=128,
        initializer_range=0.5,
        eos_token_id=tokenizer.control_ids["[unused10]"],
    )
    save_pretrained(ProMoEForCausalLM(config), path)
    return path


@pytest.fixture
def checkpoint(trained, tmp_path):
    """A copy of it to spoil."""
    for file in trained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def expected(path, ids, **options):
    model, tokenizer = pangu_ops.load_model(path), Tokenizer(path)
    return tokenizer.decode(pangu_ops.generate(model, ids, stop_ids=(model.config.eos_token_id,), **options))


def run(*arguments, **options):
    command = [sys.executable, "-m", "pangu_ops.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_generate_prints_the_answer_and_its_speed(trained, capsys):
    assert main(["generate", "--model", str(trained), "--prompt", "what is one ?", "--max-new-tokens", "9"]) == 0
    out, err = capsys.readouterr()
    ids = Tokenizer(trained).encode_chat([{"role": "user", "content": "what is one ?"}])
    assert out == expected(trained, ids, max_new_tokens=9) + "\n" and len(out) > 1
    assert err.count("\n") == 1 and f"prompt {len(ids)} tokens" in err and "answer 9 tokens" in err


def test_generate_raw_with_every_option(trained, capsys):
    arguments = [
        "--raw",
        "--max-new-tokens",
        "7",
        "--temperature",
        "1.5",
        "--top-k",
        "20",
        "--top-p",
        "0.9",
        "--seed",
        "5",
    ]
    assert main(["generate", "--model", str(trained), "--prompt", "one and", *arguments]) == 0
    options = dict(max_new_tokens=7, temperature=1.5, top_k=20, top_p=0.9, seed=5)
    assert capsys.readouterr().out == expected(trained, Tokenizer(trained).encode("one and"), **options) + "\n"


@pytest.mark.parametrize("how", ["ngram", "firp", "model"])
def test_drafts_change_nothing_of_the_answer(how, capsys):
    """The shipped model, its maps and its draft model, in float32; on stderr, how many drafts were right."""
    command = ["generate", "--prompt", "Write 427 in words.", "--dtype", "fp32"]
    assert main(command) == 0
    plain = capsys.readouterr()
    assert main([*command, "--draft", how, "--draft-tokens", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == plain.out == "four hundred and twenty-seven\n"
    assert "; drafts: " in err and " tokens accepted in " in err and "drafts" not in plain.err


def test_another_model_drafts(trained, capsys):
    command = ["chat", "--model", str(trained), "--draft", str(trained), "--max-new-tokens", "9"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\nand one\n")))
        assert main(command) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) >= 2 and err.count("; drafts: ") == 2


@pytest.mark.parametrize(
    "options, message",
    [
        (["--draft-tokens", "3"], "draft: --draft-tokens must come with --draft, came without it"),
        (["--draft", "ngram", "--draft-tokens", "0"], "draft: --draft-tokens must be at least 1, came 0"),
        (["--draft", "firp"], "draft: firp.safetensors must be in"),
        (["--draft", "model"], "draft: tokenizer.model of"),
        (["--draft", "nowhere"], "tokenizer.model: must be in nowhere, which has no such file"),
    ],
)
def test_drafts_that_cannot_be(trained, options, message, capsys):
    assert main(["generate", "--model", str(trained), "--prompt", "one", *options]) == 1
    out, err = capsys.readouterr()
    assert not out and err.startswith("pangu: ") and message in err and err.count("\n") == 1


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_dtype(trained, dtype, capsys, monkeypatch):
    seen = []
    load = pangu_ops.models.loader.load_model
    monkeypatch.setattr("pangu_ops.models.loader.load_model", lambda *a, **k: seen.append(load(*a, **k)) or seen[0])
    assert main(["generate", "--model", str(trained), "--prompt", "one", "--dtype", dtype]) == 0
    assert seen[0].embed.weight.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]


@pytest.mark.parametrize(
    "device, came", [("tpu", "npu, cuda:N or npu:N, came tpu"), ("meta", "run on here, came meta")]
)
def test_a_device_that_cannot_be(trained, device, came, capsys):
    assert main(["generate", "--model", str(trained), "--prompt", "1", "--device", device]) == 1
    assert capsys.readouterr().err.endswith(f"{came}\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is visible")
def test_a_gpu_that_is_not_there(trained, capsys):
    assert main(["generate", "--model", str(trained), "--prompt", "1", "--device", "cuda"]) == 1
    assert "must be one that the models run on here, came cuda, where " in capsys.readouterr().err


def test_chat_remembers_until_exit(trained, capsys, monkeypatch):
    text = b"one\n\nwhat is one ?\n/exit\nnever seen\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["chat", "--model", str(trained), "--max-new-tokens", "5"]) == 0
    tokenizer, messages, answers = Tokenizer(trained), [], []
    for question in ("one", "what is one ?"):
        messages.append({"role": "user", "content": question})
        answers.append(expected(trained, tokenizer.encode_chat(messages), max_new_tokens=5))
        messages.append({"role": "assistant", "content": answers[-1]})
    assert capsys.readouterr().out == "".join(f"{answer}\n" for answer in answers)


def test_chat_forgets_what_does_not_fit(trained, capsys, monkeypatch):
    """A context of 128 tokens: ten questions of about twenty tokens each would not fit."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"what is one and one ?\n" * 10)))
    assert main(["chat", "--model", str(trained), "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().err.count("prompt") == 10


def test_chat_goes_on_after_a_line_that_is_too_long(trained, capsys, monkeypatch):
    text = b"one\n" + b"one " * 200 + b"\nwhat is one ?\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["chat", "--model", str(trained), "--max-new-tokens", "5"]) == 0
    long = capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\nwhat is one ?\n")))
    assert main(["chat", "--model", str(trained), "--max-new-tokens", "5"]) == 0
    assert long.out == capsys.readouterr().out
    assert "pangu: generate: the prompt must be shorter than the context" in long.err and long.err.count("\n") == 3


@pytest.mark.parametrize("command", [["chat"], ["generate", "--prompt", "one"]])
def test_options_are_checked_before_the_model_is_loaded(command, capsys):
    assert main([*command, "--model", "/nowhere", "--max-new-tokens", "0"]) == 1
    assert capsys.readouterr().err == "pangu: generate: max_new_tokens must be at least 1, came 0\n"


def test_dry_run(trained, tmp_path, capsys):
    assert main(["generate", "--dry-run", "--model", str(trained)]) == 0
    out = capsys.readouterr().out
    total = sum(parameter.numel() for parameter in pangu_ops.load_model(trained).parameters())
    assert f"{total:,} total ({total / 1e6:.2f} M)" in out and f"{total * 4 / 1e6:.3f} MB" in out
    assert "30 tensors in 1 files" in out
    config = json.loads((trained / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["generate", "--dry-run", "--model", str(tmp_path)]) == 0
    assert "config.json only" in capsys.readouterr().out


def test_dry_run_of_the_released_config(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(ProMoEConfig().official(torch.bfloat16)))
    assert main(["generate", "--dry-run", "--model", str(tmp_path)]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "71,988,781,056 total (71.99 B), 16,498,139,136 active per token (16.50 B)" in words
    assert "fp32 287.955 GB 393,216 bytes" in words
    assert "bf16 143.978 GB 196,608 bytes" in words
    assert "int8 71.989 GB 98,304 bytes" in words


def edit_config(path, **fields):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | fields))


def edit_weights(path, change):
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")


def test_thoughts_go_to_stderr_and_the_answer_to_stdout(capsys):
    assert cli.main(["generate", "--thinking", "slow", "--prompt", "What is 12 + 30?"]) == 0
    came = capsys.readouterr()
    assert came.out == "42\n" and came.err.startswith("12+30:") and "tokens/s" in came.err
    assert cli.main(["generate", "--thinking", "auto", "--prompt", "What is 12 + 30?"]) == 0
    came = capsys.readouterr()
    assert came.out == "42\n" and "thinking fast: difficulty" in came.err
    assert cli.main(["generate", "--family", "embedded", "--max-thinking-tokens", "3", "--prompt", "2 + 3 = ?"]) == 0
    assert capsys.readouterr().err.startswith("2+3\n")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--family", "pro-moe", "--thinking", "fast"], "thinking must be slow for Pangu Pro MoE"),
        (["--max-thinking-tokens", "-1"], "max_thinking_tokens must be at least 0, came -1"),
        (["--raw", "--thinking", "slow"], "thinking options must be left out with --raw"),
    ],
)
def test_thinking_that_cannot_be_is_refused(capsys, arguments, message):
    assert cli.main(["generate", "--prompt", "Hi", *arguments]) == 1
    assert message in capsys.readouterr().err


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


NORM = "model.layers.0.input_layernorm.weight"
REFUSALS = {
    "no directory": (lambda path: None, ["--model", "/nowhere"], "config.json: must be in /nowhere"),
    "not a directory": (lambda path: None, ["--model", __file__], "Not a directory"),
    "no config": (lambda path: (path / "config.json").unlink(), [], "config.json: must be in"),
    "V2": (
        lambda path: edit_config(path, architectures=["PanguProMoEV2ForCausalLM"]),
        [],
        "came ['PanguProMoEV2ForCausalLM']",
    ),
    "Ultra": (
        lambda path: edit_config(path, architectures=["PanguUltraMoEForCausalLM"]),
        [],
        "must hold one of PanguEmbeddedForCausalLM, PanguProMoEForCausalLM, came",
    ),
    "activation": (lambda path: edit_config(path, hidden_act="relu"), [], "hidden_act must be 'silu', came 'relu'"),
    "rope": (lambda path: edit_config(path, rope_scaling={"factor": 4}), [], "rope_scaling must be absent"),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), [], "which has neither"),
    "no shard": (
        lambda path: (path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "lost.safetensors"}}'),
        [],
        "lost.safetensors: must be in",
    ),
    "cut": (lambda path: cut(path / "model.safetensors"), [], "bytes its header promises"),
    "missing": (lambda path: edit_weights(path, lambda t: t.pop(NORM)), [], f"{NORM}: must be stored with shape [16]"),
    "unexpected": (
        lambda path: edit_weights(path, lambda t: t.update(extra=torch.ones(2))),
        [],
        "extra: must be a tensor of",
    ),
    "shape": (
        lambda path: edit_weights(path, lambda t: t.update({NORM: torch.ones(17)})),
        [],
        f"{NORM}: must have shape [16], came [17]",
    ),
    "no tokenizer": (lambda path: (path / "tokenizer.model").unlink(), [], "tokenizer.model: must be in"),
    "bad tokenizer": (lambda path: cut(path / "tokenizer.model"), [], "tokenizer.model: must be a SentencePiece model"),
    "ids": (
        lambda path: (
            edit_config(path, vocab_size=30),
            edit_weights(
                path,
                lambda t: t.update(
                    {name: t[name][:30].clone() for name in ("model.embed_tokens.weight", "lm_head.weight")}
                ),
            ),
        ),
        [],
        "generate: ids must be 0 to 29, came",
    ),
    "long": (lambda path: None, ["--prompt", "one " * 200], "must be shorter than the context of 128 tokens, came"),
    "option": (lambda path: None, ["--top-p", "7"], "top_p must be above 0 and at most 1, came 7.0"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(checkpoint, case, capsys):
    spoil, arguments, message = REFUSALS[case]
    spoil(checkpoint)
    assert main(["generate", "--model", str(checkpoint), "--prompt", "one", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("pangu: ") and message in err
    assert err.count("\n") == 1 and "Traceback" not in err


def test_a_refusal_of_the_command_itself():
    process = run("generate", "--model", "/nowhere", "--prompt", "one")
    out, err = process.communicate()
    assert process.returncode == 1 and out == "" and err.startswith("pangu: config.json: must be in /nowhere")


def test_a_closed_pipe_ends_it_quietly(trained):
    process = run("generate", "--model", trained, "--prompt", "one", "--max-new-tokens", "20")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait() == 1 and err == ""


def test_an_interrupt_ends_it_quietly(trained, monkeypatch, capsys):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(ProMoEForCausalLM, "forward", interrupt)
    assert main(["generate", "--model", str(trained), "--prompt", "one"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("fails", [lambda *args, **options: torch.empty(1 << 55), lambda *args, **options: [0] * 2**60])
def test_too_little_memory_takes_one_line(trained, fails, monkeypatch, capsys):
    monkeypatch.setattr(ProMoEForCausalLM, "forward", fails)
    assert main(["generate", "--model", str(trained), "--prompt", "one"]) == 1
    assert capsys.readouterr().err == "pangu: the model and its context must fit into memory, came too little\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(trained, closed):
    chat = f'"{sys.executable}" -m pangu_ops.cli chat --model "{trained}" --max-new-tokens 3 {closed}'
    done = subprocess.run(chat, shell=True, input="one\n", capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert (done.stdout.strip() != "") == (closed == "2>&-") and ("prompt" in done.stderr) == (closed == ">&-")


def test_an_encoding_without_the_characters_prints_something_else(trained):
    options = ["--max-new-tokens", "20", "--temperature", "5", "--seed", "0"]
    process = run(
        "generate",
        "--model",
        trained,
        "--prompt",
        "one\udcff",
        *options,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    out, err = process.communicate()
    assert process.returncode == 0 and "Traceback" not in err and "?" in out


def test_info_prints_the_report(capsys):
    assert main(["info"]) == 0
    assert "moge_ffn" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "bench"])
def test_arguments_are_handed_on(command, monkeypatch):
    module = type(sys)(f"pangu_ops.testing.{command}")
    module.main = lambda argv: 7 if argv == ["moge_ffn", "--backend", "avx2"] else None
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert main([command, "moge_ffn", "--backend", "avx2"]) == 7


@pytest.mark.parametrize("arguments", [["generate"], ["generate", "--prompt", "a", "--wrong"], ["info", "x"], []])
def test_bad_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and "usage: pangu" in capsys.readouterr().err
