"""README.md is true: its snippets run, its commands exist, its table is that of the kernels."""

import os
import re
import shlex
from pathlib import Path

import pytest
import torch

import pangu_ops
from pangu_ops import cli, info
from pangu_ops.backends import missing
from pangu_ops.testing import check

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
DISPATCH, GENERATE, THINKING, DRAFTING = (text for language, text in BLOCKS if language == "python")
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
TREE = [line.split()[0] for language, text in BLOCKS if language == "" for line in text.splitlines()]


def test_dispatch_snippet(implementation):
    names = {}
    exec(DISPATCH, names)
    x, y = names["x"], names["y"]
    for token in range(names["T"]):
        chosen = zip(names["weights"][token], names["expert_ids"][token], strict=True)
        expected = sum(weight * names["experts"][expert](x[token]) for weight, expert in chosen)
        torch.testing.assert_close(y[token], expected)


def test_generate_snippet(capsys):
    exec(GENERATE, {})
    assert capsys.readouterr().out == "42\n"


def test_thinking_snippet(capsys):
    exec(THINKING, {})
    reason, answer = capsys.readouterr().out.splitlines()
    assert reason.startswith("slow: difficulty") and answer.startswith("47*6=282,") and answer.endswith("-> 4042")


def test_drafting_snippet(capsys):
    exec(DRAFTING, {})
    assert capsys.readouterr().out == "17, 38, 52\nfour hundred and twenty-seven\n"


@pytest.mark.parametrize("line", COMMANDS)
def test_command_exists(line):
    command, *arguments = shlex.split(line, comments=True)
    if command == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif "/" in command:
        assert os.access(ROOT / command, os.X_OK)
    elif arguments[0] == "check":
        assert command == "pangu" and check.build_parser().parse_args(arguments[1:])
    else:
        assert command == "pangu" and cli.build_parser().parse_args(arguments)


@pytest.mark.skipif(missing("generic") != "", reason=missing("generic"))
def test_table():
    # The generic kernels, because they run on every machine.
    with pangu_ops.use("generic"):
        assert info.table() in README


@pytest.mark.parametrize("path", TREE)
def test_path_exists(path):
    assert (ROOT / path).exists()
