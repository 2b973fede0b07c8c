"""Measuring speculative decoding: the table by hand, and the command on a few questions."""

import pytest
import torch

from pangu_ops import generate
from pangu_ops.checkpoints.evaluate_drafts import Measured, RealSize, main, plot, table
from pangu_ops.models import EmbeddedConfig
from pangu_ops.speculative import NGram

MEASURED = [Measured("a text", "ngram", 0.5, 2.25, 1.4), Measured("a text", "model", 0.876, 4.0, 0.96)]


def test_the_table_by_hand():
    assert table(MEASURED).splitlines()[2:] == [
        "| a text | ngram | 50 % | 2.25 | 1.40 |",
        "| a text | model | 88 % | 4.00 | 0.96 |",
    ]


def test_the_plot_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is an extra, for the plot alone")
    plot(MEASURED, tmp_path / "drafts.png")
    assert (tmp_path / "drafts.png").read_bytes().startswith(b"\x89PNG")


def test_the_command(capsys):
    main(["--questions", "2"])
    shown = capsys.readouterr().out
    for row in ("pro_moe | ngram", "pro_moe | firp", "pro_moe | model", "embedded | ngram", "embedded | firp"):
        assert f"\n| shipped {row} | " in shown


def test_the_model_of_real_size_says_what_it_should():
    """Its text, at a size that a test can wait for."""
    after = torch.tensor([1, 2, 3, 4, 0, 6, 7, 8, 9, 5])
    sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
    model = RealSize(after, EmbeddedConfig(vocab_size=10, eos_token_id=2, intermediate_size=96, **sizes))
    drafter = NGram()
    said = [3, 4, 0, 1, 2] * 4
    assert generate(model, [0, 1, 2], 20, speculative=drafter) == generate(model, [0, 1, 2], 20) == said
    assert drafter.accepted > 0
