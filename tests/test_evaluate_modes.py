"""Measuring the thinking modes: the table by hand, and the shipped checkpoint on some problems."""

import pytest

from pangu_ops.checkpoints import EMBEDDED
from pangu_ops.checkpoints.evaluate_modes import Answered, evaluate, main, plot, summary, table
from pangu_ops.checkpoints.problems import Problem, different_problems

EASY, HARD = Problem("add", 1, "1 + 1 = ?", "", "2"), Problem("story", 3, "...", "", "9")
ANSWERED = [
    Answered(EASY, "fast", "fast", True, 4, 0.010),
    Answered(HARD, "fast", "fast", False, 6, 0.030),
    Answered(EASY, "slow", "slow", True, 20, 0.100),
    Answered(HARD, "slow", "slow", True, 60, 0.300),
    Answered(EASY, "auto", "fast", True, 4, 0.010),
    Answered(HARD, "auto", "slow", True, 60, 0.300),
]


def test_the_table_by_hand():
    assert summary(ANSWERED) == {"fast": (50, 5, 20), "slow": (100, 40, 200), "auto": (100, 32, pytest.approx(155))}
    lines = table(ANSWERED).splitlines()
    assert lines[2:5] == [
        "| fast | 50.0 % | 5.0 | 12 % | 20.0 ms |",
        "| slow | 100.0 % | 40.0 | 100 % | 200.0 ms |",
        "| auto | 100.0 % | 32.0 | 80 % | 155.0 ms |",
    ]
    assert "| add 1 | 100 % | 100 % | 100 % | 0 % |" in lines and "| story 3 | 0 % | 100 % | 100 % | 100 % |" in lines
    assert "| add 2 | - | - | - | - |" in lines


def test_the_plot_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is an extra, for the plot alone")
    plot(ANSWERED, tmp_path / "modes.png")
    assert (tmp_path / "modes.png").read_bytes().startswith(b"\x89PNG")


def test_the_shipped_checkpoint_thinks_to_a_purpose():
    """The figures that its README gives for 500 problems, with room for the chance in 72 others."""
    modes = summary(evaluate(EMBEDDED, different_problems(72, seed=1)))
    assert modes["slow"][0] >= modes["fast"][0] + 15
    assert modes["auto"][0] >= modes["slow"][0] - 8
    assert modes["auto"][1] <= 0.75 * modes["slow"][1]


def test_the_command(capsys):
    main(["--problems", "4"])
    shown = capsys.readouterr().out
    assert all(f"\n| {mode} | " in shown for mode in ("fast", "slow", "auto", "model"))
