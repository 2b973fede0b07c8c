"""moge_dispatch: one program owns the rows of a few experts of a group, its masked slots counting as one more, and
places them; then one program owns a block of columns of a few slots, those of one token where K is 8, and copies it.
"""

import triton
import triton.language as tl

from pangu_ops.ops.moge_dispatch import outputs
from pangu_ops.triton_kernels.launch import launch


@triton.jit
def keys_of(expert_ids, slots, length, group, K: tl.constexpr, k: tl.constexpr, SIZE: tl.constexpr):
    """Which of its group's SIZE experts each slot chose; SIZE for a masked slot, more for one past the last."""
    inside = slots < length
    keys = tl.load(expert_ids + slots // k * (K - k) + slots, mask=inside, other=0)
    keys = tl.where((keys >= group * SIZE) & (keys < group * SIZE + SIZE), keys - group * SIZE, SIZE)
    return tl.where(inside, keys, SIZE + 1)


@triton.jit(do_not_specialize=["length"])
def place_kernel(
    expert_ids, slot_rows, expert_offsets, row_tokens, length, K: tl.constexpr, k: tl.constexpr, SIZE: tl.constexpr,
    KEYS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A group's slots count from 0 to length, T*k. Each one's row comes after those of lower experts and those of its
    own expert's earlier slots: the first pass counts the former, the second the latter.
    """
    programs = tl.cdiv(SIZE + 1, KEYS)
    group, keys = tl.program_id(0) // programs, tl.program_id(0) % programs * KEYS + tl.arange(0, KEYS)[:, None]
    blocks = (length - 1) // BLOCK + 1
    lower = tl.zeros((KEYS, BLOCK), tl.int32)
    for block in range(blocks):
        slots = block * BLOCK + tl.arange(0, BLOCK)
        lower += (keys_of(expert_ids + group * k, slots, length, group, K, k, SIZE)[None, :] < keys).to(tl.int32)
    row = group * length + tl.sum(lower, 1)[:, None]
    # An expert ends where the next one starts, but a group's last one has the masked slots' rows too.
    expert = group * SIZE + keys
    ends = tl.where(keys < SIZE, row, group * length + length)
    tl.store(expert_offsets + expert, ends, mask=((keys > 0) & (keys <= SIZE)) | (expert == 0))
    for block in range(blocks):
        slots = block * BLOCK + tl.arange(0, BLOCK)
        mine = keys_of(expert_ids + group * k, slots, length, group, K, k, SIZE)[None, :] == keys
        mine &= keys <= SIZE
        rows = row + tl.cumsum(mine.to(tl.int32), 1) - 1
        places = slot_rows + group * k + (slots // k * (K - k) + slots)[None, :]
        tl.store(tl.broadcast_to(places, rows.shape), tl.where(keys < SIZE, rows, -1), mask=mine)
        tl.store(row_tokens + rows, tl.where(keys < SIZE, (slots // k)[None, :], -1), mask=mine)
        row += tl.sum(mine.to(tl.int32), 1)[:, None]


@triton.jit(do_not_specialize=["count"])
def copy_kernel(x, rows, slot_rows, row_tokens, count, H, K: tl.constexpr, SLOTS: tl.constexpr, BLOCK: tl.constexpr):
    blocks = tl.cdiv(H, BLOCK)
    slots = (tl.program_id(0) // blocks * SLOTS + tl.arange(0, SLOTS))[:, None]
    columns = (tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK))[None, :]
    inside = columns < H
    row = tl.load(slot_rows + slots, mask=slots < count, other=-1).to(tl.int64)
    # There are as many rows as slots: the program looks after those of the same numbers, if they are masked.
    masked = tl.load(row_tokens + slots, mask=slots < count, other=0) < 0
    # The slots of a token read the same columns: all but the first find them in the cache.
    v = tl.load(x + (slots // K).to(tl.int64) * H + columns, mask=(row >= 0) & inside, other=0.0)
    tl.store(rows + row * H + columns, v, mask=(row >= 0) & inside)
    tl.store(rows + slots.to(tl.int64) * H + columns, tl.zeros_like(v), mask=masked & inside)


def place(expert_ids, num_experts, num_groups, slot_rows=None, expert_offsets=None):
    """The rows of moge_dispatch without copying one: ``slot_rows [T, K]`` and ``expert_offsets [E+1]`` as there, and
    ``row_tokens [T*K]`` int32, the token that each row is a copy of; -1 for a masked slot's.
    """
    slot_rows = expert_ids.new_empty(expert_ids.shape) if slot_rows is None else slot_rows
    expert_offsets = expert_ids.new_empty(num_experts + 1) if expert_offsets is None else expert_offsets
    row_tokens = expert_ids.new_empty(expert_ids.numel())
    (tokens, top_k), size = expert_ids.shape, num_experts // num_groups
    length, k = tokens * top_k // num_groups, top_k // num_groups
    # Every program reads all slots of its group: few programs where these are few, an expert each where they are many.
    block, keys = (256, min(triton.next_power_of_2(size + 1), 16)) if length <= 256 else (2048, 1)
    grid = (num_groups * triton.cdiv(size + 1, keys),)
    args = (expert_ids.contiguous(), slot_rows, expert_offsets, row_tokens, length)
    launch(place_kernel, grid, *args, K=top_k, k=k, SIZE=size, KEYS=keys, BLOCK=block, num_warps=8)
    return slot_rows, expert_offsets, row_tokens


def moge_dispatch(x, expert_ids, num_experts, num_groups):
    rows, slot_rows, expert_offsets = outputs(x, expert_ids, num_experts, num_groups)
    *_, row_tokens = place(expert_ids, num_experts, num_groups, slot_rows, expert_offsets)
    hidden, top_k = x.shape[1], expert_ids.shape[1]
    block = min(triton.next_power_of_2(max(hidden, 1)), 2048 // x.element_size())  # 16 bytes a thread
    slots = max(4096 // block, 8)
    grid = (triton.cdiv(expert_ids.numel(), slots) * triton.cdiv(hidden, block),)
    args = (x.contiguous(), rows, slot_rows, row_tokens, expert_ids.numel(), hidden)
    launch(copy_kernel, grid, *args, K=top_k, SLOTS=slots, BLOCK=block)
    return rows, slot_rows, expert_offsets
