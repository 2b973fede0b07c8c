"""Greedy generation against the official code's tokens, and sampling from the distribution."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pangu_ops
from pangu_ops.models import ModelError, ProMoEConfig, ProMoEForCausalLM

TINY = Path(__file__).parent / "data" / "pro-moe-tiny"
GOLDEN = load_file(TINY / "golden.safetensors")
PROMPT, OUTPUT = GOLDEN["greedy.prompt"][0].tolist(), GOLDEN["greedy.output"][0].tolist()


@pytest.fixture(scope="module")
def model():
    return pangu_ops.load_model(TINY)


@pytest.mark.many_steps
def test_greedy_tokens_are_those_of_the_official_code(model, implementation):
    assert pangu_ops.generate(model, PROMPT, max_new_tokens=24) == OUTPUT


@pytest.mark.parametrize("ids", [torch.tensor(PROMPT), torch.tensor([PROMPT]), tuple(PROMPT)])
def test_a_prompt_may_be_a_tensor(model, ids):
    assert pangu_ops.generate(model, ids, max_new_tokens=3) == OUTPUT[:3]


def test_a_stop_id_is_the_last_one_returned(model):
    assert pangu_ops.generate(model, PROMPT, max_new_tokens=24, stop_ids=(299, OUTPUT[4])) == OUTPUT[:5]


def test_the_callback_sees_each_id_before_the_next_is_computed(model):
    class Enough(Exception):
        pass

    seen = []

    def callback(token):
        seen.append(token)
        if len(seen) == 3:
            raise Enough

    with pytest.raises(Enough):
        pangu_ops.generate(model, PROMPT, max_new_tokens=24, callback=callback)
    assert seen == OUTPUT[:3]


def test_generation_ends_where_the_context_does(model):
    prompt = [5] * 509  # of 512
    assert len(pangu_ops.generate(model, prompt, max_new_tokens=24)) == 3


def test_a_seed_repeats_and_another_one_differs(model):
    runs = [pangu_ops.generate(model, PROMPT, max_new_tokens=12, temperature=2.0, seed=seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]
    unseeded = [pangu_ops.generate(model, PROMPT, max_new_tokens=12, temperature=2.0) for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_tokens_are_drawn_from_the_distribution():
    """300 draws out of the three likeliest: every frequency within five standard deviations."""
    torch.manual_seed(0)
    model = ProMoEForCausalLM(
        ProMoEConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=4,
            shared_expert_intermediate_size=4,
            initializer_range=0.5,
        )
    )
    draws = [
        pangu_ops.generate(model, [7], max_new_tokens=1, temperature=1.5, top_k=3, seed=seed)[0] for seed in range(300)
    ]
    expected = pangu_ops.sampling_probs(model(torch.tensor([[7]]))[0].detach(), temperature=1.5, top_k=3)[0]
    assert set(draws) == set(expected.nonzero().flatten().tolist()) and len(set(draws)) == 3
    frequency = torch.bincount(torch.tensor(draws), minlength=20) / 300
    assert ((frequency - expected).abs() <= 5 * (expected * (1 - expected) / 300).sqrt()).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_end_it(temperature):
    model = pangu_ops.load_model(TINY)
    with torch.no_grad():
        model.norm[3] = float("nan")
    with pytest.raises(ModelError, match="^generate: the model's logits must be finite, came NaN or infinity in torch"):
        pangu_ops.generate(model, PROMPT, temperature=temperature)


def test_the_farthest_seeds_are_taken(model):
    for seed in (-(2**63), 2**64 - 1):
        assert pangu_ops.generate(model, PROMPT, max_new_tokens=1, temperature=1.0, top_k=10**30, seed=seed)


@pytest.mark.parametrize(
    "ids, options, message",
    [
        ([], {}, "the prompt must have at least one id, came none"),
        ([1, 300], {}, "ids must be 0 to 299, came 300"),
        ([-1], {}, "ids must be 0 to 299, came -1"),
        ([1] * 512, {}, "the prompt must be shorter than the context of 512 tokens, came 512"),
        ([0.5], {}, r"the prompt must be integers of shape \[S\] or \[1, S\], came torch.float32 \[1\]"),
        ([True], {}, r"came torch.bool \[1\]"),
        ([1j], {}, r"came torch.complex64 \[1\]"),
        ([[1], [2, 3]], {}, "the prompt must be integers of shape .*, came others: .*"),
        ([10**30], {}, "the prompt must be integers of shape .*, came others: .*"),
        (["1"], {}, "the prompt must be integers of shape .*, came others: .*"),
        (torch.ones(2, 3, dtype=torch.long), {}, r"came torch.int64 \[2, 3\]"),
        ([1], dict(max_new_tokens=0), "max_new_tokens must be at least 1, came 0"),
        ([1], dict(temperature=-1.0), "temperature must be at least 0, came -1.0"),
        ([1], dict(temperature=float("nan")), "temperature must be at least 0, came nan"),
        ([1], dict(top_k=-1), "top_k must be at least 0, came -1"),
        ([1], dict(top_p=0.0), "top_p must be above 0 and at most 1, came 0.0"),
        ([1], dict(seed=2**64), f"seed must be from .*, came {2**64}"),
        ([1], dict(seed=-(2**63) - 1), f"seed must be from .*, came {-(2**63) - 1}"),
    ],
)
def test_refusals(model, ids, options, message):
    with pytest.raises(ModelError, match=f"^generate: .*{message}$"):
        pangu_ops.generate(model, ids, **options)
