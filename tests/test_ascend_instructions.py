"""The vector instructions of the AscendC emulator against numpy: every form, masks, strides, both mask modes."""

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
    from_bfloat16,
    lanes,
    layouts,
    round_float,
    round_integer,
    saturate,
    widen,
)  # fmt: skip

from pangu_ops.testing import ascendc

pytestmark = pytest.mark.skipif(ascendc.compiler() is None, reason="there is no C++ compiler")

FLOATS, NUMBERS, WORDS = ["half", "float"], ["half", "float", "int16_t", "int32_t"], ["int16_t", "uint16_t"]
relu = lambda x: np.maximum(x, 0)  # noqa: E731
BINARY = {
    "Add": (np.add, NUMBERS), "Sub": (np.subtract, NUMBERS), "Mul": (np.multiply, NUMBERS),
    "Max": (np.maximum, NUMBERS), "Min": (np.minimum, NUMBERS), "Div": (np.divide, FLOATS),
    "And": (np.bitwise_and, WORDS), "Or": (np.bitwise_or, WORDS),
    "AddRelu": (lambda a, b: relu(a + b), FLOATS), "SubRelu": (lambda a, b: relu(a - b), FLOATS),
}  # fmt: skip
FUSED = {
    "FusedMulAdd": lambda a, b, own: a * own + b,
    "FusedMulAddRelu": lambda a, b, own: relu(a * own + b),
}
UNARY = {
    "Exp": (np.exp, FLOATS), "Ln": (np.log, FLOATS), "Abs": (np.abs, FLOATS), "Sqrt": (np.sqrt, FLOATS),
    "Relu": (relu, [*FLOATS, "int32_t"]), "Not": (np.bitwise_not, WORDS),
}  # fmt: skip
SCALAR = {
    "Adds": (np.add, NUMBERS), "Muls": (np.multiply, NUMBERS),
    "Maxs": (np.maximum, NUMBERS), "Mins": (np.minimum, NUMBERS),
    "LeakyRelu": (lambda a, s: np.where(a < 0, a * s, a), FLOATS),
    "ShiftLeft": (np.left_shift, [*WORDS, "int32_t", "uint32_t"]),
    "ShiftRight": (np.right_shift, [*WORDS, "int32_t", "uint32_t"]),
}  # fmt: skip
ROUGHLY = {"Exp", "Ln"}


def values(rng, dtype, size=2048, edges=True):
    kind = TYPES[dtype]
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        return rng.integers(limits.min, limits.max, size, kind, endpoint=True)
    x = (rng.standard_normal(size) * 3).astype(kind)
    if edges:
        tiny = np.finfo(kind).smallest_subnormal
        x[:9] = [0, -0.0, np.inf, -np.inf, np.nan, np.finfo(kind).max, tiny, 1, -tiny]
    return x


def check(chip, name, dtype, function, sources, *, reads=0, **options):
    """All forms; ``function`` takes the sources' values, with reads=1 the destination's as well."""
    rng = np.random.default_rng(1)
    kind = TYPES[dtype]
    out = values(rng, dtype, 4096, edges=False)
    for layout in layouts(rng, 256 // kind().itemsize):
        strides = layout.get("strides", (1, 1, 1, 8, 8, 8))
        chosen = lanes(layout["form"], 256 // kind().itemsize, layout.get("count", 0), layout.get("repeats", 1),
                       layout.get("mask", (0, 0)))  # fmt: skip
        to = elements(chosen, kind().itemsize, strides[0], strides[3])
        taken = [
            widen(source[elements(chosen, kind().itemsize, strides[1 + i], strides[4 + i])])
            for i, source in enumerate(sources)
        ]
        with np.errstate(all="ignore"):
            wanted = function(*taken, *[widen(out[to])] * reads).astype(kind)
        expected = out.copy()
        expected[to] = wanted
        got = call(chip, name, out, *sources, **layout, **options)
        if name.split(".")[0] in ROUGHLY:
            tolerance = 2e-3 if dtype == "half" else 1e-6
            np.testing.assert_allclose(got, expected, rtol=tolerance, err_msg=f"{name} {layout}")
        else:
            np.testing.assert_array_equal(got, expected, err_msg=f"{name} {layout}")


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", BINARY)
def test_two_sources(name, chip):
    function, dtypes = BINARY[name]
    rng = np.random.default_rng(0)
    for dtype in dtypes:
        a, b = values(rng, dtype), values(rng, dtype)[::-1].copy()
        check(chip, f"{name}.{dtype}", dtype, function, [a, b])


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", FUSED)
def test_two_sources_and_itself(name, chip):
    rng = np.random.default_rng(0)
    for dtype in FLOATS:
        sources = [values(rng, dtype, edges=False), values(rng, dtype)]
        check(chip, f"{name}.{dtype}", dtype, FUSED[name], sources, reads=1)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", UNARY)
def test_one_source(name, chip):
    function, dtypes = UNARY[name]
    rng = np.random.default_rng(0)
    for dtype in dtypes:
        check(chip, f"{name}.{dtype}", dtype, function, [values(rng, dtype)])


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", SCALAR)
def test_a_scalar(name, chip):
    if chip == "310p" and name.startswith("Shift"):
        pytest.skip("310P does not shift")
    function, dtypes = SCALAR[name]
    rng = np.random.default_rng(0)
    for dtype in dtypes:
        kind = TYPES[dtype]
        scalar = kind(5) if name.startswith("Shift") else kind(0.375 if dtype in FLOATS else 77)
        wide = widen(np.array([scalar]))
        check(chip, f"{name}.{dtype}", dtype, lambda a, b=wide: function(a, b), [values(rng, dtype)], scalars=[scalar])


def test_shifts_round_and_reach_the_whole_width():
    x = np.array([17, 15, 16, -17, -1, 0, 2**31 - 1, -(2**31)], np.int32)
    out = np.zeros(8, np.int32)
    rounded = call("910b", "ShiftRightRound.int32_t", out, x, form=MASK, count=8, scalars=[5])
    assert rounded.tolist() == [(int(v) >> 5) + (int(v) >> 4 & 1) for v in x]
    assert call("910b", "ShiftRight.int32_t", out, x, count=8, scalars=[32]).tolist() == [-(v < 0) for v in x.tolist()]
    assert not call("910b", "ShiftLeft.int32_t", out, x, count=8, scalars=[32]).any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name, function", [("Rsqrt", lambda x: 1 / np.sqrt(x)), ("Reciprocal", lambda x: 1 / x)])
def test_approximations_are_rough_but_not_too_rough(name, function, dtype):
    x = np.abs(values(np.random.default_rng(0), dtype, edges=False)) + TYPES[dtype](0.1)
    got = call("910b", f"{name}.{dtype}", np.zeros_like(x), x, count=x.size).astype(np.float64)
    error = np.abs(got / function(x.astype(np.float64)) - 1)
    assert error.max() < (2e-3 if dtype == "half" else 1e-4) * 1.5
    assert np.median(error) > (5e-4 if dtype == "half" else 4e-5)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("to, from_", [("half", "half"), ("float", "float"), ("float", "half")])
def test_what_adds_to_itself_in_another_type(to, from_, chip):
    rng = np.random.default_rng(0)
    a, b = values(rng, from_, 1024), values(rng, from_, 1024, edges=False)
    out = values(rng, to, 1024, edges=False)
    per = 256 // out.itemsize
    strides = (1, 1, 1, 8, 8 * a.itemsize // out.itemsize, 8 * a.itemsize // out.itemsize)
    for layout in dict(form=COUNT, count=per * 2 + 9), dict(form=MASK, count=per - 1, repeats=3, strides=strides):
        chosen = lanes(layout["form"], per, layout["count"], layout.get("repeats", 1))
        i, j = elements(chosen, out.itemsize, 1, 8), elements(chosen, a.itemsize, 1, strides[4])
        expected = out.copy()
        with np.errstate(all="ignore"):
            expected[i] = (widen(a[j]) * widen(b[j]) + widen(out[i])).astype(out.dtype)
        got = call(chip, f"MulAddDst.{to}.{from_}", out, a, b, **layout)
        np.testing.assert_array_equal(got, expected)
        with np.errstate(all="ignore"):
            expected[i] = (widen(a[j]) * np.float32(0.375) + widen(out[i])).astype(out.dtype)
        got = call(chip, f"Axpy.{to}.{from_}", out, a, scalars=[0.375], **layout)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("chip", CHIPS)
def test_a_destination_that_is_the_second_source_sums_up(chip):
    x = np.arange(256, dtype=np.float32)
    strides = (1, 1, 1, 0, 8, 0)
    got = call(chip, "sum_into_itself", np.ones(64, np.float32), x, form=MASK, count=64, repeats=4, strides=strides)
    assert got.tolist() == (x.reshape(4, 64).sum(0) + 1).tolist()


@pytest.mark.parametrize("chip", CHIPS)
def test_fills(chip):
    rng = np.random.default_rng(0)
    for dtype in ["int16_t", "uint16_t", "half", "bfloat16_t", "int32_t", "uint32_t", "float"]:
        kind = np.float32(1.5).view(np.uint32) >> 16 if dtype == "bfloat16_t" else TYPES[dtype](3)
        apply = lambda _, value=kind: np.full(_.shape, value)  # noqa: E731
        scalar = 1.5 if dtype == "bfloat16_t" else 3
        check(chip, f"Duplicate.{dtype}", dtype, apply, [values(rng, dtype)], scalars=[scalar])
    for dtype in NUMBERS:
        out, per = np.zeros(512, TYPES[dtype]), 256 // TYPES[dtype]().itemsize
        got = call(chip, f"CreateVecIndex.{dtype}", out, count=per + 9, scalars=[5])
        assert got.tolist() == [*range(5, 5 + per + 9), *[0] * (512 - per - 9)]
        got = call(chip, f"CreateVecIndex.{dtype}", out, form=MASK, count=8, repeats=2, scalars=[5])
        assert got[:8].tolist() == [*range(5, 13)] and got[per : per + 8].tolist() == [*range(5 + per, 13 + per)]
    got = call(chip, "ArithProgression.float", np.zeros(16, np.float32), count=10, scalars=[2, 0.5])
    assert got.tolist() == [2 + 0.5 * i for i in range(10)] + [0] * 6


# ---- Cast ----

MODES = ["NONE", "RINT", "FLOOR", "CEIL", "ROUND", "TRUNC", "ODD"]
DIRECTED = {"RINT", "FLOOR", "CEIL", "ROUND", "TRUNC"}
CASTS = {
    "910b": {
        ("half", "int8_t"): {"NONE"}, ("half", "uint8_t"): {"NONE"}, ("half", "int16_t"): DIRECTED | {"NONE"},
        ("float", "int16_t"): {"NONE"}, ("int8_t", "half"): DIRECTED | {"NONE"},
        ("uint8_t", "half"): DIRECTED | {"NONE"}, ("int16_t", "half"): DIRECTED, ("int32_t", "half"): DIRECTED,
        ("float", "half"): {"NONE"}, ("int32_t", "bfloat16_t"): DIRECTED, ("float", "bfloat16_t"): {"NONE"},
        ("int16_t", "int32_t"): {"NONE"}, ("float", "int32_t"): DIRECTED | {"NONE"}, ("int64_t", "int32_t"): {"NONE"},
        ("int16_t", "float"): DIRECTED, ("half", "float"): DIRECTED | {"NONE", "ODD"},
        ("bfloat16_t", "float"): DIRECTED, ("int32_t", "float"): DIRECTED, ("float", "float"): DIRECTED,
        ("int64_t", "float"): DIRECTED, ("int32_t", "int64_t"): {"NONE"}, ("float", "int64_t"): DIRECTED,
    },
    "310p": {
        ("half", "int8_t"): {"NONE"}, ("half", "uint8_t"): {"NONE"}, ("half", "int16_t"): {"NONE"},
        ("int8_t", "half"): DIRECTED - {"RINT"} | {"NONE"}, ("uint8_t", "half"): DIRECTED - {"RINT"} | {"NONE"},
        ("int16_t", "half"): {"RINT"}, ("int32_t", "half"): DIRECTED, ("float", "half"): {"NONE"},
        ("int16_t", "int32_t"): {"NONE"}, ("float", "int32_t"): {"NONE"}, ("half", "float"): {"NONE", "ODD"},
        ("int64_t", "float"): DIRECTED,
    },
}  # fmt: skip


def numbers_to_cast(dtype):
    rng = np.random.default_rng(3)
    if np.issubdtype(TYPES[dtype], np.integer) and dtype != "bfloat16_t":
        x = values(rng, dtype, 512)
        limits = np.iinfo(x.dtype)
        x[:8] = [0, 1, limits.max, limits.min, limits.max - 1, 2, 3, limits.max // 3]
        x[8:200] >>= rng.integers(0, 8 * x.itemsize - 1, 192).astype(x.dtype)
        return x
    x = np.ldexp(rng.standard_normal(512), rng.integers(-30, 40, 512)).astype(np.float32)
    x[:20] = [0, -0.0, np.inf, -np.inf, np.nan, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 65504, 65519, 65520, 65535, 2**-24,
              2**-25, 3 * 2**-26, -(2**31), 127.5]  # fmt: skip
    x[20:60] = rng.integers(-300, 300, 40) + 0.5
    x[60:80] = 1 + rng.integers(0, 16, 20) * np.float32(2**-11)
    x[80:100] = 1 + rng.integers(0, 16, 20) * np.float32(2**-8)
    if dtype == "bfloat16_t":
        return (x.view(np.uint32) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        return x.astype(TYPES[dtype])


def cast(x, to, from_, mode):
    """What Cast must give, by numpy; bfloat16 as bits."""
    mode = "RINT" if mode == "NONE" else mode
    floats = {"half", "float", "bfloat16_t"}
    wide = from_bfloat16(x) if from_ == "bfloat16_t" else x
    if to not in floats:
        return round_integer(wide, mode, TYPES[to]) if from_ in floats else saturate(x, TYPES[to])
    if from_ in floats:
        if to == from_:
            return integral(wide, mode)
        if to == "float":
            return wide.astype(np.float32)
    kind = "bfloat16" if to == "bfloat16_t" else TYPES[to]
    if from_ == "int64_t":
        wide = wide.astype(np.longdouble)
    rounded = round_float(wide if from_ == "int64_t" else wide.astype(np.float64), mode, kind)
    return (rounded.view(np.uint32) >> 16).astype(np.uint16) if to == "bfloat16_t" else rounded


def integral(x, mode):
    away = np.where(np.isfinite(x), np.trunc(x.astype(np.float64) + np.copysign(0.5, x)), x).astype(np.float32)
    return {"RINT": np.rint, "FLOOR": np.floor, "CEIL": np.ceil, "TRUNC": np.trunc, "ROUND": lambda _: away}[mode](x)


@pytest.mark.parametrize("chip", CHIPS)
def test_casts(chip):
    for (to, from_), modes in CASTS[chip].items():
        x = numbers_to_cast(from_)
        per = 256 // max(TYPES[to]().itemsize, x.itemsize)
        for mode in MODES:
            out = np.zeros(x.size, TYPES[to])
            options = dict(count=x.size, more=[MODES.index(mode)])
            if mode not in modes:
                with pytest.raises(RuntimeError, match="the round mode for these types must be one of"):
                    call(chip, f"Cast.{to}.{from_}", out, x, **options)
                continue
            expected = cast(x, to, from_, mode)
            got = call(chip, f"Cast.{to}.{from_}", out, x, **options)
            if to == "bfloat16_t":  # any NaN
                nan = np.isnan(x)
                assert np.isnan(from_bfloat16(got[nan])).all()
                got, expected = got[~nan], expected[~nan]
            np.testing.assert_array_equal(got, expected, err_msg=f"{to} from {from_}, {mode}")
        mode = next(iter(modes))
        strides = (1, 1, 1, per * out.itemsize // 32, per * x.itemsize // 32, 8)
        got = call(chip, f"Cast.{to}.{from_}", out, x, form=BITS, mask=(0b1011, 0), repeats=3, strides=strides,
                   more=[MODES.index(mode)])  # fmt: skip
        where = elements([np.array([0, 1, 3])] * 3, out.itemsize, 1, strides[3])
        expected = out.copy()
        expected[where] = cast(x, to, from_, mode)[elements([np.array([0, 1, 3])] * 3, x.itemsize, 1, strides[4])]
        finite = expected == expected
        np.testing.assert_array_equal(got[finite], expected[finite])
        got = call(chip, f"Cast.{to}.{from_}", out, x, form=COUNTER, count=per + 3, strides=strides,
                   more=[MODES.index(mode)])  # fmt: skip
        assert not got[per + 3 :].any()


@pytest.mark.parametrize("chip", CHIPS)
def test_int32_to_half_is_scaled(chip):
    x = np.array([0, 1, -3, 1000, 2**31 - 1, -(2**31), 12345, 7], np.int32)
    got = call(chip, "Cast.half.int32_t", np.zeros(8, np.float16), x, count=8, scalars=[0.125])
    with np.errstate(over="ignore"):
        assert got.tolist() == (x.astype(np.float32) * np.float32(0.125)).astype(np.float16).tolist()
