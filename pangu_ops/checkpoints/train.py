"""Train a shipped checkpoint from scratch: ``python -m pangu_ops.checkpoints.train FAMILY OUT --state FILE``.

FAMILY is embedded, pro-moe or draft; lessons.py says what each of them learns. Only the tokens of the answers are
learnt. One forward pass predicts each of them from the right ones before it, so where all are predicted, greedy
generation gives this answer.
"""

import argparse
import collections
import math
import os
import random
import tempfile
from pathlib import Path

import sentencepiece
import torch
import torch.nn.functional as F
from tqdm import tqdm

from pangu_ops import load_balance_loss
from pangu_ops.checkpoints import tokenizer
from pangu_ops.checkpoints.lessons import LESSONS
from pangu_ops.models.loader import MODELS, save_pretrained
from pangu_ops.models.tokenizer import chat_text
from pangu_ops.testing.timing import keep_memory

BATCH, PARTS = 64, 2  # examples in a batch, and the parts of like length that it is cut into against padding
IGNORED = -100
BALANCE = 0.005  # weight of the load balance loss
ADAM = 0.3  # AdamW's learning rate as a share of Muon's
PROBE = 16  # examples of each key that a look at the accuracy asks


def encode(pieces, example):
    """Token ids of the whole conversation, and the number of them that come before the answer."""
    ids = [pieces.bos_id(), *pieces.encode(chat_text(example.messages))]
    return ids + pieces.encode(f"{example.answer}[unused10]"), len(ids)


def batch_of(pieces, examples):
    """``ids [B, S]`` and ``labels [B, S]``: the next token inside an answer, IGNORED elsewhere."""
    encoded = [encode(pieces, example) for example in examples]
    ids = torch.zeros(len(encoded), max(len(tokens) for tokens, _ in encoded) - 1, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, (tokens, start) in enumerate(encoded):
        ids[row, : len(tokens) - 1] = torch.tensor(tokens[:-1])
        labels[row, start - 1 : len(tokens) - 1] = torch.tensor(tokens[start:])
    return ids, labels


def length(example):
    return sum(len(message["content"]) for message in example.messages) + len(example.answer)


def parts_of_batch(pieces, lesson, rng, shares):
    """A batch in parts of like length; ``shares`` says how often each key of the lesson is asked."""
    examples = [lesson.example(key, rng) for key in rng.choices(list(shares), list(shares.values()), k=BATCH)]
    examples.sort(key=length)
    size = BATCH // PARTS
    return [batch_of(pieces, examples[start : start + size]) for start in range(0, BATCH, size)]


@torch.no_grad()
def accuracy(model, pieces, examples):
    """Key to the share of its examples that greedy generation answers exactly."""
    right = collections.defaultdict(list)
    examples = sorted(examples, key=length)
    for start in range(0, len(examples), BATCH):
        batch = examples[start : start + BATCH]
        ids, labels = batch_of(pieces, batch)
        good = ((model(ids).argmax(-1) == labels) | (labels == IGNORED)).all(1)
        for example, ok in zip(batch, good.tolist(), strict=True):
            right[example.key].append(ok)
    return {key: sum(marks) / len(marks) for key, marks in sorted(right.items())}


def token_weights(labels, shortness):
    """``[B, S]``: what each token counts, an answer of n tokens ``n ** -shortness`` for each."""
    learnt = (labels != IGNORED).float()
    return learnt * learnt.sum(1, keepdim=True).clamp(min=1) ** -shortness


def loss_of(model, ids, labels, weights, total):
    """A part's share of the batch's mean loss, whose ``weights`` add up to ``total`` over all parts."""
    routing = []
    logits = model(ids, routing=routing)
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    loss = losses @ weights.flatten() / total
    if routing:
        balance = sum(load_balance_loss(scores.softmax(-1), chosen) for scores, chosen in routing) / len(routing)
        loss = loss + BALANCE / PARTS * balance
    return loss


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal (Jordan et al., 2024), in float32.

    torch.optim.Muon does the same in bfloat16, which takes longer than the whole backward on a CPU without it.
    """

    def __init__(self, params, lr, momentum=0.95):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                velocity.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(velocity, group["momentum"]))
                p.add_(update, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(matrix):
    """A matrix with the singular vectors of ``matrix`` and singular values near 1, by five Newton-Schulz steps."""
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def optimizers_of(model, lr):
    """Muon for the matrices that every token meets, AdamW for all else."""
    matrices = [
        p
        for name, p in model.named_parameters()
        if p.dim() == 2 and name.startswith("layers.") and not name.endswith(("router_scale", "gate.weight"))
    ]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return Muon(matrices, lr), torch.optim.AdamW(others, lr=ADAM * lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)


def schedule(step, steps):
    """The learning rate's factor: a short rise, then half a cosine."""
    return min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))


def write_checkpoint(model, out):
    """Make the checkpoint directory under a temporary name, then rename it to ``out``."""
    out = Path(out)
    scratch = out.with_name(f".{out.name}.tmp")
    scratch.mkdir(parents=True, exist_ok=True)
    tokenizer.train(scratch, model.config.max_position_embeddings)
    save_pretrained(model, scratch, torch.bfloat16)
    config = model.config
    ids = dict(bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id)
    tokenizer.write_json(scratch / "generation_config.json", {"do_sample": False} | ids)
    os.replace(scratch, out)


def new_model(lesson, pieces):
    config = lesson.config(vocab_size=len(pieces), eos_token_id=pieces.piece_to_id("[unused10]"), **lesson.sizes)
    model = MODELS[lesson.config](config)
    for name, parameter in model.named_parameters():
        if name.endswith("router_scale"):
            # The eight weights of a token sum to about an eighth at first: bring the experts up to the shared expert.
            parameter.data.fill_(8.0)
    return model


def save_state(path, step, model, optimizers, rng, shares):
    state = dict(
        step=step,
        model=model.state_dict(),
        optimizers=[optimizer.state_dict() for optimizer in optimizers],
        rng=rng.getstate(),
        shares=shares,
    )
    torch.save(state, f"{path}.tmp")
    os.replace(f"{path}.tmp", path)


def load_state(path, model, optimizers, rng):
    """Step and shares at which an earlier run stopped; its model, optimizers and generator are put in place."""
    state = torch.load(path)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    rng.setstate(state["rng"])
    return state["step"], state["shares"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=LESSONS)
    parser.add_argument("out", help="the checkpoint directory to write")
    parser.add_argument("--state", required=True, help="file to save the training's state to, and to resume from")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--lr", type=float, help="of Muon, at its height (default: the lesson's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=100, help="steps between two looks at the accuracy")
    args = parser.parse_args()
    if os.path.exists(args.out):
        parser.error(f"OUT must not exist yet, came {args.out}")

    keep_memory()
    lesson = LESSONS[args.family]
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.train(scratch)
        pieces = sentencepiece.SentencePieceProcessor(model_file=f"{scratch}/tokenizer.model")
    torch.manual_seed(args.seed)
    model, rng = new_model(lesson, pieces), random.Random(args.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    optimizers = optimizers_of(model, args.lr or lesson.lr)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    first, shares = 0, dict.fromkeys(lesson.keys, 1.0)
    if os.path.exists(args.state):
        first, shares = load_state(args.state, model, optimizers, rng)

    held_out = [lesson.example(key, random.Random(i), held_out=True) for key in lesson.keys for i in range(PROBE)]
    for step in (progress := tqdm(range(first, args.steps), initial=first, total=args.steps)):
        parts = parts_of_batch(pieces, lesson, rng, shares)
        weights = [token_weights(labels, lesson.shortness) for _, labels in parts]
        total = sum(weight.sum() for weight in weights)
        loss = 0.0
        for (ids, labels), weight in zip(parts, weights, strict=True):
            part = loss_of(model, ids, labels, weight, total)
            part.backward()
            loss += part.item()
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * schedule(step, args.steps)
            optimizer.step()
            optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if (step + 1) % args.every == 0:
            asked = [lesson.example(key, rng) for key in lesson.keys for _ in range(PROBE)]
            shares = {key: lesson.share(key, learnt) for key, learnt in accuracy(model, pieces, asked).items()}
            known = accuracy(model, pieces, held_out)
            keys = ", ".join(f"{key} {100 * share:.0f}" for key, share in known.items())
            mean = sum(known.values()) / len(known)
            tqdm.write(f"step {step + 1}: loss {loss:.3f}, held-out {100 * mean:.1f} %: {keys}")
            save_state(args.state, step + 1, model, optimizers, rng, shares)
    write_checkpoint(model, args.out)


if __name__ == "__main__":
    main()
