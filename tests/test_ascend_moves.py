"""The instructions of the AscendC emulator that gather and sort, against numpy."""

import numpy as np
import pytest
from ascend.instructions import (
    BITS,
    CHIPS,
    COUNT,
    COUNTER,
    MASK,
    TYPES,
    call,
    elements,
    lanes,
    random,
)  # fmt: skip

from pangu_ops.testing import ascendc

pytestmark = pytest.mark.skipif(ascendc.compiler() is None, reason="there is no C++ compiler")

FLOATS = ["half", "float"]
chips = pytest.mark.parametrize("chip", CHIPS)
floats = pytest.mark.parametrize("dtype", FLOATS)


# ---- gathers ----


@chips
@pytest.mark.parametrize("dtype", ["half", "float", "int16_t", "uint32_t"])
def test_gather(dtype, chip):
    x, per = random(dtype, 512, 1), 256 // TYPES[dtype]().itemsize
    index = np.random.default_rng(0).integers(0, 500, 512)
    index[10:50] = np.arange(100, 140)  # neighbours
    offsets = (index * x.itemsize).astype(np.uint32)
    for layout in [
        dict(form=COUNT, count=per * 2 + 3),
        dict(form=MASK, count=per - 2, repeats=2),
        dict(form=BITS, mask=(0x95, 0), repeats=3),
    ]:
        where = lanes(**layout, per_repeat=per)
        dst = 8 if layout["form"] == COUNT else 9
        out = random(dtype, 1024, 3)
        expected = out.copy()
        expected[elements(where, x.itemsize, 1, dst)] = x[12 + index[elements(where, 4, 1, per * 4 // 32)]]
        steps = dict(strides=(1, 1, 1, dst, 8, 8), more=[12 * x.itemsize])
        got = call(chip, f"Gather.{dtype}", out, x, offsets, **steps, **layout)
        np.testing.assert_array_equal(got, expected)


def test_gather_of_blocks():
    x = np.arange(512, dtype=np.uint16)
    order = np.random.default_rng(0).permutation(32)[:16]
    steps = dict(repeats=2, strides=(2, 1, 1, 17, 8, 8))
    got = call("910b", "gatherb", np.zeros(1024, np.uint16), x, (order * 32).astype(np.uint32), **steps)
    expected = np.zeros(1024, np.uint16)
    for i, block in enumerate(order):
        at = (i // 8 * 17 + i % 8 * 2) * 16
        expected[at : at + 16] = x[block * 16 : block * 16 + 16]
    assert got.tolist() == expected.tolist()


@chips
@pytest.mark.parametrize("dtype", ["half", "int32_t"])
def test_gather_by_a_pattern(dtype, chip):
    x, per = random(dtype, 2048), 256 // TYPES[dtype]().itemsize
    bits = np.random.default_rng(1).integers(0, 2**16, 256, np.uint16 if dtype == "half" else np.uint32)
    patterns = ["", "1010", "0101", "1000", "0100", "0010", "0001", "1111"]
    for pattern in range(8 if chip == "910b" else 7):
        for layout in [
            dict(form=MASK, repeats=3),
            dict(form=COUNTER, count=70, repeats=2),
            dict(form=COUNTER, count=301, repeats=2),
        ]:
            steps = dict(strides=(1, 2, 1, 1, 20, 1))  # src0: blocks two apart, repeats twenty; the pattern's one
            each, repeats = (per, 3) if layout["form"] == MASK else (layout["count"], 2)
            if layout["form"] == COUNTER and chip == "310p":  # the count is of all repeats
                parts = [min(per, each - begin) for begin in range(0, each, per)]
            else:
                parts = [each] * repeats
            expected = []
            for number, count in enumerate(parts):
                place = elements([np.arange(count)], x.itemsize, 2, 0) + number * 20 * 32 // x.itemsize
                if pattern:
                    keep = np.array([patterns[pattern][i % 4] == "1" for i in range(count)])
                else:
                    keep = np.unpackbits(bits.view(np.uint8)[number * 32 :], bitorder="little")[:count].astype(bool)
                expected += x[place][keep].tolist()
            out = np.zeros(1024, x.dtype)
            got = call(chip, f"GatherMask.{dtype}", np.concatenate([out, np.zeros(64, x.dtype)]), x, bits,
                       more=[pattern, 1024 * x.itemsize // 8], **layout, **steps)  # fmt: skip
            assert got[1024:].view(np.uint64)[0] == len(expected)
            assert got[:1024].tolist() == expected + [0] * (1024 - len(expected)), (pattern, layout)


@chips
@floats
def test_a_value_to_a_block(dtype, chip):
    x = random(dtype, 16)
    got = call(chip, f"Brcb.{dtype}", np.zeros(1024, x.dtype), x, repeats=2, strides=(2, 1, 1, 16, 8, 8))
    each = 32 // x.itemsize
    expected = np.zeros(1024, x.dtype)
    for i, value in enumerate(x):
        expected[i * 2 * each : i * 2 * each + each] = value
    assert got.tolist() == expected.tolist()


@chips
def test_transpose(chip):
    x = random("half", 256)
    assert call(chip, "transpose", np.zeros_like(x), x).tolist() == x.reshape(16, 16).T.ravel().tolist()


def test_scatter():
    x, order = random("float", 100), np.random.default_rng(0).permutation(128)[:100]
    got = call("310p", "scatter", np.zeros(136, np.float32), x, (order * 4).astype(np.uint32), count=100, more=[32])
    expected = np.zeros(136, np.float32)
    expected[order + 8] = x
    assert got.tolist() == expected.tolist()


# ---- sorts, of 910B ----


def records(scores, indices):
    """As the chip keeps them: eight bytes, the score in the low ones."""
    out = np.zeros((scores.size, 2), np.uint32)
    out[:, 0] = scores.view(np.uint16 if scores.itemsize == 2 else np.uint32)
    out[:, 1] = indices
    return out.view(scores.dtype).ravel()


def scores_and_indices(out, dtype):
    pairs = out.view(np.uint32).reshape(-1, 2)
    scores = pairs[:, 0].astype(np.uint16).view(np.float16) if dtype == "half" else pairs[:, 0].copy().view(np.float32)
    return scores.tolist(), pairs[:, 1].tolist()


def falling(scores):
    return np.argsort(-scores.astype(np.float64), kind="stable")


@floats
def test_sorts(dtype):
    x = random(dtype, 128, 1)
    index = np.arange(1000, 1128, dtype=np.uint32)
    out = np.zeros(128 * 8 // x.itemsize, x.dtype)
    by_groups = np.concatenate([falling(x[i : i + 32]) + i for i in range(0, 128, 32)])
    for name, more, order in ("Sort32", [0], by_groups), ("Sort", [0], by_groups), ("Sort", [1], falling(x)):
        got = scores_and_indices(call("910b", f"{name}.{dtype}", out, x, index, repeats=4, more=more), dtype)
        assert got == (x[order].tolist(), index[order].tolist())
    out = np.zeros(128 * (4 + x.itemsize) // x.itemsize, x.dtype)
    got = call("910b", f"Extract.{dtype}", out, records(x, index), repeats=4, more=[128 * x.itemsize // 4])
    assert got[:128].tolist() == x.tolist() and got[128:].view(np.uint32).tolist() == index.tolist()


@floats
@pytest.mark.parametrize("valid, lengths", [(3, [5, 40]), (7, [64, 1, 32]), (15, [32, 0, 17, 40])])
def test_merges(valid, lengths, dtype):
    x = random(dtype, sum(lengths), 1)
    ends = np.cumsum(lengths)
    queues = [np.arange(end - length, end) for end, length in zip(ends, lengths)]
    queues = [queue[falling(x[queue])] for queue in queues]
    given = np.concatenate(queues)
    merged = np.argsort(-x[given].astype(np.float64), kind="stable")
    size = sum(lengths) * 8 // x.itemsize
    out = np.zeros(-(-size * x.itemsize // 32) * 32 // x.itemsize + 64, x.dtype)
    src = records(x[given], given)
    got = call("910b", f"MrgSort.{dtype}", out, src, more=[valid, *lengths, *[0] * (4 - len(lengths)), 0])
    assert scores_and_indices(got[:size], dtype) == (x[given[merged]].tolist(), given[merged].tolist())
    taken_at = (out.size - 64) * x.itemsize // 4
    got = call("910b", f"MrgSort.{dtype}", out, src, more=[valid, *lengths, *[0] * (4 - len(lengths)), 1, taken_at])
    owner = np.repeat(np.arange(len(lengths)), lengths)[merged]
    taken = [0] * 4
    for one in owner:  # until a queue is at its end
        if any(taken[k] == lengths[k] for k in range(len(lengths))):
            break
        taken[one] += 1
    assert got.view(np.uint32)[taken_at : taken_at + 4].tolist() == taken
    assert scores_and_indices(got[: sum(taken) * 8 // x.itemsize], dtype)[1] == given[merged][: sum(taken)].tolist()


def test_merges_of_more_repeats():
    x = random("float", 256)
    given = np.concatenate([falling(x[i : i + 32]) + i for i in range(0, 256, 32)])
    queues = dict(repeats=2, more=[15, *[32] * 4, 0])
    got = call("910b", "MrgSort.float", np.zeros(512, np.float32), records(x[given], given), **queues)
    order = np.concatenate([falling(x[:128]), falling(x[128:]) + 128])
    assert scores_and_indices(got, "float")[0] == x[order].tolist()
