"""Measure the thinking modes of the dual-system checkpoint: ``python -m pangu_ops.checkpoints.evaluate_modes``.

Held-out problems, each a conversation of its own, greedy, through the same path as any user's: load_model, Chat. Auto
keeps one :class:`Metacognition` for all of them and is told nothing about right or wrong.
"""

import argparse
import random
import statistics
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from pangu_ops import load_model
from pangu_ops.chat import Chat
from pangu_ops.checkpoints import EMBEDDED
from pangu_ops.checkpoints.problems import KINDS, LEVELS, different_problems
from pangu_ops.models.tokenizer import Tokenizer
from pangu_ops.thinking.auto import Metacognition
from pangu_ops.thinking.modes import MODES

LONGEST = 160  # tokens of an answer with its thoughts; the longest right one has about 80


class Answered(NamedTuple):
    problem: object
    mode: str  # asked for
    served: str  # fast or slow, where auto chose
    right: bool
    tokens: int
    seconds: float


def evaluate(path, problems, modes=MODES):
    """An :class:`Answered` for every problem and mode; the modes take turns, so that noise hits them all alike."""
    model, tokenizer, metacognition = load_model(path), Tokenizer(path), Metacognition()
    Chat(model, tokenizer).ask("1 + 1 = ?", max_new_tokens=4)  # the first one pays for what is done once
    answered = []
    for problem in tqdm(problems, disable=None):
        for mode in modes:
            chat = Chat(model, tokenizer, mode, metacognition=metacognition)
            reply = chat.ask(problem.text, max_new_tokens=LONGEST)
            seconds = reply.prefill_seconds + reply.decode_seconds + (reply.decision.seconds if reply.decision else 0)
            right = reply.text == problem.answer
            answered.append(Answered(problem, mode, reply.mode, right, len(reply.new_ids), seconds))
    return answered


def summary(answered):
    """Mode to ``(accuracy in percent, mean tokens, mean milliseconds)``."""
    modes = {}
    for mode in dict.fromkeys(item.mode for item in answered):
        mine = [item for item in answered if item.mode == mode]
        modes[mode] = (
            100 * statistics.mean(item.right for item in mine),
            statistics.mean(item.tokens for item in mine),
            1000 * statistics.mean(item.seconds for item in mine),
        )
    return modes


def table(answered):
    """The summary, and the accuracy of every kind and level, as Markdown."""
    modes = summary(answered)
    slow_tokens = modes["slow"][1] if "slow" in modes else None
    lines = ["| mode | accuracy | mean tokens | of slow's | mean latency |", "|---|---|---|---|---|"]
    for mode, (accuracy, tokens, milliseconds) in modes.items():
        share = f"{100 * tokens / slow_tokens:.0f} %" if slow_tokens else "-"
        lines.append(f"| {mode} | {accuracy:.1f} % | {tokens:.1f} | {share} | {milliseconds:.1f} ms |")
    lines += ["", f"| kind, level | {' | '.join(modes)} | auto thinks |", f"|---|{'---|' * (len(modes) + 1)}"]
    for kind in KINDS:
        for level in LEVELS:
            mine = [item for item in answered if (item.problem.kind, item.problem.level) == (kind, level)]
            cells = [percent(item.right for item in mine if item.mode == mode) for mode in modes]
            thinks = percent(item.served == "slow" for item in mine if item.mode == "auto")
            lines.append(f"| {kind} {level} | {' | '.join(cells)} | {thinks} |")
    return "\n".join(lines)


def percent(marks):
    marks = list(marks)
    return f"{100 * statistics.mean(marks):.0f} %" if marks else "-"


def plot(answered, file):
    """Accuracy against tokens, one point per mode."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for mode, (accuracy, tokens, _) in summary(answered).items():
        axes.plot(tokens, accuracy, "o")
        axes.annotate(mode, (tokens, accuracy), textcoords="offset points", xytext=(6, -4))
    axes.set(xlabel="mean tokens of an answer", ylabel="right answers, %", ylim=(0, 103))
    axes.set_xlim(0, 1.2 * max(tokens for _, tokens, _ in summary(answered).values()))
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, default=EMBEDDED, help="checkpoint directory (default: shipped)")
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="another seed asks other held-out problems")
    parser.add_argument(
        "--save", type=Path, metavar="DIR", help="write modes.md and modes.png there (needs matplotlib)"
    )
    options = parser.parse_args(arguments)
    if options.save:  # whatever is missing for that, better now than after the evaluation
        import matplotlib  # noqa: F401

        options.save.mkdir(parents=True, exist_ok=True)
    problems = different_problems(options.problems, options.seed)
    random.Random(options.seed).shuffle(problems)
    answered = evaluate(options.path, problems)
    print(table(answered))
    if options.save:
        (options.save / "modes.md").write_text(f"{table(answered)}\n", encoding="utf-8")
        plot(answered, options.save / "modes.png")


if __name__ == "__main__":
    main()
