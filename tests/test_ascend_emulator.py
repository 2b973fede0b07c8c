"""The AscendC emulator: it finds what goes wrong, by a kernel per rule (tests/ascend/rules.cpp), and copies right."""

import pytest
import torch

from pangu_ops import ascend, backends, silu_mul, use
from pangu_ops.backends import ASCEND_IMPLEMENTATIONS, missing
from pangu_ops.testing import ascendc

HERE = ascendc.ROOT / "tests" / "ascend"
N = 64  # floats of a vector instruction's repeat

# kernel -> the rule that it breaks
RULES = {
    "vector_reads_what_a_copy_brings": "read-before-write",
    "copy_overwrites_what_the_vector_unit_reads": "write-before-read",
    "copy_overwrites_what_the_vector_unit_writes": "write-before-write",
    "copy_takes_what_the_vector_unit_writes": "read-before-write",
    "vector_overwrites_what_a_copy_takes": "write-before-read",
    "copies_overlap": "write-before-write",
    "stores_overlap": "write-before-write",
    "load_of_what_was_stored": "read-before-write",
    "store_over_what_is_loaded": "write-before-read",
    "order_passes_from_pipe_to_pipe": "read-before-write",
    "read_of_what_nobody_wrote": "uninitialised",
    "read_past_the_end": "out-of-bounds",
    "write_past_the_end": "out-of-bounds",
    "scalar_past_the_end": "out-of-bounds",
    "load_past_the_tensor": "gm-out-of-bounds",
    "store_past_the_tensor": "gm-out-of-bounds",
    "unaligned_load": "alignment",
    "unaligned_vector": "alignment",
    "unaligned_scalar": "alignment",
    "unaligned_scalar_of_gm": "alignment",
    "count_of_half_blocks": "rounded-down",
    "copy_of_nothing": "burst",
    "sources_of_a_later_repeat": "overlap",
    "partial_overlap": "rule",
    "flag_set_twice": "flag-set-twice",
    "flag_never_set": "flag-never-set",
    "flag_by_the_compilers_names": "flag-never-set",
    "flag_never_waited_for": "unpaired-flag",
    "flag_id_too_high": "event-id",
    "flag_id_of_a_queue": "flag-set-twice",
    "event_ids_run_out": "event-ids-exhausted",
    "event_id_given_back_twice": "event-id",
    "barrier_of_the_scalar_unit": "scalar-barrier",
    "queues_events_are_freed": "flag-set-twice",
    "fetching_takes_no_id": "flag-set-twice",
    "queues_order_the_pipes": "read-before-write",
    "use_after_free": "freed",
    "double_free": "double-free",
    "never_freed": "leak",
    "never_dequeued": "never-dequeued",
    "dequeue_of_nothing": "empty-queue",
    "enqueued_twice": "enqueued-twice",
    "more_than_the_depth": "queue-full",
    "no_idle_buffer": "no-idle-buffer",
    "tensor_of_another_queue": "wrong-queue",
    "scratch_in_a_queue": "wrong-queue",
    "load_into_vecout": "position",
    "store_from_vecin": "position",
    "nine_tensors": "tensors",
    "queue_without_a_buffer": "not-from-a-buffer",
    "tensor_of_no_buffer": "not-from-a-buffer",
    "scratch_past_its_end": "out-of-bounds",
    "too_many_buffers": "buffers",
    "too_much_memory": "ub-size",
    "two_pipes": "two-pipes",
    "reset_frees_all": "not-from-a-buffer",
    "reset_with_a_tensor_out": "leak",
    "assertion": "assertion",
    "atomic_left_on": "left-behind",
    "counter_mode_left_on": "left-behind",
    "atomic_of_another_type": "atomic-type",
    "cores_write_one_place": "race",
    "cores_write_side_by_side": "race",
    "core_reads_what_another_writes": "race",
    "core_overwrites_what_another_reads": "race",
    "cores_add_to_one_place": "race",
    "soft_sync": "race",
    "race_after_a_sync": "race",
    "soft_sync_of_a_dirty_workspace": "workspace",
    "baton": "race",
    "waits_in_vain": "deadlock",
    "more_blocks_than_cores": "too-many-blocks",
    "waves": "race",
    "cached_store": "dcache",
    "load_of_a_cached_store": "dcache",
    "stale_line": "dcache-stale",
    "line_of_two_writers": "dcache",
    "line_of_two_cores": "race",
    "line_of_two_cores_at_once": "dcache",
    "store_beside_a_line_written_back": "race",
    "line_cached_while_another_core_stores": "dcache-stale",
    "line_cached_ahead": "dcache-stale",
}
# The rules that automatic synchronisation keeps by itself.
WITHOUT_AUTO_SYNC = {
    "vector_after_vector": "read-before-write",
    "vector_reads_what_the_scalar_unit_writes": "read-before-write",
    "scalar_reads_what_the_vector_unit_writes": "read-before-write",
    "queue_of_scratch": "read-before-write",
    "bytes_of_a_block_apart": "read-before-write",
}
OF_ONE_CHIP = {
    "910b": {
        "sync_all": "race",
        "cross_core_flags": "race",
        "cross_core_flag_never_waited_for": "unpaired-flag",
        "padding_left_as_garbage": "uninitialised",
        "padding_too_long": "rule",
    },
    "310p": {"no_padded_copies": "chip", "no_hard_sync": "chip"},
}
SOFT = ("count_of_half_blocks", "copy_of_nothing", "load_into_vecout", "store_from_vecin", "cached_store")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if ascendc.compiler() is None:
        pytest.skip("no C++ compiler is installed")
    folder = tmp_path_factory.mktemp("ascend")
    sources = [HERE / "rules.cpp", HERE / "copies.cpp", HERE / "shadow.cpp"]
    return ascendc.for_every_chip(lambda chip: ascendc.compile(sources, chip, folder, options=["-O0"]))


@pytest.fixture(scope="module", params=ascendc.CHIPS)
def kernels(request, built):
    found = built[request.param]
    found.chip = request.param
    return found


@pytest.fixture(autouse=True)
def usual_options(request):
    yield
    if "kernels" in request.fixturenames:
        request.getfixturevalue("kernels").options()


def run(kernels, rule, wrong):
    """Its error, or an empty string."""
    x, y = torch.zeros(4 * N), torch.zeros(8 * N)
    try:
        getattr(kernels, f"run_{rule}")(x, y, wrong)
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("auto_sync", (True, False))
def test_each_rule_is_kept_and_broken(kernels, auto_sync):
    """In one test, so that every launch follows one that has failed."""
    kernels.options(auto_sync=auto_sync)
    rules = RULES | OF_ONE_CHIP[kernels.chip] | dict.fromkeys(WITHOUT_AUTO_SYNC)
    rules |= {} if auto_sync else WITHOUT_AUTO_SYNC
    for rule, broken in rules.items():
        assert run(kernels, rule, 0) == "", rule
        said = run(kernels, rule, 1)
        assert said == "" if broken is None else f"[{broken}]" in said, (rule, said)
        assert broken is None or said.startswith(f"{rule}: ") and ", came " in said


def test_no_rule_is_left_out(kernels):
    known = {"load_past_the_window"} | RULES.keys() | WITHOUT_AUTO_SYNC.keys() | OF_ONE_CHIP[kernels.chip].keys()
    there = {name.removeprefix("run_") for name in kernels.names() if name.startswith("run_")}
    others = {"strided", "through", "scalars", "padded", "copies"}
    assert known == {name for name in there if name not in others and not name.startswith("atomics_")}


def test_an_error_names_kernel_core_instruction_and_place(kernels):
    assert run(kernels, "copy_takes_what_the_vector_unit_writes", 1) == (
        "copy_takes_what_the_vector_unit_writes: core 0, DataCopy (MTE3 instruction 1) [read-before-write]: a read "
        "must wait for the write before it, came UB 0x00000 (VECCALC buffer 0 + 0), written by the vector unit, with "
        "no V_MTE3 event between"
    )


@pytest.mark.parametrize("rule", SOFT)
def test_what_hardware_does_silently_is_a_warning_when_not_strict(kernels, rule):
    kernels.options(strict=False)
    kernels.report()
    assert run(kernels, rule, 1) == ""
    (warning,) = kernels.report()[0]["warnings"]
    assert f"[{RULES[rule]}]" in warning


@pytest.mark.parametrize("seed", range(4))
def test_accesses_are_in_order_when_every_byte_is(kernels, seed):
    kernels.shadows(seed, 500)


def test_the_size_given_to_a_global_tensor_is_only_warned_of(kernels):
    kernels.report()
    assert run(kernels, "load_past_the_window", 0) == run(kernels, "load_past_the_window", 1) == ""
    right, wrong = (launch["warnings"] for launch in kernels.report())
    assert right == [] and len(wrong) == 1 and "[gm-window]" in wrong[0]


def test_the_report_counts(kernels):
    kernels.report()
    assert run(kernels, "queues_order_the_pipes", 0) == ""
    assert kernels.report() == [
        {
            "kernel": "queues_order_the_pipes", "blocks": 1, "peak_ub_bytes": 4 * 512, "mte2_bytes": 4 * 256,
            "mte3_bytes": 4 * 256, "copies": 8, "vector_instructions": 4, "vector_repeats": 4, "scalar_reads": 0,
            "scalar_writes": 0, "pipe_barriers": 0, "flags": 16, "sync_alls": 0, "warnings": [],
        }
    ]  # fmt: skip
    assert kernels.report() == []


@pytest.mark.parametrize("gaps", [(0, 0, 0), (2, 1, 3), (0, 2, 0)])
def test_strided_copies(kernels, gaps):
    count, length = 5, 3  # bursts, and blocks of 16 numbers
    src_gap, ub_gap, dst_gap = gaps
    x = torch.arange(count * (length + src_gap) * 16, dtype=torch.int16)
    y = torch.zeros(count * (length + dst_gap) * 16, dtype=torch.int16)
    kernels.run_strided(x, y, count, length, src_gap, ub_gap, dst_gap)
    rows, out = x.view(count, -1), y.view(count, -1)
    assert torch.equal(out[:, : length * 16], rows[:, : length * 16]) and not out[:, length * 16 :].any()


def test_a_queue_binds_load_and_store(kernels):
    x, y = torch.arange(512, dtype=torch.int32), torch.zeros(512, dtype=torch.int32)
    kernels.run_through(x, y, 512)
    assert torch.equal(x, y)


def test_scalars_and_parts_of_tensors(kernels):
    x, y = torch.arange(100, 116, dtype=torch.int32), torch.zeros(17, dtype=torch.int32)
    kernels.run_scalars(x, y)
    wanted = [*range(101, 117), 1616]
    wanted[9] = 109
    assert y.tolist() == wanted


ATOMICS = {
    "float": torch.float32, "half": torch.float16, "int16_t": torch.int16,
    "int32_t": torch.int32, "int8_t": torch.int8, "bfloat16_t": torch.bfloat16,
}  # fmt: skip


@pytest.mark.parametrize("name, dtype", ATOMICS.items(), ids=ATOMICS)
@pytest.mark.parametrize("op", ("add", "max", "min"))
def test_stores_that_add(kernels, name, dtype, op):
    size = 32 // dtype.itemsize
    x = torch.arange(-size, 2 * size).view(3, size).to(dtype)
    y = torch.ones(size, dtype=dtype)
    together = torch.cat((x, y[None]))
    run_it = getattr(kernels, f"run_atomics_{name}")
    if kernels.chip == "310p" and (op != "add" or name not in ("float", "half", "int16_t")):
        with pytest.raises(RuntimeError, match=r"\[chip\]"):
            run_it(x, y, ("add", "max", "min").index(op))
        return
    run_it(x, y, ("add", "max", "min").index(op))
    wanted = together.sum(0) if op == "add" else together.amax(0) if op == "max" else together.amin(0)
    assert torch.equal(y, wanted.to(dtype))


def test_new_memory_is_written_before_it_is_read(kernels):
    x, y = torch.arange(64, dtype=torch.int16), torch.zeros(64, dtype=torch.int16)
    kernels.run_strided(x, ascendc.New(y), 1, 4, 0, 0, 0)
    assert torch.equal(x, y)
    with pytest.raises(RuntimeError, match=r"\[uninitialised\]: .*GM argument 0 \+ 0x00000, never written"):
        kernels.run_strided(ascendc.New(x), y, 1, 4, 0, 0, 0)


@pytest.mark.parametrize("old_form", (0, 1))
@pytest.mark.parametrize(
    "length, left, right", [(16, 0, 0), (13, 0, 3), (5, 2, 9), (16, 16, 16), (21, 3, 8)], ids=lambda value: str(value)
)
def test_padded_copies(kernels, length, left, right, old_form):
    if kernels.chip == "310p":
        pytest.skip("a 310P has no DataCopyPad")
    count, gap = 4, 3
    x = torch.arange(count * (length + gap), dtype=torch.int16)
    whole = left + length + right
    y = torch.zeros(count * (whole + 1), dtype=torch.int16)
    kernels.run_padded(x, y, count, 2 * length, 2 * gap, 1, left, right, -7, old_form)
    out = y.view(count, -1)
    wanted = torch.full((count, whole), -7, dtype=torch.int16)
    wanted[:, left : left + length] = x.view(count, -1)[:, :length]
    assert torch.equal(out[:, :whole], wanted) and not out[:, whole:].any()


@pytest.mark.parametrize("form", range(4))
def test_copies_by_repeats(kernels, form):
    if kernels.chip == "310p":
        pytest.skip("a 310P has no Copy")
    x, y = torch.arange(256.0) + 1, torch.full((256,), torch.nan)
    kernels.run_copies(x, y, form)
    wanted = torch.zeros(256)
    if form == 0:
        wanted = x
    elif form == 1:
        wanted[:3], wanted[128:131] = x[:3], x[64:67]
    elif form == 2:
        wanted.view(4, 64)[:, [0, 2]] = x.view(4, 64)[:, [0, 2]]
    else:
        wanted[:8], wanted[64:72] = x[:8], x[64:72]
    assert torch.equal(y, wanted)


@pytest.mark.parametrize("name", ASCEND_IMPLEMENTATIONS)
def test_what_ops_did_in_emulation_can_be_read(name):
    if missing(name):
        pytest.skip(missing(name))
    with pytest.raises(RuntimeError, match="the implementation in use must be ascend_emulator"):
        ascend.report()
    x = torch.randn(3, 128)
    with use(name):
        ascend.report()
        with ascend.emulator_options(auto_sync=False):
            with ascend.emulator_options(strict=False):
                pass
            assert backends.emulator().pangu_ascend_options(0, 1) == 0b10  # what was there before the inner block
            out = silu_mul(x)
        (launch,) = ascend.report()
    assert launch["kernel"].startswith("silu_mul") and launch["mte2_bytes"] >= x.numel() * 4
    torch.testing.assert_close(out, torch.nn.functional.silu(x[:, :64]) * x[:, 64:])


def test_brackets_become_calls():
    text = ascendc.launches_as_calls("name_##TYPE<half><<<(n + 1) / 2, nullptr, stream>>>(a, b);")
    assert text.endswith("ASCENDC_TEXT(name_##TYPE<half>), (n + 1) / 2, nullptr, stream)(a, b);")
