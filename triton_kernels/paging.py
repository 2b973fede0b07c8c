"""What the kernels of attention and attention_ffn know of sequences and of the paged cache.

Nothing is refused on a GPU: what a batch's numbers would have outside of the tensors is not there. A token that belongs
to no sequence, or whose sequence has a context that cannot be, goes nowhere and gets NaN.
"""

import triton
import triton.language as tl


@triton.jit
def sequence(b, query_starts, context_lens, T, ROOM):
    """The first token, the number of tokens and the context of a sequence; no tokens where these cannot be."""
    begin, end, length = tl.load(query_starts + b), tl.load(query_starts + b + 1), tl.load(context_lens + b)
    inside = (begin >= 0) & (begin <= end) & (end <= T) & (length <= ROOM)
    new = tl.where(inside, end - begin, 0)
    return begin, tl.where(new <= length, new, 0), length


@triton.jit
def places(tokens, block_table, context_lens, query_starts, T, B, M, N, SIZE: tl.constexpr, BATCH: tl.constexpr):
    """The block of the cache that takes each token's key and value, and the slot in it; block -1 where none does."""
    rows = tl.arange(0, BATCH)
    ends = tl.load(query_starts + 1 + rows, mask=rows < B, other=2147483647)
    b = tl.sum((ends[None, :] <= tokens[:, None]).to(tl.int32), 1)
    known = (b < B) & (tokens < T)
    begin, end = tl.load(query_starts + b, mask=known, other=0), tl.load(query_starts + b + 1, mask=known, other=0)
    length = tl.load(context_lens + b, mask=known, other=0)
    known &= (begin >= 0) & (begin <= tokens) & (tokens < end) & (end <= T)
    known &= (end - begin <= length) & (length <= M * SIZE)
    position = length - end + tokens
    block = tl.load(block_table + b.to(tl.int64) * M + position // SIZE, mask=known, other=-1)
    return tl.where((block >= 0) & (block < N), block, -1), position % SIZE


@triton.jit
def block_of(start, stop, table, SIZE: tl.constexpr, BLOCK_N: tl.constexpr):
    """The block that holds the whole tile of keys from ``start`` on, or else that of each of them."""
    keys = start if SIZE % BLOCK_N == 0 else start + tl.arange(0, BLOCK_N)
    return tl.load(table + keys // SIZE, mask=keys < stop, other=0)
