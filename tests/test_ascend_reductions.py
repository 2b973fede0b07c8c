"""The instructions of the AscendC emulator that compare, choose and reduce, against numpy."""

import numpy as np
import pytest
from ascend.instructions import (
    BITS,
    CHIPS,
    COUNT,
    COUNTER,
    MASK,
    REPEAT_MASK,
    TYPES,
    call,
    elements,
    lanes,
    random,
    tree_sum,
    widen,
)  # fmt: skip

from pangu_ops.testing import ascendc

pytestmark = pytest.mark.skipif(ascendc.compiler() is None, reason="there is no C++ compiler")

FLOATS = ["half", "float"]
PARTS = ["WholeReduceSum", "PairReduceSum", "BlockReduceSum", "BlockReduceMax", "BlockReduceMin"]
chips = pytest.mark.parametrize("chip", CHIPS)
floats = pytest.mark.parametrize("dtype", FLOATS)


def index_of(value):
    """The integer in a value's bits."""
    return int(value.view(np.uint16 if value.itemsize == 2 else np.uint32))


# ---- bits ----


@chips
@pytest.mark.parametrize("dtype", [*FLOATS, "int32_t"])
def test_comparisons_give_a_bit_for_each(dtype, chip):
    if dtype == "int32_t" and chip == "310p":
        pytest.skip("310P compares floats only")
    a, b = random(dtype, 1024, 1), random(dtype, 1024, 3)
    if dtype != "int32_t":
        a[5] = b[6] = np.nan
    modes = [np.less, np.greater, np.equal, np.less_equal, np.greater_equal, np.not_equal]
    per = 256 // a.itemsize
    for mode, function in enumerate(modes):
        if dtype == "int32_t" and function is not np.equal:
            continue
        out = np.full(256, 0xAA, np.uint8)
        for name, other, scalars in ("Compare", b, []), ("CompareScalar", np.full_like(b, 2), [2]):
            got = call(chip, f"{name}.{dtype}", out, a, b, count=2 * per, more=[mode], scalars=scalars)
            expected = np.packbits(function(a, other)[: 2 * per], bitorder="little")
            assert got.tolist() == [*expected, *[0xAA] * (256 - expected.size)]
            strides = (1, 2, 1, 8, 16, 9)  # masks have no effect
            got = call(chip, f"{name}.{dtype}", out, a, b, form=MASK, count=1, repeats=2, more=[mode], scalars=scalars,
                       strides=strides)  # fmt: skip
            whole = lanes(MASK, per, per, 2)
            left = a[elements(whole, a.itemsize, 2, 16)]
            right = b[elements(whole, a.itemsize, 1, 9)] if name == "Compare" else other[: 2 * per]
            assert got[: per // 4].tolist() == np.packbits(function(left, right), bitorder="little").tolist()


@chips
def test_comparison_into_the_register(chip):
    a, b = random("float", 64, 1), random("float", 64, 3)
    out = np.zeros(128, np.float32)
    got = call(chip, "compare_register", out, a, b, mask=(2**63 + 5, 0))
    less = np.zeros(64, bool)
    less[[0, 2, 63]] = (a < b)[[0, 2, 63]]
    assert got[:4].view(np.uint8).tolist() == [*np.packbits(less, bitorder="little"), *[0] * 8]
    assert got[8:72].tolist() == np.where(less, a, b).tolist()


@chips
@floats
def test_select(dtype, chip):
    a, b, per = random(dtype, 1024), random(dtype, 1024, 2), 256 // TYPES[dtype]().itemsize
    bits = np.random.default_rng(5).integers(0, 256, 128, np.uint8)
    chosen = np.unpackbits(bits, bitorder="little").astype(bool)
    out = random(dtype, 1024, 4)
    for mode in range(3):
        for layout in [
            dict(form=COUNT, count=3 * per + 7),
            dict(form=MASK, count=per - 5, repeats=3),
            dict(form=BITS, mask=(0x5A, 0), repeats=2),
        ]:
            where = lanes(**layout, per_repeat=per)
            place = elements(where, a.itemsize, 1, 8)
            bit = chosen[place % per if mode == 0 else place]
            other = np.full_like(a, 0.5) if mode == 1 else b
            expected = out.copy()
            expected[place] = np.where(bit, a[place], other[place])
            got = call(chip, f"Select.{dtype}", out, a, b, bits, more=[mode], scalars=[0.5], **layout)
            np.testing.assert_array_equal(got, expected, err_msg=f"{mode} {layout}")


# ---- reductions ----


def in_order(parts):
    total = parts[0]
    for part in parts[1:]:
        total = (widen(np.array([total])) + widen(np.array([part]))).astype(total.dtype)[0]
    return total


def trees(parts, per):
    parts = np.array(parts)
    while parts.size > 1:
        parts = np.pad(parts, (0, -parts.size % per)).reshape(-1, per)
        parts = np.array([tree_sum(part) for part in parts])
    return parts[0]


@chips
@floats
def test_sums_of_all_are_exact_in_order(dtype, chip):
    x, per = random(dtype, 8192), 256 // TYPES[dtype]().itemsize
    out = np.zeros(16, x.dtype)
    for count in 1, per, 5 * per + 3, 8192:
        parts = [tree_sum(np.pad(x[i : i + per][: count - i], (0, per))[:per]) for i in range(0, count, per)]
        got = call(chip, f"ReduceSum.{dtype}", out, x, count=count)
        assert got[0] == (in_order(parts) if chip == "910b" else trees(parts, per)), count
        assert not got[1:].any()
    for layout, where in [
        (dict(form=MASK, count=per - 3, repeats=7), lanes(MASK, per, per - 3, 7)),
        (dict(form=BITS, mask=(0b1101, 1), repeats=3), lanes(BITS, per, 0, 3, (0b1101, per == 128))),
    ]:
        strides = (1, 1, 1, 1, 9, 8)
        parts = []
        for number, lane in enumerate(where):
            filled = np.zeros(per, x.dtype)
            filled[lane] = x[(number * 9 * 32) // x.itemsize + lane]
            parts.append(tree_sum(filled))
        assert call(chip, f"ReduceSum.{dtype}", out, x, strides=strides, **layout)[0] == trees(parts, per)


@chips
@floats
@pytest.mark.parametrize("name, best", [("ReduceMax", np.argmax), ("ReduceMin", np.argmin)])
def test_the_first_extreme_of_all(name, best, dtype, chip):
    per = 256 // TYPES[dtype]().itemsize
    for seed in 0, 1:
        x = random(dtype, 4096, seed)
        for count in 1, per, 4001:
            got = call(chip, f"{name}.{dtype}", np.zeros(16, x.dtype), x, count=count, more=[1])
            assert (got[0], index_of(got[1])) == (x[best(x[:count])], best(x[:count]))
            got = call(chip, f"{name}.{dtype}", np.zeros(16, x.dtype), x, count=count)
            assert got[0] == x[best(x[:count])] and got[1] == 0
        masked = x[: 6 * per].reshape(6, per)[:, :10]
        row, lane = np.unravel_index(best(masked), masked.shape)
        got = call(chip, f"{name}.{dtype}", np.zeros(16, x.dtype), x, form=MASK, count=10, repeats=6, more=[1])
        assert (got[0], index_of(got[1])) == (masked[row, lane], row * per + lane)
    x[7] = np.nan
    got = call(chip, f"{name}.{dtype}", np.zeros(16, x.dtype), x, count=100, more=[1])
    assert np.isnan(got[0]) and index_of(got[1]) == 7


def groups(x, where, per, group, block, repeat, dst_repeat, function):
    """What is written where, for reductions of a part of each repeat."""
    found = {}
    for number, lane in enumerate(where):
        place = elements([lane], x.itemsize, block, 0) + number * repeat * 32 // x.itemsize
        for g in range(per // group):
            own = lane // group == g
            if own.any():
                found[number * dst_repeat * (per // group) + g] = function(x[place[own]], lane[own] % group, group)
    return found


def sum_of(values, at, group):
    filled = np.zeros(group, values.dtype)
    filled[at] = values
    return tree_sum(filled)


FORMS = [
    dict(form=MASK, repeats=3), dict(form=BITS, mask=(0xF0F00000FF000003, 0x8000000000000001), repeats=2),
    dict(form=COUNTER, repeats=1), dict(form=REPEAT_MASK, mask=(6, 0), repeats=2),
]  # fmt: skip


@chips
@floats
@pytest.mark.parametrize(
    "name", ["WholeReduceSum", "PairReduceSum", *[f"BlockReduce{x}" for x in ("Sum", "Max", "Min")]]
)
def test_reductions_of_parts(name, dtype, chip):
    x, per = random(dtype, 4096), 256 // TYPES[dtype]().itemsize
    group = {"W": per, "B": 32 // x.itemsize, "P": 2}[name[0]]
    function = sum_of if name.endswith("Sum") else lambda v, at, group: v.max() if name.endswith("Max") else v.min()
    for layout in FORMS:
        layout = dict(layout, count={MASK: per - 3, COUNTER: per + 5}.get(layout["form"], 0))
        where = lanes(layout["form"], per, layout["count"], layout["repeats"], layout.get("mask", (0, 0)))
        out = random(dtype, 1024, 2)
        expected = out.copy()
        for place, value in groups(x, where, per, group, 2, 17, 3, function).items():
            expected[place] = value
        got = call(chip, f"{name}.{dtype}", out, x, strides=(1, 2, 1, 3, 17, 8), **layout)
        np.testing.assert_array_equal(got, expected, err_msg=str(layout))


@chips
@floats
@pytest.mark.parametrize("name, best", [("WholeReduceMax", np.argmax), ("WholeReduceMin", np.argmin)])
def test_extremes_of_repeats_with_their_index(name, best, dtype, chip):
    x, per = random(dtype, 4096, 1), 256 // TYPES[dtype]().itemsize
    for layout in FORMS:
        layout = dict(layout, count={MASK: per - 3, COUNTER: per + 5}.get(layout["form"], 0))
        where = lanes(layout["form"], per, layout["count"], layout["repeats"], layout.get("mask", (0, 0)))
        for order in range(4 if chip == "910b" else 2):
            steps = dict(strides=(1, 1, 1, 3, 16, 8), more=[order])
            got = call(chip, f"{name}.{dtype}", np.zeros(256, x.dtype), x, **steps, **layout)
            for number, lane in enumerate(where):
                values = x[number * 16 * 32 // x.itemsize + lane]
                value, index = values[best(values)], lane[best(values)]
                at = number * 3 * (1 if order == 2 else 4 // x.itemsize if order == 3 else 2)
                if order == 3:
                    assert got[at : at + 4 // x.itemsize].view(np.uint32)[0] == index
                elif order == 2:
                    assert got[at] == value
                else:
                    assert (got[at + order], index_of(got[at + 1 - order])) == (value, index)


def test_what_the_scalar_unit_gets():
    x = random("float", 512)
    got = call("910b", "accumulated", np.zeros(8, np.float32), x, count=512)
    assert got[0] == in_order([tree_sum(x[i : i + 64]) for i in range(0, 512, 64)])
    assert (got[1], index_of(got[2])) == (x[:128].max(), x[:128].argmax())
    strides = (1, 1, 1, 2, 8, 8)
    got = call("910b", "repeat_reduce_sum", np.zeros(8, np.float32), x, count=64, repeats=3, strides=strides)
    assert got.tolist() == [tree_sum(x[:64]), 0, tree_sum(x[64:128]), 0, tree_sum(x[128:192]), 0, 0, 0]
