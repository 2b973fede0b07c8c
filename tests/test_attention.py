import math

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import attention, batch_invariant, use
from pangu_ops.backends import GPU_IMPLEMENTATIONS
from pangu_ops.ops.attention import example

INT = torch.int32


def batch(*rows, lens, starts):
    return torch.tensor(rows, dtype=INT), torch.tensor(lens, dtype=INT), torch.tensor(starts, dtype=INT)


def test_attention_by_hand(implementation):
    """Two tokens in blocks of one, the second block first: weights 1, and e^(2/sqrt 1) to 1 of two values."""
    keys, values = torch.full((3, 1, 1, 1), torch.nan), torch.full((3, 1, 1, 1), torch.nan)
    q, k, v = torch.tensor([[[1.0]], [[2.0]]]), torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([[[5.0]], [[7.0]]])
    out = attention(q, k, v, keys, values, *batch([2, 0], lens=[2], starts=[0, 2]))
    e = math.exp(2)
    torch.testing.assert_close(out.flatten(), torch.tensor([5.0, (5 + 7 * e) / (1 + e)]))
    assert keys[[2, 0]].flatten().tolist() == [0, 1] and values[[2, 0]].flatten().tolist() == [5, 7]
    assert keys[1].isnan().all() and values[1].isnan().all()  # a block of nobody's


@pytest.mark.parametrize("past", [0, 1, 47, 48, 49, 130])
@pytest.mark.parametrize("new", [1, 2, 7, 40])
def test_attention_equals_torchs(implementation, past, new):
    q, k, v, keys, values, table, lens, starts, _ = example(new, 6, 2, 20, block=16, past=0, seed=past)
    blocks = -(-(past + new) // 16)
    keys, values = torch.randn(blocks, 2, 16, 20), torch.randn(blocks, 2, 16, 20)
    table, lens = torch.randperm(blocks).int()[None], torch.tensor([past + new], dtype=INT)
    out = attention(q, k, v, keys, values, table, lens, starts)
    whole = [cache[table[0]].transpose(0, 1).flatten(1, 2)[:, : past + new] for cache in (keys, values)]
    assert torch.equal(whole[0][:, past:], k.transpose(0, 1)) and torch.equal(whole[1][:, past:], v.transpose(0, 1))
    mask = torch.ones(new, past + new, dtype=torch.bool).tril(past)
    wanted = F.scaled_dot_product_attention(q.transpose(0, 1), *whole, mask, enable_gqa=True)
    torch.testing.assert_close(out, wanted.transpose(0, 1))


@pytest.fixture
def invariant(implementation):
    """The implementation, on a GPU in the mode in which it promises what a CPU always does."""
    with batch_invariant(implementation in GPU_IMPLEMENTATIONS):
        yield implementation


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_mixed_batch_equals_each_sequence_alone_bit_for_bit(invariant, dtype):
    q, k, v, keys, values, table, lens, starts, scale = example(23, 6, 2, 36, 3, B=4, past=70, dtype=dtype)
    before = keys.clone(), values.clone()
    together = attention(q, k, v, keys, values, table, lens, starts, scale)
    for row, (begin, end) in enumerate(zip(starts.tolist(), starts[1:].tolist())):
        alone = attention(
            *(t[begin:end] for t in (q, k, v)),
            *before,
            table[row : row + 1],
            lens[row : row + 1],
            torch.tensor([0, end - begin], dtype=INT),
            scale,
        )
        if invariant == "reference":  # torch's softmax and products choose by shape how they sum
            torch.testing.assert_close(together[begin:end], alone)
        else:
            assert torch.equal(together[begin:end], alone)


def test_prefill_equals_token_by_token_bit_for_bit(invariant):
    q, k, v, keys, values, table, lens, starts, _ = example(70, 4, 2, 24, 8)
    whole = attention(q, k, v, keys, values, table, lens, starts)
    for token in (0, 1, 31, 40, 69) if invariant == "triton" else range(70):  # the interpreter takes its time
        one = slice(token, token + 1)
        now = batch(table[0].tolist(), lens=[token + 1], starts=[0, 1])
        out = attention(q[one], k[one], v[one], keys, values, *now)
        if invariant == "reference":
            torch.testing.assert_close(out, whole[one])
        else:
            assert torch.equal(out, whole[one])


def test_sequences_share_a_prefix(implementation):
    """Two sequences of 6 tokens whose first block of 4 is one and the same."""
    q, k, v, keys, values, *_ = example(4, 2, 1, 8, block=4, B=1, past=40, seed=3)
    shared = attention(q, k, v, keys, values, *batch([0, 1], [0, 2], lens=[6, 6], starts=[0, 2, 4]))
    keys[3], values[3] = keys[0], values[0]
    copied = attention(q, k, v, keys, values, *batch([0, 1], [3, 2], lens=[6, 6], starts=[0, 2, 4]))
    assert torch.equal(shared, copied)


def test_a_chunk_of_scores_that_are_all_minus_infinity_counts_for_nothing(implementation):
    keys, values = torch.zeros(1, 1, 64, 4), torch.randn(1, 1, 64, 4)
    keys[0, 0, :50] = -1e20
    q, new = torch.full((1, 1, 4), 1e20), torch.zeros(1, 1, 4)
    out = attention(q, new, new, keys, values, *batch([0], lens=[61], starts=[0, 1]))
    torch.testing.assert_close(out[0, 0], values[0, 0, 50:61].mean(0))


def guarded(tensor):
    """A copy with NaN before and after it in memory, or with the largest number."""
    fill = torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max
    wide = torch.full((tensor.numel() + 512,), fill, dtype=tensor.dtype)
    inside = wide[256:-256].view(tensor.shape)
    return inside.copy_(tensor), wide


# New tokens of each sequence, tokens before these: few and many tokens together, one or none each, a prompt among none.
BATCHES = {
    "decode": ([1, 1, 1], [300, 0, 64]),
    "drafts": ([3, 2, 4], [100, 131, 7]),
    "mixed": ([1, 40, 0, 2], [200, 90, 5, 0]),
    "waiting": ([0, 19, 0, 0, 1] + 15 * [0], [3, 70, 0, 9, 10] + 15 * [2]),
}


@pytest.mark.parametrize("block", [3, 128])
@pytest.mark.parametrize("heads", [(6, 2), (20, 1)], ids=str)
@pytest.mark.parametrize("case", BATCHES.values(), ids=BATCHES)
def test_nothing_else_is_read_or_written(implementation, case, heads, block):
    """Every slot that no token of the batch is in, and all that lies beside a tensor, holds NaN before and after."""
    new, past = case
    (q_heads, kv_heads), lens = heads, [a + b for a, b in zip(new, past)]
    blocks = [-(-length // block) for length in lens]
    table, order = torch.full((len(new), max(blocks) + 1), 2**31 - 1, dtype=INT), torch.randperm(sum(blocks) + 1).int()
    for row, count in enumerate(blocks):
        table[row, :count], order = order[:count], order[count:]
    q, k, v = (torch.randn(sum(new), count, 22) for count in (q_heads, kv_heads, kv_heads))
    paging = table, torch.tensor(lens, dtype=INT), torch.tensor([0, *new], dtype=INT).cumsum(0, dtype=INT)
    caches = [torch.full((sum(blocks) + 1, kv_heads, block, 22), torch.nan) for _ in range(2)]
    for row, length in enumerate(past):
        at = torch.arange(length)
        for cache in caches:
            cache[table[row].long()[at // block], :, at % block] = torch.randn(length, kv_heads, 22)
    copies = [cache.clone() for cache in caches]
    with use("reference"):
        wanted = attention(q, k, v, *copies, *paging)
    inside, wide = zip(*map(guarded, (q, k, v, *caches, *paging)))
    before = [buffer.clone() for buffer in wide]
    torch.testing.assert_close(attention(*inside), wanted)
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(inside[3:5], copies))
    for buffer, old in zip(wide, before):
        for edge in (slice(256), slice(-256, None)):
            assert torch.equal(buffer[edge].nan_to_num(7), old[edge].nan_to_num(7))


def test_autograd_notices_that_the_cache_is_written(implementation):
    q, k, v, keys, values, *paging, _ = example(3, 2, 1, 4)
    weight = torch.ones(4, requires_grad=True)
    loss = (keys * weight).sum()
    attention(q, k, v, keys, values, *paging)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


Q, K, CACHE = torch.zeros(3, 4, 8), torch.zeros(3, 2, 8), torch.zeros(5, 2, 4, 8)
GOOD = batch([0, 1], lens=[3], starts=[0, 3])


def changed(**changes):
    names = ("q", "k", "v", "key_cache", "value_cache", "block_table", "context_lens", "query_starts")
    return (dict(zip(names, (Q, K, K, CACHE, CACHE, *GOOD))) | changes).values()


def ints(*values):
    return torch.tensor(values, dtype=INT)


BAD = [
    (dict(q=Q[0]), "q must be [T, Hq, D], came [4, 8]"),
    (dict(q=Q.int()), "q must be float32, bfloat16 or float16, came int32"),
    (dict(q=Q[:, :3]), "q must be [T, Hq, D] with the D of key_cache and a multiple of its Hk heads, came [3, 3, 8]"),
    (dict(q=Q[:, :0]), "q must be [T, Hq, D] with the D of key_cache and a multiple of its Hk heads, came [3, 0, 8]"),
    (dict(k=K[:2]), "k must be [T, Hk, D] = [3, 2, 8], came [2, 2, 8]"),
    (dict(v=K.half()), "v must have the dtype of q, came float16"),
    (dict(key_cache=CACHE[0]), "key_cache must be [N, Hk, block, D], came [2, 4, 8]"),
    (dict(value_cache=CACHE[1:]), "value_cache must have the shape of key_cache, came [4, 2, 4, 8]"),
    (dict(value_cache=CACHE.half()), "value_cache must have the dtype of q, came float16"),
    (dict(key_cache=CACHE.mT.contiguous().mT), "key_cache must be contiguous, since it is written, came strides"),
    (dict(block_table=ints(0, 1)), "block_table must be [B, M], came [2]"),
    (dict(block_table=GOOD[0].long()), "block_table must be int32, came int64"),
    (dict(context_lens=ints(3, 3)), "context_lens must be [B] with the B of block_table, came [2]"),
    (dict(query_starts=ints(0)), "query_starts must be [B+1] with the B of block_table, came [1]"),
]
# What only the values tell, and the tokens that it leaves without a result on a GPU, where nobody looks at them first.
BAD_VALUES = [
    (dict(query_starts=ints(0, 2)), "query_starts must rise from 0 to T = 3, came other values", [2]),
    (dict(query_starts=ints(1, 3)), "query_starts must rise from 0 to T = 3, came other values", [0]),
    (
        dict(context_lens=ints(2)),
        "context_lens must count the new tokens and be at most M * block = 8, came 2",
        [0, 1, 2],
    ),
    (
        dict(context_lens=ints(9)),
        "context_lens must count the new tokens and be at most M * block = 8, came 9",
        [0, 1, 2],
    ),
    (
        dict(block_table=ints(5, 0)[None]),
        "block_table must hold numbers of blocks below N = 5 for every context, came 5",
        [0, 1, 2],
    ),
    (
        dict(block_table=ints(0, -1)[None], context_lens=ints(5)),
        "block_table must hold numbers of blocks below N = 5 for every context, came -1",
        [2],
    ),
]


@pytest.mark.parametrize("changes, message, lost", BAD_VALUES, ids=[message for _, message, _ in BAD_VALUES])
def test_values_that_point_outside(implementation, changes, message, lost):
    q, k, v, keys, values, *paging = changed(**changes)
    keys, values = torch.full_like(keys, 3), torch.full_like(values, 3)
    if implementation not in GPU_IMPLEMENTATIONS:
        with pytest.raises(RuntimeError) as error:
            attention(q, k, v, keys, values, *paging)
        assert str(error.value).splitlines()[0] == f"attention: {message}"
        assert keys.eq(3).all() and values.eq(3).all()
        return
    out = attention(q, k, v, keys, values, *paging)
    kept = sum(1 for token in range(3) if token not in lost)
    assert out[lost].isnan().all()
    assert keys.eq(0).sum() == values.eq(0).sum() == kept * 2 * 8


@pytest.mark.parametrize("changes, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused_and_nothing_is_written(implementation, changes, message):
    args = list(changed(**changes))
    with pytest.raises(RuntimeError) as error:
        attention(*args)
    assert str(error.value).splitlines()[0] == f"attention: {message}"
    assert not CACHE.any()


def test_a_cache_beyond_two_to_the_31_elements(implementation):
    """Memory that nobody touches costs nothing: the sequence lies in the last blocks of a large cache."""
    heads, block, size = 2, 64, 64
    blocks = 2**31 // (heads * block * size) + 3
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, n, size, generator=generator).bfloat16() for n in (2 * heads, heads, heads))
    small = [torch.randn(2, heads, block, size, generator=generator).bfloat16() for _ in range(2)]
    large = [torch.empty(blocks, heads, block, size, dtype=torch.bfloat16) for _ in range(2)]
    for cache, tail in zip(large, small):
        cache[-2:] = tail
    table = torch.tensor([[0, 1]], dtype=torch.int32)
    rest = torch.tensor([100], dtype=torch.int32), torch.tensor([0, 1], dtype=torch.int32)
    wanted = attention(q, k, v, *small, table, *rest)
    assert torch.equal(attention(q, k, v, *large, table + blocks - 2, *rest), wanted)
    assert all(torch.equal(cache[-2:], tail) for cache, tail in zip(large, small))
