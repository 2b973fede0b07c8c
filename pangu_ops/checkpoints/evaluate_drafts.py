"""Measure speculative decoding: ``python -m pangu_ops.checkpoints.evaluate_drafts``.

The shipped checkpoints answer held-out questions, greedy and one at a time, with every drafter that there is for them.
``--real-size`` adds a model of Pangu Embedded 1B's size, with random weights and a text that is known beforehand.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from pangu_ops import generate, load_model
from pangu_ops.checkpoints import DRAFT, EMBEDDED, PRO_MOE
from pangu_ops.checkpoints.problems import different_problems
from pangu_ops.checkpoints.questions import held_out_questions
from pangu_ops.models import EmbeddedConfig, EmbeddedForCausalLM
from pangu_ops.models.tokenizer import Tokenizer
from pangu_ops.speculative import DraftModel, Firp, NGram
from pangu_ops.testing.timing import keep_memory

LONGEST = 160


class Measured(NamedTuple):
    text: str
    drafter: str
    accepted: float  # share of the drafted tokens
    tokens_per_pass: float
    faster: float  # than without a drafter, the prompt and the drafting included


def measure(text, model, prompts, drafters, max_new_tokens=LONGEST, stop_ids=()):
    """A :class:`Measured` for each of ``drafters`` (name to drafter), which take turns with decoding without one."""
    contestants = {"none": None, **drafters}
    seconds, tokens = dict.fromkeys(contestants, 0.0), dict.fromkeys(contestants, 0)
    for number, prompt in enumerate(tqdm([prompts[0], *prompts], text, disable=None)):
        outputs = []
        for name, drafter in contestants.items():
            begin = time.perf_counter()
            options = dict(max_new_tokens=max_new_tokens, stop_ids=stop_ids, speculative=drafter)
            outputs.append(generate(model, prompt, **options))
            tokens[name] += len(outputs[-1])
            if number:
                seconds[name] += time.perf_counter() - begin
            elif drafter is not None:  # the first time pays for what is done once
                drafter.passes = drafter.drafted = drafter.accepted = tokens[name] = 0
        others = [name for name, ids in zip(contestants, outputs) if ids != outputs[0]]
        if others:  # possible in bfloat16, where several rows are not multiplied as one is
            tqdm.write(f"{text}: other tokens with {', '.join(others)}")
    return [
        Measured(
            text,
            name,
            drafter.accepted / max(1, drafter.drafted),
            tokens[name] / drafter.passes,
            seconds["none"] / seconds[name],
        )
        for name, drafter in drafters.items()
    ]


def shipped(number, seed):
    """The shipped checkpoints on held-out questions: Pangu Pro MoE, and Pangu Embedded thinking."""
    texts = {
        PRO_MOE: [question.text for question in held_out_questions(number, seed)],
        EMBEDDED: [problem.text for problem in different_problems(number, seed)],
    }
    for path, asked in texts.items():
        model, tokenizer = load_model(path), Tokenizer(path)
        prompts = [tokenizer.encode_chat([{"role": "user", "content": text}]) for text in asked]
        drafters = {"ngram": NGram(), "firp": Firp.load(path)}
        if path == PRO_MOE:
            drafters["model"] = DraftModel.load(DRAFT, PRO_MOE)
        yield from measure(f"shipped {path.name}", model, prompts, drafters, LONGEST, (model.config.eos_token_id,))


class RealSize(EmbeddedForCausalLM):
    """Pangu Embedded 1B's size with random weights, and a head that makes ``after[t]`` follow token t.

    What the layers add to the stream is small, so that the text is known beforehand; they take the time they take.
    """

    SIZE = dict(
        hidden_size=1536,
        num_hidden_layers=26,
        num_attention_heads=12,
        num_key_value_heads=6,
        intermediate_size=6144,
        vocab_size=153376,
        max_position_embeddings=4096,
    )

    def __init__(self, after, config=None):
        config = config or EmbeddedConfig(**self.SIZE)
        super().__init__(config, torch.bfloat16)
        self.eval().requires_grad_(False)
        for layer in self.layers:
            layer.down.weight.mul_(0.01)
            layer.attention.o_proj.weight.mul_(0.01)
        self.say(after)

    def say(self, after):
        self.lm_head.weight[after] = self.embed.weight


def real_size(new_tokens=128, period=48):
    """A text that says the same again, and one that does not."""
    vocabulary = RealSize.SIZE["vocab_size"]
    order = torch.randperm(vocabulary, generator=torch.Generator().manual_seed(0))
    once = torch.empty(vocabulary, dtype=torch.int64)
    once[order] = order.roll(-1)
    again = once.clone()
    again[order[period - 1]], again[order[-1]] = order[0], order[period]
    model = RealSize(again)
    heard = order[:period].tolist()
    yield from measure("real size, repetitive", model, [heard] * 3, {"ngram": NGram()}, new_tokens)
    model.say(once)
    yield from measure("real size, never said before", model, [heard] * 3, {"ngram": NGram()}, new_tokens)


def table(measured):
    lines = ["| text | drafter | drafts accepted | tokens per pass | times faster |", "|---|---|---|---|---|"]
    for row in measured:
        share = f"{100 * row.accepted:.0f} %"
        lines.append(f"| {row.text} | {row.drafter} | {share} | {row.tokens_per_pass:.2f} | {row.faster:.2f} |")
    return "\n".join(lines)


def plot(measured, file):
    """A bar for each drafter of each text: how many times faster."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.5 + 0.4 * len(measured)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh([f"{row.text}: {row.drafter}" for row in measured], [row.faster for row in measured], height=0.6)
    said = [f"{row.tokens_per_pass:.1f} tokens a pass, {100 * row.accepted:.0f} % accepted" for row in measured]
    axes.bar_label(bars, said, padding=4, fontsize=8)
    axes.axvline(1, color="gray", linewidth=1)
    axes.set(xlabel="times faster than without drafts", xlim=(0, 1.9 * max(row.faster for row in measured)))
    axes.invert_yaxis()
    figure.savefig(file, dpi=120)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="another seed asks other held-out questions")
    parser.add_argument("--real-size", action="store_true", help="the 1B model too: 3 GB of memory, some minutes")
    parser.add_argument(
        "--save", type=Path, metavar="DIR", help="write drafts.md and drafts.png there (needs matplotlib)"
    )
    options = parser.parse_args(arguments)
    if options.save:  # whatever is missing for that, better now than after the evaluation
        import matplotlib  # noqa: F401

        options.save.mkdir(parents=True, exist_ok=True)
    if options.questions < 1:
        parser.error("--questions must be at least 1")
    keep_memory()
    measured = list(shipped(options.questions, options.seed))
    if options.real_size:
        measured += real_size()
    print(table(measured))
    if options.save:
        (options.save / "drafts.md").write_text(f"{table(measured)}\n", encoding="utf-8")
        plot(measured, options.save / "drafts.png")


if __name__ == "__main__":
    main()
