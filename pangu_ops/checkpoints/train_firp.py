"""Train the FIRP maps of a shipped checkpoint: ``python -m pangu_ops.checkpoints.train_firp FAMILY [PATH]``."""

import argparse
import random
from pathlib import Path

import torch

from pangu_ops import load_model
from pangu_ops.checkpoints import EMBEDDED, PRO_MOE
from pangu_ops.checkpoints.lessons import LESSONS
from pangu_ops.checkpoints.train import encode
from pangu_ops.models.tokenizer import Tokenizer
from pangu_ops.speculative.train_firp import Rows, guesses, train_firp
from pangu_ops.testing.timing import keep_memory

SHIPPED = {"embedded": EMBEDDED, "pro-moe": PRO_MOE}


def texts(pieces, lesson, rng, number, held_out=False):
    """``(ids, start of the answer)`` of questions of every key in turn, as the lesson poses them."""
    keys = [lesson.keys[index % len(lesson.keys)] for index in range(number)]
    return [encode(pieces, lesson.example(key, rng, held_out)) for key in keys]


@torch.no_grad()
def accuracy(model, firp, batch):
    """How often each pseudo state's likeliest token is the right one."""
    rows = Rows(batch, firp.most)
    right, known = guesses(model, firp, rows).argmax(-1) == rows.labels, rows.labels >= 0
    return (right.sum(0) / known.sum(0)).tolist()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=SHIPPED)
    parser.add_argument("path", nargs="?", type=Path, help="checkpoint directory (default: the family's that ships)")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--count", type=int, default=4, help="pseudo states")
    parser.add_argument("--layer", type=int, help="layers before them (default: half)")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=24, help="texts of a step; their attention is one square")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    if min(args.steps, args.batch, args.count) < 1:
        parser.error("--steps, --batch and --count must be at least 1")

    keep_memory()
    path = args.path or SHIPPED[args.family]
    model, pieces = load_model(path, dtype=torch.float32), Tokenizer(path).pieces
    lesson, rng = LESSONS[args.family], random.Random(args.seed)
    examples = texts(pieces, lesson, rng, args.steps * args.batch)
    rng.shuffle(examples)
    batches = [examples[start : start + args.batch] for start in range(0, len(examples), args.batch)]
    firp = train_firp(model, batches, args.layer, args.count, args.lr)
    held_out = texts(pieces, lesson, random.Random(args.seed + 1), 200, held_out=True)
    shares = ", ".join(f"{100 * share:.0f} %" for share in accuracy(model, firp, held_out))
    print(f"held-out tokens told by the pseudo states: {shares}")
    firp.save(path)


if __name__ == "__main__":
    main()
