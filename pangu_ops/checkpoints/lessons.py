"""What each shipped checkpoint learns, and the sizes of its model; train.py does the learning."""

from typing import NamedTuple

from pangu_ops.checkpoints import problems, questions
from pangu_ops.models.config import EmbeddedConfig, ProMoEConfig
from pangu_ops.thinking.modes import CLOSE, OPEN, TAGS


class Example(NamedTuple):
    key: str
    messages: list
    answer: str


class ProMoELesson:
    """Short questions of many kinds, each answered at once."""

    config = ProMoEConfig
    sizes = dict(
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=64,
        num_experts_per_tok=8,
        moe_intermediate_size=24,
        shared_expert_intermediate_size=256,
        max_position_embeddings=256,
        rope_theta=10000.0,
        initializer_range=0.05,
    )
    lr = 0.007
    shortness = 0.0  # every token counts the same
    keys = tuple(questions.KINDS)

    def example(self, key, rng, held_out=False):
        question = questions.ask(key, rng, held_out)
        return Example(key, [{"role": "user", "content": question.text}], question.answer)

    def share(self, key, learnt):
        return 1.1 - learnt


class EmbeddedLesson:
    """Arithmetic of graded difficulty: answered at once, with worked steps, or as the difficulty asks for."""

    config = EmbeddedConfig
    sizes = dict(
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=640,
        max_position_embeddings=512,
        rope_theta=10000.0,
        initializer_range=0.05,
    )
    lr = 0.008
    shortness = 0.5  # else the few tokens of a direct answer, which are the hard ones, drown in worked steps
    keys = tuple(f"{kind} {level} {mode}" for mode in TAGS for level in problems.LEVELS for kind in problems.KINDS)
    earlier = 0.15  # share of the conversations that have a turn before the one that is learnt

    def example(self, key, rng, held_out=False):
        kind, level, mode = key.split()
        problem = problems.pose(kind, int(level), rng, held_out)
        worked = mode == "slow" or (mode == "model" and problem.level == max(problems.LEVELS))
        messages = [{"role": "user", "content": problem.text + TAGS[mode]}]
        if rng.random() < self.earlier:
            before = problems.pose(rng.choice(list(problems.KINDS)), rng.choice(problems.LEVELS), rng, held_out=False)
            said = {"role": "assistant", "content": before.answer}  # a client drops the thoughts of earlier turns
            messages = [{"role": "user", "content": before.text + rng.choice(list(TAGS.values()))}, said, *messages]
        return Example(key, messages, f"{OPEN}{problem.steps if worked else ''}{CLOSE}{problem.answer}")

    def share(self, key, learnt):
        """Most of what is half learnt, little of what is known or hopeless (Pangu Embedded report, stage 1).

        A direct answer takes longer to learn than worked steps and is asked twice as often; to the hardest problems it
        is never learnt well, so that these are no reason to ask it more.
        """
        kind, level, mode = key.split()
        least = 0.25 if int(level) == max(problems.LEVELS) else 0.75
        return (least + 4 * learnt * (1 - learnt)) * (1 if mode == "slow" else 2)


class DraftLesson(ProMoELesson):
    """What Pangu Pro MoE learns, for the small dense model that drafts for it."""

    config = EmbeddedConfig
    sizes = dict(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=384,
        max_position_embeddings=256,
        rope_theta=10000.0,
        initializer_range=0.05,
    )
    lr = 0.01


LESSONS = {"embedded": EmbeddedLesson(), "pro-moe": ProMoELesson(), "draft": DraftLesson()}
