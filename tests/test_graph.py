"""Decode steps replayed from a graph; the graph itself is CUDA's, and here a stand-in that computes again."""

import pytest
import torch

import pangu_ops
from pangu_ops.checkpoints import EMBEDDED, PRO_MOE
from pangu_ops.models import KVCache, graph


@pytest.fixture(params=[EMBEDDED, PRO_MOE], ids=["embedded", "pro_moe"])
def model(request):
    return pangu_ops.load_model(request.param, dtype=torch.float32)


@pytest.fixture
def captures(monkeypatch):
    """How often a step was captured. Like a graph, the stand-in always reads and writes the same memory."""
    captured = []

    def capture(run):
        result = run()
        captured.append(run)
        return result.fill_(torch.nan), torch.inference_mode()(lambda: result.copy_(run()))

    monkeypatch.setattr(graph, "capture", capture)
    return captured


@torch.inference_mode()
def decode(model, cache, ids, replayed):
    """Logits of one step of all sequences after another, kernel by kernel or as on a GPU."""
    if not replayed:
        return [model(step, cache=cache) for step in ids]
    return [cache.graphs.step(model, step, cache, cache.extend([step.shape[1]] * len(step))) for step in ids]


def prompted(model, max_length=64):
    cache = KVCache(model.config, 2, max_length, block_size=4)
    with torch.inference_mode():
        model(torch.arange(10).view(2, 5), cache=cache, lengths=[5, 3])  # sequences of different lengths
    return cache


@pytest.mark.parametrize("width", [1, 3])
def test_replayed_steps_equal_those_without_a_graph(model, captures, width):
    ids = torch.randint(0, 100, (9, 2, width), generator=torch.Generator().manual_seed(0))
    wanted = decode(model, prompted(model), ids, False)
    came = decode(model, prompted(model), ids, True)
    assert len(captures) == 1
    assert all(torch.equal(a, b) for a, b in zip(wanted, came, strict=True))


def test_a_cache_that_moved_is_captured_anew(model, captures):
    ids = torch.randint(0, 100, (10, 2, 1), generator=torch.Generator().manual_seed(0))
    wanted = decode(model, prompted(model), ids, False)
    cache = prompted(model, max_length=12)
    came = decode(model, cache, ids[:5], True)
    cache.grow(64)
    came += decode(model, cache, ids[5:], True)
    assert len(captures) == 2
    assert all(torch.equal(a, b) for a, b in zip(wanted, came, strict=True))


def test_a_rotary_table_that_grew_is_captured_anew(model, captures):
    ids = torch.randint(0, 100, (10, 2, 1), generator=torch.Generator().manual_seed(0))
    wanted = decode(model, prompted(model), ids, False)
    cache = prompted(model)
    model._table = tuple(table[:10] for table in model._table)
    came = decode(model, cache, ids, True)
    assert len(captures) == 2
    assert all(torch.equal(a, b) for a, b in zip(wanted, came, strict=True))


def test_a_truncated_cache_replays(model, captures):
    ids = torch.randint(0, 100, (8, 2, 1), generator=torch.Generator().manual_seed(0))
    cache = prompted(model)
    first = decode(model, cache, ids, True)
    cache.truncate(0, 5)
    cache.truncate(1, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, decode(model, cache, ids, True), strict=True))
    assert len(captures) == 1


def test_steps_may_leave_inference_mode(model, captures):
    ids = torch.randint(0, 100, (6, 2, 1), generator=torch.Generator().manual_seed(0))
    cache = prompted(model)
    decode(model, cache, ids, True)
    with torch.no_grad():
        came = cache.graphs.step(model, ids[0], cache, cache.extend([1, 1]))
        wanted = decode(model, prompted(model), [*ids, ids[0]], False)[-1]
    assert len(captures) == 1 and torch.equal(came, wanted)
