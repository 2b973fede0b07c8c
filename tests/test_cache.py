"""The paged KV cache: blocks are taken as sequences grow, shared by prefixes, and copied before they are written."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pangu_ops.models import EmbeddedConfig, EmbeddedForCausalLM, KVCache, ModelError

CONFIG = EmbeddedConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=24,
    initializer_range=0.2,
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return EmbeddedForCausalLM(CONFIG).requires_grad_(False)


def test_it_grows_by_blocks():
    cache = KVCache(CONFIG, 2, 100, block_size=4, num_blocks=6)
    assert cache.memory() == 2 * 2 * 6 * 2 * 4 * 4 * 4  # k and v, layers, blocks, heads, tokens, head size, bytes
    batch = cache.extend([5, 1])
    assert cache.free_blocks == 3 and cache.lengths == [5, 1]
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 0]
    assert batch.context_lens.tolist() == [5, 1] and batch.query_starts.tolist() == [0, 5, 6]
    assert cache.extend([3, 0]).positions.tolist() == [5, 6, 7] and cache.free_blocks == 3  # the block was half empty
    cache.truncate(0, 4)
    assert cache.free_blocks == 4
    cache.truncate(0, 0)
    assert cache.free_blocks == 5


def test_what_does_not_fit_is_refused_and_changes_nothing():
    cache = KVCache(CONFIG, 2, 20, block_size=4, num_blocks=4)
    cache.extend([5, 4])
    before = cache.lengths[:], cache.free_blocks
    with pytest.raises(ModelError, match="cache: 2 blocks must be free for the new tokens, came 1 free"):
        cache.extend([4, 1])
    with pytest.raises(ModelError, match="cache: a sequence must be at most 20 tokens, came 21"):
        cache.extend([0, 17])
    assert (cache.lengths, cache.free_blocks) == before
    with pytest.raises(ModelError, match="cache: length must be 0 to 5, the tokens held, came 6"):
        cache.truncate(0, 6)
    with pytest.raises(ModelError, match="cache: length must be 0 to 4, the tokens held, came 5"):
        cache.share(1, 0, 5)
    with pytest.raises(ModelError, match="cache: block_size must be at least 1, came 0"):
        KVCache(CONFIG, 1, 8, block_size=0)


@pytest.mark.parametrize("length", [8, 9, 11])
def test_a_shared_prefix_costs_no_block_and_stays_its_owners(model, length):
    """Both go on with other tokens behind a shared prefix that ends in the middle of a block, and at its end."""
    ids = torch.arange(40).reshape(2, 20)
    cache = KVCache(CONFIG, 2, 20, block_size=4)
    model(ids[:, :11], cache=cache, lengths=[11, 0])
    free = cache.free_blocks
    cache.share(0, 1, length)
    assert cache.free_blocks == free and cache.lengths == [11, length]
    logits = model(ids[:, 11:20], cache=cache, lengths=[3, 5])
    for row, prefix, count in ((0, 11, 3), (1, length, 5)):
        whole = torch.cat([ids[0, :prefix], ids[row, 11 : 11 + count]])
        torch.testing.assert_close(logits[row, :count], model(whole[None])[0, prefix:], rtol=0, atol=1e-5)


def test_forgetting_into_a_shared_block_does_not_write_it(model):
    ids = torch.arange(12)[None]
    cache = KVCache(CONFIG, 2, 12, block_size=4)
    model(ids.repeat(2, 1), cache=cache, lengths=[10, 0])
    cache.share(0, 1, 10)
    cache.truncate(1, 6)  # its last token now lies in the middle of a block that is not its own
    model(torch.full((2, 2), 49), cache=cache, lengths=[0, 2])
    wanted = model(ids)[0, 10:]
    came = model(ids[:, 10:].repeat(2, 1), cache=cache, lengths=[2, 0])[0]
    torch.testing.assert_close(came, wanted, rtol=0, atol=1e-5)


@given(st.lists(st.tuples(st.sampled_from("extend truncate share".split()), *[st.integers(0, 12)] * 3), max_size=30))
def test_no_block_is_lost_or_written_by_two(steps):
    cache = KVCache(CONFIG, 3, 24, block_size=4, num_blocks=9)
    for what, a, b, c in steps:
        try:
            if what == "extend":
                starts, counts = cache.lengths[:], [a, b, c]
                cache.extend(counts)
                for row, (start, count) in enumerate(zip(starts, counts)):
                    if count:  # the blocks about to be written belong to this row alone
                        assert all(cache._users[block] == 1 for block in cache._blocks[row][start // 4 :])
            elif what == "truncate":
                cache.truncate(a % 3, b)
            else:
                cache.share(a % 3, b % 3, c)
        except ModelError:
            pass
        held = [block for blocks in cache._blocks for block in blocks]
        assert sorted({*held, *cache._free}) == list(range(9)) and not {*held} & {*cache._free}
        assert all(cache._users[block] == held.count(block) for block in range(9))
        for row, blocks in enumerate(cache._blocks):
            assert len(blocks) == -(-cache.lengths[row] // 4)
            assert cache._table[row, : len(blocks)].tolist() == blocks


def test_room():
    cache = KVCache(CONFIG, 2, 48, block_size=8, num_blocks=6)
    assert cache.room(0) == 48
    cache.extend([11, 0])
    assert cache.room(0) == 37 and cache.room(1) == 32
    cache.share(0, 1, 11)
    assert cache.room(0) == cache.room(1) == 29  # the block that both write into has to be copied, or it were 37
    cache.extend([27, 0])
    assert (cache.room(0), cache.room(1)) == (2, 5)
