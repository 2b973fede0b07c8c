"""A whole decode step of Pangu Embedded with random weights: on a GPU the 7B, from a CUDA graph, on CPU the 1B."""

import functools

import pytest
import torch

from pangu_ops.models import EmbeddedConfig, EmbeddedForCausalLM, KVCache
from pangu_ops.testing.bench import Contest, place, sizes

PAST = 512
SIZES = {
    "1B": dict(hidden_size=1536, intermediate_size=6144, num_hidden_layers=26, num_attention_heads=12,
               num_key_value_heads=6),
    "7B": {},
}  # fmt: skip


@functools.cache
def model_of(name):
    with place():
        model = EmbeddedForCausalLM(EmbeddedConfig(**SIZES[name]), torch.bfloat16, initialize=False)
    for parameter in model.parameters():
        parameter.requires_grad_(False).normal_(std=0.02)
    return model


def prepare(name, batch):
    model = model_of(name)
    weight = model.embed.weight
    cache = KVCache(model.config, batch, PAST + 1, weight.device, weight.dtype)
    model(torch.randint(0, 1000, (batch, PAST)), cache=cache, last=1)
    ids = torch.randint(0, 1000, (batch, 1))

    def step():
        for row in range(batch):
            cache.truncate(row, PAST)
        return model(ids, cache=cache)

    for _ in range(4):  # a graph is captured
        step()
    return step, {}


def contests():
    for name, batch in sizes((("1B", 1),), (("7B", 1), ("7B", 16))):
        config = EmbeddedConfig(**SIZES[name])
        H, D = config.hidden_size, config.head_dim
        heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads
        layer = H * D * heads + 3 * H * config.intermediate_size
        cached = batch * PAST * 2 * config.num_key_value_heads * D
        yield Contest(
            f"decode step {name} B={batch} past={PAST}",
            lambda case=(name, batch): prepare(*case),
            bytes=2 * (config.num_hidden_layers * (layer + cached) + config.vocab_size * H),
            budget=6.0,
            limit="read",
        )


@pytest.mark.parametrize("contest", list(contests()), ids=str)
def test_decode(benchmark, contest):
    contest.benchmark(benchmark)
