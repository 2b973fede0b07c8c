"""Pangu Embedded against logits that the official modelling code computed for a small random checkpoint."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pangu_ops
from pangu_ops.models import EmbeddedConfig, EmbeddedForCausalLM, KVCache, ModelError, save_pretrained

TINY = Path(__file__).parent / "data" / "embedded-tiny"
GOLDEN = load_file(TINY / "golden.safetensors")
SMALL = dict(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=24,
    max_position_embeddings=32,
    initializer_range=0.2,
)


@pytest.fixture(scope="module")
def model():
    return pangu_ops.load_model(TINY)


def small(**changes):
    torch.manual_seed(0)
    return EmbeddedForCausalLM(EmbeddedConfig(**SMALL | changes))


@pytest.mark.parametrize("number", range(3))
def test_logits_are_those_of_the_official_code(model, implementation, number):
    logits = model(GOLDEN[f"ids.{number}"])
    assert logits.dtype == torch.float32
    assert (logits - GOLDEN[f"logits.{number}"]).abs().max() < 1e-4


@pytest.mark.many_steps
def test_greedy_tokens_are_those_of_the_official_code(model, implementation):
    prompt, output = (GOLDEN[f"greedy.{name}"][0].tolist() for name in ("prompt", "output"))
    assert pangu_ops.generate(model, prompt, max_new_tokens=len(output)) == output


@pytest.mark.many_steps
@pytest.mark.parametrize("lengths", [[1] * 33, [20, 13], [32, 1]], ids=["token by token", "two pieces", "prefill, 1"])
def test_pieces_through_the_cache_equal_one_pass(model, implementation, lengths):
    ids, cache = GOLDEN["ids.1"], KVCache(model.config, 2, 33)
    pieces = torch.cat([model(part, cache=cache) for part in ids.split(lengths, dim=1)], dim=1)
    if implementation == "reference":  # torch's own products sum in another order for other shapes
        assert (pieces - model(ids)).abs().max() < 1e-4
    else:
        assert torch.equal(pieces, model(ids))


@pytest.mark.many_steps
def test_a_batch_of_unequal_lengths_equals_each_sequence_alone_bit_for_bit(model, implementation):
    """Prefill of three lengths, then a step in which one row has two new ids, one has one and one none."""
    generator, counts = torch.Generator().manual_seed(0), ([20, 7, 13], [2, 0, 1])
    steps = [torch.randint(300, (3, max(count)), generator=generator) for count in counts]
    together = KVCache(model.config, 3, 40)
    logits = [model(ids, cache=together, lengths=count) for ids, count in zip(steps, counts)]
    for row in range(3):
        alone = KVCache(model.config, 1, 40)
        for ids, count, whole in zip(steps, counts, logits):
            count = count[row]
            assert not whole[row, count:].any()
            if count:
                wanted = model(ids[row : row + 1, :count], cache=alone)[0]
                if implementation == "reference":  # torch's own products sum in another order for other shapes
                    torch.testing.assert_close(whole[row, :count], wanted, rtol=0, atol=1e-5)
                else:
                    assert torch.equal(whole[row, :count], wanted)


def test_last_takes_the_end_of_each_row(model):
    ids, counts = GOLDEN["ids.2"], [7, 3, 5]
    whole = model(ids, cache=KVCache(model.config, 3, 7), lengths=counts)
    last = model(ids, cache=KVCache(model.config, 3, 7), lengths=counts, last=2)
    for row, count in enumerate(counts):
        torch.testing.assert_close(last[row], whole[row, count - 2 : count], rtol=0, atol=1e-6)


def test_training_and_inference_give_the_same_logits():
    model, ids = small(), torch.arange(20).reshape(2, 10)
    trained = model(ids)
    assert trained.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(model(ids), trained.detach(), rtol=0, atol=1e-5)


def test_it_learns():
    model, ids = small(), torch.randint(50, (4, 9), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.any() for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("changes", [dict(bias=False), dict(tie_word_embeddings=True)], ids=str)
def test_the_layout_has_what_the_config_asks_for(tmp_path, changes):
    model = small(**changes).requires_grad_(False)
    save_pretrained(model, tmp_path)
    names, ids = set(load_file(tmp_path / "model.safetensors")), torch.arange(9)[None]
    assert any(name.endswith("proj.bias") for name in names) == model.config.bias
    assert ("lm_head.weight" in names) != model.config.tie_word_embeddings
    assert torch.equal(pangu_ops.load_model(tmp_path)(ids), model(ids))


def test_the_released_sizes():
    """Parameters and KV bytes of 7B and 1B as published; the layout alone, no memory is taken."""
    from pangu_ops.models.layout import checkpoint_layout

    one = EmbeddedConfig(
        hidden_size=1536,
        num_hidden_layers=26,
        num_attention_heads=12,
        num_key_value_heads=6,
        intermediate_size=6144,
        rope_theta=4e6,
        tie_word_embeddings=True,
    )
    for config, parameters in ((EmbeddedConfig(), 8_030_887_936), (one, 1_155_912_192)):
        slots = checkpoint_layout(config).values()
        assert sum(torch.Size(slot.shape).numel() for slot in slots) == parameters
        assert config.head_dim == 128


def test_refused_lengths():
    model, ids = small().requires_grad_(False), torch.zeros(2, 3, dtype=torch.long)
    for lengths, message in (
        ([3, 4], r"lengths must be 0 to 3 for each of 2 rows, came \[3, 4\]"),
        ([3], "for each of 2 rows"),
        ([0, 0], r"came \[0, 0\]"),
    ):
        with pytest.raises(ModelError, match=message):
            model(ids, cache=KVCache(model.config, 2, 8), lengths=lengths)
    with pytest.raises(ModelError, match="lengths must come with a cache"):
        model(ids, lengths=[3, 2])
    with pytest.raises(ModelError, match="last must be 1 to 2, the ids of the shortest row, came 3"):
        model(ids, cache=KVCache(model.config, 2, 8), lengths=[3, 2], last=3)
