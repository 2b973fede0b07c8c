"""Fits difficulty.json: ``python -m pangu_ops.thinking.fit [--checkpoint DIR]``.

Logistic regression over the features of a Query, on the general queries of general.py and on problems.py's problems
for training, which count the same in total. Of a problem, level 3 needs slow thinking; with ``--checkpoint`` what
needs it is what that checkpoint answers wrong at once (Pangu Embedded report, stage 1: complexity for this student).
"""

import argparse
import json
import os
import random
from pathlib import Path

import numpy as np

from pangu_ops.checkpoints.problems import LEVELS, different_problems
from pangu_ops.thinking.general import EASY, HARD
from pangu_ops.thinking.modes import parse, tagged
from pangu_ops.thinking.query import FARTHEST, FITTED, Query, analyse

# A problem that is answered wrong costs as much as so many that are thought over in vain: from a difficulty of 0.5 on,
# which stands for a chance of 1 in 1 + WRONG_COST to be wrong, slow thinking pays.
WRONG_COST = 7.0
PENALTY = 0.0001  # of the squared coefficients, against a mean log loss
ANSWER_TOKENS = 32  # the longest fast answer has half of that


def wrong_when_fast(path, problems):
    """Of each problem, whether the checkpoint in ``path`` answers it wrong in fast mode, greedily."""
    from pangu_ops import generate, load_model
    from pangu_ops.models.tokenizer import Tokenizer

    model, tokenizer, wrong = load_model(path), Tokenizer(path), []
    for problem in problems:
        ids = tokenizer.encode_chat(tagged([{"role": "user", "content": problem.text}], "fast"))
        new_ids = generate(model, ids, max_new_tokens=ANSWER_TOKENS, stop_ids=(model.config.eos_token_id,))
        wrong.append(parse(tokenizer.decode(new_ids, control=True)).answer != problem.answer)
    return wrong


def regress(x, y, weights, steps=50):
    """Coefficients, the bias last, that minimise the weighted mean log loss plus the penalty, by Newton steps."""
    x = np.column_stack([x, np.ones(len(x))])
    weights = weights / weights.sum()
    penalty = PENALTY * np.append(np.ones(x.shape[1] - 1), 0)
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (weights * (p - y)) + penalty * w
        hessian = (x.T * (weights * p * (1 - p))) @ x + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if abs(step).max() < 1e-10:
            break
    return w


def fit(groups, costs):
    """What goes into difficulty.json, from ``groups``: name -> list of (text, label), and what a missed 1 costs.

    Every fifth query of a group, after shuffling, only measures.
    """
    train, measured = [], {}
    for name, group in groups.items():
        group = list(group)
        random.Random(0).shuffle(group)
        measured[name] = group[::5]
        kept = [pair for index, pair in enumerate(group) if index % 5]
        train += [(analyse(text), label, (costs[name] if label else 1) / len(kept)) for text, label in kept]
    x, y, weights = (np.array(column, dtype=np.float64) for column in zip(*train))
    mean = np.average(x, axis=0, weights=weights)
    scale = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
    scale[scale == 0] = 1

    def standard(x):
        return ((x - mean) / scale).clip(-FARTHEST, FARTHEST)

    w = regress(standard(x), y, weights)
    accuracy = {}
    for name, group in measured.items():
        said = standard(np.array([analyse(text) for text, _ in group])) @ w[:-1] + w[-1] > 0
        accuracy[name] = (said == [label for _, label in group]).mean()
    # Seven digits hide how differently machines round.
    rounded = np.vectorize(lambda value: float(f"{value:.7g}"))
    features = {
        name: dict(zip(("mean", "scale", "weight"), map(float, rounded(row))))
        for name, row in zip(Query._fields, np.column_stack([mean, scale, w[:-1]]))
    }
    return {"bias": float(rounded(w[-1])), "features": features, "held_out_accuracy": accuracy}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="label the problems by what this checkpoint answers wrong")
    parser.add_argument("--problems", type=int, default=3600)
    parser.add_argument("--out", type=Path, default=FITTED)
    options = parser.parse_args(arguments)
    problems = different_problems(options.problems, held_out=False)
    wrong = (
        wrong_when_fast(options.checkpoint, problems)
        if options.checkpoint
        else [p.level == max(LEVELS) for p in problems]
    )
    general = [(text, False) for text in EASY] + [(text, True) for text in HARD]
    labels = f"wrong in fast mode by {options.checkpoint.name}" if options.checkpoint else f"level {max(LEVELS)}"
    cost = WRONG_COST if options.checkpoint else 1.0
    fitted = {"problem_labels": labels, "wrong_cost": cost} | fit(
        {"general": general, "problems": [(problem.text, bad) for problem, bad in zip(problems, wrong)]},
        {"general": 1.0, "problems": cost},
    )
    new = options.out.with_suffix(".new")
    new.write_text(json.dumps(fitted, indent=1) + "\n")
    os.replace(new, options.out)
    for name, share in fitted["held_out_accuracy"].items():
        print(f"{name:10}{100 * share:6.1f} % right on the fifth left out")


if __name__ == "__main__":
    main()
