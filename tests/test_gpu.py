"""What only a GPU can show: no waiting, graphs, offsets beyond 2^31, and models that give on it what they give on CPU.

That the kernels are right is shown by all other tests: there the implementations "triton" and "cuda" run on the GPU.
"""

import pytest
import torch

import pangu_ops
from pangu_ops.checkpoints import EMBEDDED, PRO_MOE
from pangu_ops.ops.moge_dispatch import expert_choice
from pangu_ops.registry import PAGES
from pangu_ops.testing.compare import as_tuple

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible")


def on_gpu(args):
    return [arg.cuda() if isinstance(arg, torch.Tensor) else arg for arg in args]


def example(name, seed=0):
    case = next(case for case in PAGES[name].cases if case["T"] > 1)
    return on_gpu(PAGES[name].example(**case, dtype=torch.bfloat16, seed=seed))


@pytest.mark.parametrize("name", PAGES)
def test_runs_without_waiting_for_the_gpu(name):
    args, op = example(name), getattr(torch.ops.pangu, name)
    op(*args)  # what is compiled and loaded once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        op(*args)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", PAGES)
def test_replays_from_a_graph(name):
    """A graph captured with some numbers gives with others what the op gives with those."""
    args, others, op = example(name), example(name, seed=1), getattr(torch.ops.pangu, name)
    wanted = as_tuple(op(*[arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in others]))
    op(*args)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        came = as_tuple(op(*args))
    for arg, other in zip(args, others):
        if isinstance(arg, torch.Tensor):
            arg.copy_(other)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(wanted, came, strict=True))


def random(*shape):
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


T, H, E, G = 53000, 5120, 64, 8  # T*G rows of H are more than 2^31 elements


def test_dispatch_and_combine_beyond_two_to_the_31():
    x, ids, last = random(T, H), expert_choice(T, E, G, 1).cuda(), torch.arange(T - 50, T, device="cuda")
    rows, slot_rows, _ = pangu_ops.moge_dispatch(x, ids, E, G)
    assert rows.numel() > 2**31
    assert torch.equal(rows[slot_rows[last].long()], x[last, None].expand(-1, G, -1))
    ones = torch.ones(T, G, device="cuda")
    wanted = 8 * x[last].float()
    torch.testing.assert_close(pangu_ops.moge_combine(rows, ones, slot_rows)[last].float(), wanted, rtol=1e-2, atol=0)


def test_expert_rows_beyond_two_to_the_31():
    tokens, inner = 2**31 // H + 1000, 32
    x, ids = random(tokens, H), expert_choice(tokens, E, G, 1).cuda()
    gate_up, down = random(E, 2 * inner, H) * H**-0.5, random(E, H, inner)
    weights = torch.rand(tokens, G, device="cuda")
    last = slice(tokens - 50, tokens)
    came = pangu_ops.moge_ffn(x, weights, ids, gate_up, down, G)[last]
    wanted = pangu_ops.moge_ffn(x[last], weights[last], ids[last], gate_up, down, G)
    torch.testing.assert_close(came, wanted, rtol=2e-2, atol=2e-2)


def test_a_cache_beyond_two_to_the_31():
    heads, block, size = 8, 128, 128
    blocks = 2**31 // (heads * block * size) + 10
    caches = [random(blocks, heads, block, size) for _ in range(2)]
    q, k, v = random(1, 5 * heads, size), random(1, heads, size), random(1, heads, size)
    table = torch.arange(blocks - 3, blocks, dtype=torch.int32, device="cuda")[None]
    rest = torch.tensor([300], dtype=torch.int32, device="cuda"), torch.tensor([0, 1], dtype=torch.int32, device="cuda")
    small = [cache[-3:].clone() for cache in caches]
    came = pangu_ops.attention(q, k, v, *caches, table, *rest)
    wanted = pangu_ops.attention(q, k, v, *small, table - (blocks - 3), *rest)
    assert torch.equal(came, wanted) and all(torch.equal(a[-3:], b) for a, b in zip(caches, small))


@pytest.mark.parametrize("path", [EMBEDDED, PRO_MOE], ids=["embedded", "pro_moe"])
def test_models_write_on_the_gpu_what_they_write_on_cpu(path):
    """The same greedy text, through eager steps and a graph's."""
    prompt = list(range(5, 25))
    texts = []
    for device in ("cpu", "cuda"):
        model = pangu_ops.load_model(path, device, torch.float32)
        texts.append(pangu_ops.generate(model, prompt, max_new_tokens=40))
    assert texts[0] == texts[1]
