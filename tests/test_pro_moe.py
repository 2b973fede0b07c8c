"""The model against logits that the official modelling code computed for a small random checkpoint.

That checkpoint's weights are large: the official code's own float32 logits are up to 4e-5 away from float64.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pangu_ops
from pangu_ops.models import KVCache, ModelError, ProMoEConfig, ProMoEForCausalLM

TINY = Path(__file__).parent / "data" / "pro-moe-tiny"
GOLDEN = load_file(TINY / "golden.safetensors")
SMALL = dict(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_experts=12,
    moe_intermediate_size=6,
    shared_expert_intermediate_size=10,
    max_position_embeddings=32,
)


@pytest.fixture(scope="module")
def model():
    return pangu_ops.load_model(TINY)


def small(**changes):
    torch.manual_seed(0)
    return ProMoEForCausalLM(ProMoEConfig(**SMALL | {"num_experts_per_tok": 4} | changes))


def in_steps(model, ids, *lengths):
    """The logits of ``ids`` when they come in pieces of the given lengths."""
    cache = KVCache(model.config, len(ids), ids.shape[1])
    return torch.cat([model(part, cache=cache) for part in ids.split(lengths, dim=1)], dim=1)


@pytest.mark.parametrize("number", range(3))
def test_logits_are_those_of_the_official_code(model, implementation, number):
    logits = model(GOLDEN[f"ids.{number}"])
    assert logits.dtype == torch.float32
    assert (logits - GOLDEN[f"logits.{number}"]).abs().max() < 1e-4


@pytest.mark.many_steps
@pytest.mark.parametrize("lengths", [[1] * 33, [20, 13], [32, 1]], ids=["token by token", "two pieces", "prefill, 1"])
def test_pieces_through_the_cache_equal_one_pass(model, implementation, lengths):
    ids = GOLDEN["ids.1"]
    error = (in_steps(model, ids, *lengths) - model(ids)).abs()
    assert error.max() < 1e-4 and error.mean() < 1e-5


def test_pieces_through_the_cache_equal_one_pass_where_rounding_is_small():
    """With weights of the size that models start from, no rounding is blown up: 1e-5 holds."""
    model, ids = small(initializer_range=0.2), torch.arange(32).reshape(2, 16)
    with torch.no_grad():
        assert (in_steps(model, ids, *[1] * 16) - model(ids)).abs().max() < 1e-5


@pytest.mark.many_steps
def test_rows_of_a_batch_do_not_touch_each_other(model, implementation):
    ids = GOLDEN["ids.1"]
    for row, logits in enumerate(model(ids)):
        error = (model(ids[row : row + 1])[0] - logits).abs()
        assert error.max() < 1e-4 and error.mean() < 1e-5


@pytest.mark.many_steps
def test_bf16_stays_near_fp32(implementation):
    """8 bits of mantissa through 3 layers of large weights: under 10 % of the logits' norm, and not bit-equal."""
    model, ids = pangu_ops.load_model(TINY, dtype=torch.bfloat16), GOLDEN["ids.1"]
    logits, expected = model(ids), GOLDEN["logits.1"]
    assert logits.dtype == torch.float32
    assert 0 < (logits - expected).norm() / expected.norm() < 0.1


def test_last_gives_the_end_of_all_logits(model):
    ids = GOLDEN["ids.1"]
    assert model(ids, last=2).shape == (2, 2, 300)
    torch.testing.assert_close(model(ids, last=2), model(ids)[:, -2:], rtol=0, atol=1e-4)


def test_routing_tells_each_layers_logits_and_experts():
    model, ids, routing = small(num_experts_per_tok=6, num_groups=3), torch.arange(10).reshape(2, 5), []
    model(ids, routing=routing)
    assert len(routing) == 2
    for logits, expert_ids in routing:
        assert logits.shape == (10, 12) and expert_ids.shape == (10, 6)
        best = logits.view(10, 3, 4).topk(2).indices + torch.tensor([0, 4, 8])[:, None]
        assert torch.equal(expert_ids.long(), best.flatten(1))


def test_the_experts_follow_the_formula():
    """One layer against a double loop: softmax over all, the best of each group, not renormalised, then the scale."""
    moge = small().layers[0].moge
    with torch.no_grad():
        moge.router_scale.uniform_(0.5, 2)
        x = torch.randn(5, 16)

        def swiglu(x, gate_up, down):
            gate, up = (gate_up @ x).chunk(2)
            return down @ (torch.nn.functional.silu(gate) * up)

        for token, y in zip(x, moge(x, None), strict=True):
            scores = (moge.gate.weight @ token).softmax(-1)
            expected = swiglu(token, moge.shared_gate_up.weight, moge.shared_down.weight)
            for group in range(4):
                expert = 3 * group + scores[3 * group : 3 * group + 3].argmax()
                weight = scores[expert] * moge.router_scale[0, expert]
                expected = expected + weight * swiglu(token, moge.gate_up[expert], moge.down[expert])
            torch.testing.assert_close(y, expected)


def test_it_learns():
    """Every parameter gets a gradient, the balance loss included, and a short text is learnt by heart."""
    model, ids = small(initializer_range=0.1), torch.randint(50, (4, 9), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(40):
        routing = []
        logits = model(ids[:, :-1], routing=routing)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        balance = sum(pangu_ops.load_balance_loss(router.float().softmax(-1), chosen) for router, chosen in routing)
        optimizer.zero_grad()
        (loss + 1e-3 * balance).backward()
        if step == 0:
            first = loss.item()
            assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
            assert all(parameter.grad.any() for parameter in model.parameters())
        optimizer.step()
    assert loss < first / 4


def test_tied_embeddings_are_one_parameter():
    names = [name for name, _ in small(tie_word_embeddings=True).named_parameters()]
    assert "embed.weight" in names and "lm_head.weight" not in names


def test_the_cache_counts_its_memory_and_can_forget(model):
    ids = GOLDEN["ids.1"]
    cache = KVCache(model.config, 2, 40, block_size=8)
    assert cache.memory() == 2 * 3 * 2 * 1 * 40 * 32 * 4  # k and v, layers, batch, kv heads, tokens, head_dim, bytes
    model(ids, cache=cache)
    assert cache.lengths == [33, 33]
    cache.truncate(0, 30)
    cache.truncate(1, 30)
    torch.testing.assert_close(model(ids[:, 30:], cache=cache), model(ids)[:, 30:], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "ids, cache_length, message",
    [
        (torch.zeros(3, dtype=torch.long), None, r"ids must be \[B, S\] with at least one id, came \[3\]"),
        (torch.zeros(1, 0, dtype=torch.long), None, r"came \[1, 0\]"),
        (torch.zeros(1, 3), None, "ids must be int64 or int32, came torch.float32"),
        (torch.tensor([[3, 50]]), None, "ids must be 0 to 49, came 3 to 50"),
        (torch.tensor([[-1, 3]], dtype=torch.int32), None, "ids must be 0 to 49, came -1 to 3"),
        (torch.zeros(1, 33, dtype=torch.long), None, "the context must be at most 32 tokens, came 33"),
        (torch.zeros(1, 9, dtype=torch.long), 8, "the context must be at most 8 tokens, came 9"),
    ],
)
def test_refused_ids(ids, cache_length, message):
    model = small()
    cache = None if cache_length is None else KVCache(model.config, 1, cache_length)
    with pytest.raises(ModelError, match=message):
        model(ids, cache=cache)


def test_refused_options():
    model, ids = small(), torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(ModelError, match="ids must have the 2 rows of the cache, came 1"):
        model(ids, cache=KVCache(model.config, 2, 8))
    with pytest.raises(ModelError, match="last must be 1 to 3, the ids of the shortest row, came 0"):
        model(ids, last=0)
