"""pangu_ops.batch_invariant: a token's bits do not depend on what shares the call with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pangu_ops
from pangu_ops import backends
from pangu_ops.checkpoints import EMBEDDED, PRO_MOE
from pangu_ops.models import KVCache
from pangu_ops.ops.moge_experts import expert_weights
from pangu_ops.ops.rotary import rotary_table
from pangu_ops.testing.compare import as_tuple

TOKENS, COUNTS = 17, (2, 5, 17)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Sizes of whole tiles, so that the libraries that have them would use them from four tokens on.
H, I, E, HEADS, KV_HEADS, D, BLOCK, PAST = 64, 96, 4, 4, 2, 32, 16, 41  # noqa: E741


@pytest.fixture
def native(implementation):
    if implementation == "reference":
        pytest.skip("reference: torch's own product sums in another order for one row than for many")
    with pangu_ops.batch_invariant():
        yield implementation


def draw(*shape, dtype, scale=1.0, seed=0):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def in_pieces(call, count, tokens=TOKENS):
    """Results of ``call(begin, end)``, for all tokens in order and ``count`` of them at a time."""
    pieces = [as_tuple(call(begin, min(begin + count, tokens))) for begin in range(0, tokens, count)]
    return [torch.cat(results) for results in zip(*pieces)]


def by_rows(op, *args):
    """A call of ``op`` that takes some rows of each argument in ``args``; those in a list are passed whole."""
    return lambda begin, end: op(*(arg[0] if isinstance(arg, list) else arg[begin:end] for arg in args))


def cancelling(rows, columns, dtype):
    """``x`` and a ``weight`` whose exact products are 0: what comes out is how their sums were rounded."""
    x, weight = draw(rows, H, dtype=dtype), draw(columns, H, dtype=dtype, seed=1)
    return torch.cat((x, x), 1), torch.cat((weight, -weight), 1)


def linear(dtype):
    x, weight = cancelling(TOKENS, I, dtype)
    return by_rows(pangu_ops.linear, x, [weight], [draw(I, dtype=dtype, scale=1e-6, seed=2)])


def rms_norm(dtype):
    return by_rows(pangu_ops.rms_norm, draw(TOKENS, H, dtype=dtype), [draw(H, dtype=dtype, seed=1)])


def add_rms_norm(dtype):
    x, residual = (draw(TOKENS, H, dtype=dtype, seed=seed) for seed in range(2))
    return by_rows(pangu_ops.add_rms_norm, x, residual, [draw(H, dtype=dtype, seed=2)])


def rotary(dtype):
    q, k = draw(TOKENS, HEADS, D, dtype=dtype), draw(TOKENS, KV_HEADS, D, dtype=dtype, seed=1)

    def call(begin, end):
        return pangu_ops.rotary(q[begin:end], k[begin:end], *rotary_table(torch.arange(begin, end), D, 1e4))

    return call


def silu_mul(dtype):
    return by_rows(pangu_ops.silu_mul, draw(TOKENS, 2 * I, dtype=dtype))


def moge_gating(dtype):
    return by_rows(pangu_ops.moge_gating, draw(TOKENS, 64, dtype=dtype), [8], [1])


def sampling_probs(dtype):
    return by_rows(pangu_ops.sampling_probs, draw(TOKENS, 99, dtype=dtype), [0.7], [20], [0.9])


def routed(dtype):
    """``x``, ``weights`` and ``expert_ids``: an expert of each of 2 groups for every token."""
    logits = draw(TOKENS, E, dtype=dtype, seed=3)
    return draw(TOKENS, H, dtype=dtype), *pangu_ops.moge_gating(logits, 2, 1)


def moge_ffn(dtype):
    return by_rows(
        pangu_ops.moge_ffn,
        *routed(dtype),
        *([weights] for weights in expert_weights(E, H, I, dtype)),
        [2],
        draw(TOKENS, H, dtype=dtype, seed=4),
    )


def moge_in_steps(dtype):
    x, weights, expert_ids = routed(dtype)
    experts = expert_weights(E, H, I, dtype)

    def call(begin, end):
        rows, slot_rows, offsets = pangu_ops.moge_dispatch(x[begin:end], expert_ids[begin:end], E, 2)
        return pangu_ops.moge_combine(pangu_ops.moge_experts(rows, offsets, *experts), weights[begin:end], slot_rows)

    return call


def moge_experts(dtype):
    """Each token is a row of all experts."""
    x, experts = draw(TOKENS, H, dtype=dtype), expert_weights(E, H, I, dtype)

    def call(begin, end):
        rows, offsets = x[begin:end].repeat(E, 1), torch.arange(E + 1, dtype=torch.int32) * (end - begin)
        return pangu_ops.moge_experts(rows, offsets, *experts).unflatten(0, (E, -1)).transpose(0, 1)

    return call


class Paged:
    """A call of ``run(begin, end, caches and paging)``, for tokens of one sequence or of a sequence each."""

    def __init__(self, dtype, run, prefill):
        self.run, self.prefill = run, prefill
        sequences = 1 if prefill else TOKENS
        blocks = -(-(PAST + TOKENS) // BLOCK)
        self.table = torch.arange(sequences * blocks, dtype=torch.int32).flip(0).view(sequences, blocks)
        shape = sequences * blocks, KV_HEADS, BLOCK, D
        self.caches = [draw(*shape, dtype=dtype, seed=seed) for seed in range(10, 12)]
        self.lens = torch.arange(PAST + 1, PAST + TOKENS + 1, dtype=torch.int32)

    def __call__(self, begin, end):
        if self.prefill:
            table, lens, starts = self.table, self.lens[end - 1 : end], torch.tensor([0, end - begin])
        else:
            table, lens, starts = self.table[begin:end], self.lens[begin:end], torch.arange(end - begin + 1)
        return self.run(begin, end, *self.caches, table.contiguous(), lens, starts.int())


def attention(dtype, prefill):
    q, k, v = (draw(TOKENS, heads, D, dtype=dtype, seed=heads) for heads in (HEADS, KV_HEADS, KV_HEADS))
    return Paged(dtype, lambda begin, end, *paging: pangu_ops.attention(*(t[begin:end] for t in (q, k, v)), *paging),
                 prefill)  # fmt: skip


def attention_ffn(dtype, prefill):
    def matrix(*shape, seed):
        return draw(*shape, dtype=dtype, scale=shape[-1] ** -0.5, seed=seed)

    size, x = (HEADS + 2 * KV_HEADS) * D, draw(TOKENS, H, dtype=dtype)
    norm, qkv, o = draw(H, dtype=dtype, seed=1), matrix(size, H, seed=2), matrix(H, HEADS * D, seed=3)
    biases = draw(size, dtype=dtype, seed=4), draw(H, dtype=dtype, seed=5)
    feed_forward = matrix(2 * I, H, seed=6), matrix(H, I, seed=7)

    def run(begin, end, *paging):
        table = rotary_table(torch.arange(PAST + begin, PAST + end), D, 1e4)
        return pangu_ops.attention_ffn(x[begin:end], norm, qkv, biases[0], o, biases[1], norm, *feed_forward, *table,
                                       *paging)  # fmt: skip

    return Paged(dtype, run, prefill)


def decode(op):
    return lambda dtype: op(dtype, prefill=False)


def prefill(op):
    return lambda dtype: op(dtype, prefill=True)


CALLS = {
    **{call.__name__: call for call in (linear, rms_norm, add_rms_norm, rotary, silu_mul, sampling_probs)},
    **{call.__name__: call for call in (moge_gating, moge_experts, moge_ffn, moge_in_steps)},
    "attention, decode": decode(attention),
    "attention, prefill": prefill(attention),
    "attention_ffn, decode": decode(attention_ffn),
    "attention_ffn, prefill": prefill(attention_ffn),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_tokens_together_equal_each_alone(native, call, dtype):
    call = call(dtype)
    if native == "triton":  # the interpreter takes its time
        tokens, counts = 3, (2, 3)
    else:
        tokens, counts = TOKENS, COUNTS
    alone = in_pieces(call, 1, tokens)
    for count in counts:
        for whole, one in zip(in_pieces(call, count, tokens), alone, strict=True):
            assert torch.equal(whole, one), f"{count} tokens together"


@pytest.fixture(scope="module", params=[EMBEDDED, PRO_MOE], ids=["embedded", "pro_moe"])
def shipped(request):
    return pangu_ops.load_model(request.param)


@pytest.mark.many_steps
def test_a_chunk_that_is_verified_has_the_logits_of_single_steps(native, shipped):
    """What speculative decoding needs: five drafted tokens in one call, or one after the other."""
    assert shipped.embed.weight.dtype == torch.bfloat16
    ids = torch.randint(shipped.config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(1))

    def logits(count):
        cache = KVCache(shipped.config, 2, 40, dtype=torch.bfloat16)
        return torch.cat([shipped(part, cache=cache) for part in ids.split(count, dim=1)], dim=1)

    alone = logits(1)
    for count in (5, 40):
        assert torch.equal(logits(count), alone)
    cache = KVCache(shipped.config, 1, 40, dtype=torch.bfloat16)
    assert torch.equal(shipped(ids[1:], cache=cache)[0], alone[1])


@pytest.fixture(params=["avx512bf16", "amx"])
def tiles(request):
    """A library that multiplies bfloat16 tiles, not yet in use."""
    if reason := backends.missing(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param


def one_row_equals_eight():
    x, weight = cancelling(8, I, torch.bfloat16)
    alone = torch.cat([pangu_ops.linear(row, weight) for row in x.split(1)])
    return torch.equal(pangu_ops.linear(x, weight), alone)


def test_the_mode_is_what_makes_the_difference(tiles):
    """It nests, it survives a change of library, and the end of its block, by an error too, is the end of it."""
    with pangu_ops.batch_invariant(False):
        with pangu_ops.use(tiles):
            assert not one_row_equals_eight()
        with pytest.raises(KeyError), pangu_ops.batch_invariant(), pangu_ops.use(tiles):
            assert one_row_equals_eight()
            with pangu_ops.batch_invariant(False):
                assert not one_row_equals_eight()
            assert one_row_equals_eight()
            raise KeyError
        with pangu_ops.use(tiles):
            assert not one_row_equals_eight()


@pytest.mark.parametrize("value, on", [("1", True), ("0", False), ("", False)])
def test_the_environment_turns_it_on(tiles, value, on):
    program = "import test_batch_invariant; print(test_batch_invariant.one_row_equals_eight())"
    environment = os.environ | {"PANGU_OPS_BATCH_INVARIANT": value, "PANGU_OPS_CPU_ISA": tiles}
    environment["PYTHONPATH"] = str(Path(pangu_ops.__file__).parents[1])
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", program], cwd=here, env=environment, text=True, capture_output=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(on)), done.stderr
