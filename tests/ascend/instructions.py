"""Calls single instructions of the emulator, and what they must do: which elements they touch, how they round."""

import ctypes
import functools
import tempfile
from pathlib import Path

import numpy as np
import torch

from pangu_ops.testing import ascendc

CHIPS = list(ascendc.CHIPS)
COUNT, MASK, BITS, COUNTER, REPEAT_MASK, COUNTED_MASK = range(6)
BFLOAT16 = "bfloat16"  # kept as its bits
TYPES = {
    "half": np.float16, "float": np.float32, "int8_t": np.int8, "uint8_t": np.uint8, "int16_t": np.int16,
    "uint16_t": np.uint16, "int32_t": np.int32, "uint32_t": np.uint32, "int64_t": np.int64, "bfloat16_t": np.uint16,
}  # fmt: skip


@functools.cache
def kernels():
    names = ["elementwise.cpp", "reductions.cpp", "moves.cpp", "broken.cpp", "instructions.cpp"]
    files = [Path(__file__).parent / name for name in names]
    with tempfile.TemporaryDirectory() as folder:  # a library that is loaded needs its file no longer
        return ascendc.for_every_chip(lambda chip: ascendc.compile(files, chip, folder, options=["-O0"]))


def call(chip, name, out, *tensors, form=COUNT, count=0, repeats=1, mask=(0, 0), strides=(1, 1, 1, 8, 8, 8), more=(),
         scalars=(), work=8192):  # fmt: skip
    """The new value of ``out``. Strides: of dst, src0 and src1 in a repeat, then between repeats."""
    padded = [blocks(one) for one in (*tensors, *[np.zeros(0, np.uint8)] * (3 - len(tensors)), out)]
    sizes = [one.nbytes for one in padded] + [work]
    words = [int(np.uint64(word).astype(np.int64)) for word in mask]
    numbers = [form, count, repeats, *words, *strides, *more, *[0] * 8]
    pointers = [torch.from_numpy(one.view(np.uint8)) if one.nbytes else None for one in padded]
    kernels()[chip].run_instruction(
        ctypes.c_char_p(name.encode()), *pointers, torch.tensor(sizes), torch.tensor(numbers),
        torch.tensor([*map(float, scalars), 0.0, 0.0], dtype=torch.float64),
    )  # fmt: skip
    return padded[3].view(out.dtype)[: out.size]


def blocks(array):
    """A copy in whole blocks of 32 bytes."""
    padding = -array.nbytes % 32 // array.itemsize
    return np.concatenate([array, np.zeros(padding, array.dtype)])


def random(dtype, size, seed=0):
    x = np.random.default_rng(seed).standard_normal(size) * 5
    return np.round(x).astype(TYPES[dtype]) if seed % 2 else x.astype(TYPES[dtype])  # odd seeds: with ties


# ---- which elements ----


def lanes(form, per_repeat, count=0, repeats=1, mask=(0, 0)):
    """The lanes of each repeat that take part."""
    if form in (COUNT, COUNTER, COUNTED_MASK):
        return [np.arange(min(per_repeat, count - begin)) for begin in range(0, count, per_repeat)]
    if form == MASK:
        return [np.arange(count)] * repeats
    bits = int(mask[0]) | int(mask[1]) << 64
    return [np.array([lane for lane in range(per_repeat) if bits >> lane & 1], int)] * repeats


def elements(chosen, size, block, repeat):
    """Where those lanes lie in an operand, as indices of its elements."""
    found = []
    for number, lane in enumerate(chosen):
        byte = lane * size
        found.append(((number * repeat + byte // 32 * block) * 32 + byte % 32) // size)
    return np.concatenate(found) if found else np.zeros(0, int)


def layouts(rng, per_repeat):
    """Each form once or more, with strides: dst, src0, src1."""
    full = (2**64 - 1, 2**64 - 1 if per_repeat == 128 else 0)
    holes = tuple(int(rng.integers(1, 2**63)) for _ in range(2))
    plain, apart, again = (1, 1, 1, 8, 8, 8), (2, 1, 3, 16, 9, 24), (1, 0, 1, 8, 1, 0)
    return [
        dict(form=COUNT, count=per_repeat * 3 + 5),
        dict(form=COUNT, count=3),
        dict(form=COUNT, count=0),
        dict(form=MASK, count=per_repeat, repeats=3, strides=plain),
        dict(form=MASK, count=per_repeat - 3, repeats=2, strides=apart),
        dict(form=MASK, count=7, repeats=4, strides=again),
        dict(form=MASK, count=7, repeats=0, strides=plain),
        dict(form=BITS, mask=full, repeats=2, strides=plain),
        dict(form=BITS, mask=holes, repeats=2, strides=apart),
        dict(form=MASK, count=per_repeat // 2 + 1, repeats=2, strides=plain),
        dict(form=COUNTER, count=per_repeat * 2 + 1, strides=apart),
        dict(form=COUNTED_MASK, count=per_repeat * 2 + 9, strides=apart),
        dict(form=REPEAT_MASK, mask=holes, repeats=3, strides=plain),
    ]


# ---- how they round ----


def widen(array):
    return array.astype(np.float32) if array.dtype == np.float16 else array


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def neighbours(x, kind):
    """The values of a type at or below each x and at or above it."""
    if kind == BFLOAT16:
        low = (x.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
        nearest = np.where(np.isnan(x), np.float32(np.nan), low)
        step = lambda value, up: from_bfloat16(  # noqa: E731
            torch.nextafter(
                torch.from_numpy(value).bfloat16(), torch.full(value.shape, np.inf if up else -np.inf).bfloat16()
            ).view(torch.int16).numpy().view(np.uint16)
        )  # fmt: skip
    else:
        with np.errstate(over="ignore"):
            nearest = x.astype(kind)
        step = lambda value, up: np.nextafter(value, kind(np.inf if up else -np.inf))  # noqa: E731
    wide = nearest.astype(np.float64)
    return np.where(wide > x, step(nearest, False), nearest), np.where(wide < x, step(nearest, True), nearest)


def bits(array, kind):
    if kind == np.float16:
        return array.view(np.uint16)
    return array.view(np.uint32) >> 16 if kind == BFLOAT16 else array.view(np.uint32)


def round_float(x, mode, kind):
    """x (float64) as a narrower float, in a mode of Cast; exactly what IEEE 754 says."""
    with np.errstate(over="ignore"):
        return _round_float(x, mode, kind)


def _round_float(x, mode, kind):
    low, high = neighbours(x, kind)
    edge = 65536.0 if kind == np.float16 else 2.0**128  # where inf would lie, were it a number
    a, b = (np.clip(one.astype(np.float64), -edge, edge) for one in (low, high))
    below, above = x - a, b - x
    odd = lambda one: bits(one, kind) & 1 == 1  # noqa: E731
    away = x > 0
    picks = {
        "RINT": np.where(below == above, odd(low), above < below), "FLOOR": np.zeros(x.shape, bool),
        "CEIL": np.ones(x.shape, bool), "ROUND": np.where(below == above, away, above < below), "TRUNC": ~away,
        "ODD": odd(high),
    }  # fmt: skip
    picked = np.where(picks[mode], high, low)
    exact = (low == high) | np.isnan(x) | np.isinf(x)
    return np.where(exact, np.where(np.isinf(x), x.astype(low.dtype), low), picked)


def round_integer(x, mode, kind):
    x = x.astype(np.float64)
    half_away = np.trunc(x + np.copysign(0.5, x))
    rounded = {"RINT": np.rint(x), "FLOOR": np.floor(x), "CEIL": np.ceil(x), "ROUND": half_away, "TRUNC": np.trunc(x)}
    return saturate(np.nan_to_num(rounded[mode], nan=0), kind)


def saturate(x, kind):
    limits = np.iinfo(kind)
    return np.array([int(min(max(value, limits.min), limits.max)) for value in x.tolist()], kind)


# ---- how they sum ----


def tree_sum(values):
    """Neighbours first, each step rounded."""
    size = 1 << max(len(values) - 1, 0).bit_length()
    values = np.concatenate([values, np.zeros(size - len(values), values.dtype)])
    while len(values) > 1:
        values = (widen(values[::2]) + widen(values[1::2])).astype(values.dtype)
    return values[0]
