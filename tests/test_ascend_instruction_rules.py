"""The rules of the AscendC emulator's instructions: each broken once."""

import subprocess

import numpy as np
import pytest
from ascend.instructions import CHIPS, call

from pangu_ops.testing import ascendc

pytestmark = pytest.mark.skipif(ascendc.compiler() is None, reason="there is no C++ compiler")

chips = pytest.mark.parametrize("chip", CHIPS)

RULES = {
    "mask_zero": "mask must be from 1 to 64, came 0",
    "mask_too_large": "mask must be from 1 to 64, came 65",
    "no_lane": "the mask must choose a lane",
    "too_many_repeats": "repeatTime must be from 0 to 255, came 256",
    "negative_count": "count must not be negative, came -1",
    "unaligned_dst": r"Abs .*\[alignment\]: dst must start at a multiple of 32 bytes",
    "unaligned_src": r"Abs .*\[alignment\]: src must start at a multiple of 32 bytes",
    "dst_block_stride_zero": "must not have block stride 0",
    "past_the_end": r"\[out-of-bounds\]",
    "partial_overlap": r"dst must lie exactly over src or apart from it",
    "overlap_of_widths": "dst must lie exactly over src or apart from it",
    "next_repeat_reads": r"\[overlap\]",
    "sum_of_itself": r"\[overlap\]",
    "unmasked_lanes": r"\[uninitialised\]",
    "half_compared_by_a_part": "count elements must be a multiple of 256 bytes, came 100 elements",
    "wrong_mode_of_select": "selMode must be VSEL_CMPMASK_SPR or VSEL_TENSOR_TENSOR_MODE",
    "small_workspace": "sharedTmpBuffer must have 128 bytes, came 32",
    "workspace_read": r"\[uninitialised\]",
    "unaligned_result": "dst must start at a multiple of 8 bytes",
    "unaligned_offset": "an offset must be a multiple of 4 bytes, came 2",
    "gather_in_place": "dst and src must not overlap",
    "unknown_pattern": "src1Pattern must be from 1 to ",
    "brcb_in_place": "dst and src must not overlap",
    "counter_without_a_count": "in Counter mode the mask must be a number of elements",
    "counter_mode_left": r"\[left-behind\]",
    "unknown_round_mode": "the round mode for these types must be one of",
}
RULES_OF = {
    "910b": {
        "no_deq_scale": "must come after SetDeqScale",
        "shift_too_far": "the shift must be from 0 to 16, came 17",
        "int32_compared_by_less": "int32 must be compared by EQ",
        "unaligned_sort": "dst must start at a multiple of 256 bytes",
        "merge_upon_itself": "dst and src must not overlap",
        "merge_of_one": "validBit must be 3, 7 or 15, came 1",
    },
    "310p": {
        "only_the_value": "order must be ORDER_VALUE_INDEX or ORDER_INDEX_VALUE",
        "scattered_twice": "offsets must differ",
    },
}


@pytest.mark.parametrize("chip, name, text", [(c, n, t) for c in CHIPS for n, t in {**RULES, **RULES_OF[c]}.items()])
def test_a_broken_rule_is_an_error(chip, name, text):
    with pytest.raises(RuntimeError, match=text):
        call(chip, name, np.zeros(512, np.float32), *[np.ones(1024, np.float32)] * 3)


@chips
def test_a_count_leaves_all_lanes(chip):
    got = call(chip, "count_restores_the_mask", np.zeros(64, np.float32), -np.ones(64, np.float32))
    assert got.all()


FORBIDDEN = {
    "both": [
        "Exp(i32, i32, 8)", "Add(bf16, bf16, bf16, 8)", "Add(u32, u32, u32, 8)", "And(i32, i32, i32, 8)",
        "Not(u32, u32, 8)", "Div(i16, i16, i16, 8)", "Cast(i8, f32, RoundMode::CAST_RINT, 8)",
        "Cast(f32, i8, RoundMode::CAST_NONE, 8)", "Cast(bf16, f16, RoundMode::CAST_RINT, 8)",
        "ReduceSum(i8, i8, i8, 8)", "Select(u32, u8, u32, u32, SELMODE(2), 8)", "Axpy(f16, f32, 1.0f, 8)",
        "Duplicate(u8, uint8_t(1), 8)", "Gather(i8, i8, u32, 0, 8)", "Compare(u8, i16, i16, CMPMODE::EQ, 128)",
    ],
    "910b": [
        "Scatter(f32, f32, u32, 0, 8)", "Sort32(i32, i32, u32, 1)", "Gatherb(f32, f32, u32, 1, {1, 8})",
        "SyncAll<false>()",
    ],
    "310p": [
        "Cast(i32, f32, RoundMode::CAST_RINT, 8)", "Cast(bf16, f32, RoundMode::CAST_RINT, 8)",
        "ShiftLeft(i32, i32, 1, 8)", "Sort32(f32, f32, u32, 1)", "GetSortLen<half>(8)",
        "Gatherb(u32, u32, u32, 1, {1, 8})", "Gather(bf16, bf16, u32, 0, 8)",
        "Compare(u8, i32, i32, CMPMODE::EQ, 64)", "GetAccVal<float>()",
    ],
}  # fmt: skip


@chips
def test_what_a_chip_lacks_does_not_compile(chip, tmp_path):
    calls = FORBIDDEN["both"] + FORBIDDEN[chip]
    types = dict(f16="half", f32="float", bf16="bfloat16_t", i8="int8_t", u8="uint8_t", i16="int16_t", i32="int32_t")
    tensors = " ".join(f"LocalTensor<{kind}> {name};" for name, kind in {**types, "u32": "uint32_t"}.items())
    lines = [f"void forbidden_{i}() {{ {tensors} {one}; }}" for i, one in enumerate(calls)]
    (tmp_path / "a.cpp").write_text('#include "kernel_operator.h"\nusing namespace AscendC;\n' + "\n".join(lines))
    options = ["-std=c++20", "-fsyntax-only", f"-DPANGU_EMULATED={ascendc.CHIPS[chip]}", f"-I{ascendc.EMULATOR}"]
    done = subprocess.run([ascendc.compiler(), *options, "a.cpp"], cwd=tmp_path, text=True, capture_output=True)
    missed = [one for i, one in enumerate(calls) if f"a.cpp:{i + 3}:" not in done.stderr]
    assert done.returncode and not missed  # of two calls with the same fault only the first is reported
    assert done.stderr.count("static assertion failed") >= len(calls)
