"""Faults planted in our own AscendC kernels, tests/ascend/faults/<op>.txt, and that each is found.

The emulator must name the kernel, the core and the broken rule; where only values show a fault, the reference does.
Each fault is a substitution in the sources of an op. All versions of all ops are compiled at once, each in a namespace
of its own, and launched with the op's own tiling, most for a chip of few cores and little memory, so that small tensors
make a core go through several tiles. The sources as they are must be found free of faults by the same way.
"""

import dataclasses
import re

import pytest
import torch

from pangu_ops.registry import PAGES
from pangu_ops.testing import ascendc

KERNELS = ascendc.ROOT / "ascend_kernels"
FAULTS = ascendc.ROOT / "tests/ascend/faults"
DTYPES = {"float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}
BLOCK_BYTES = 32

pytestmark = pytest.mark.skipif(ascendc.compiler() is None, reason="there is no C++ compiler")


@dataclasses.dataclass
class Fault:
    """A version of an op's sources."""

    op: str
    what: str
    rule: str = ""  # that the emulator must name, "values", "compiler: words", or "" for the sources as they are
    options: tuple = ()
    edits: list = dataclasses.field(default_factory=list)  # (old text, new text)

    def option(self, choices, default):
        return next((choice for choice in choices if choice in self.options), default)

    @property
    def dtype(self):
        return self.option(DTYPES, "half")

    @property
    def chip(self):
        return self.option(ascendc.CHIPS, "910b")

    @property
    def case(self):
        return self.option(CASES[self.op], "")

    @property
    def compiles(self):
        return not self.rule.startswith("compiler: ")

    @property
    def occurrence(self):
        return next((int(option[1:]) for option in self.options if option[0] == "#"), None)

    def __str__(self):
        return f"{self.op}: {self.what}"


def faults_of(op):
    """Those of a file: for each a line ``! what | rule | options``, then ``- old text`` and ``+ new text``.

    Options: a dtype, a chip and a case, where not half, 910b and the first; ``off`` where the fault is found with
    automatic sync off only, since otherwise there is none; ``#2`` where the second occurrence of the old text is meant;
    ``again`` where memory must be as a launch without the fault leaves it.
    The old text must occur once in the op's sources; its spaces stand for any, and for ends of lines.
    """
    faults = []
    for line in (FAULTS / f"{op}.txt").read_text().splitlines():
        mark, text = line[:1], line[2:]
        if mark == "!":
            what, rule, *options = (part.strip() for part in text.split("|"))
            faults.append(Fault(op, what, rule, tuple(" ".join(options).split())))
        elif mark == "-":
            faults[-1].edits.append((text, ""))
        elif mark == "+":
            old, new = faults[-1].edits[-1]
            faults[-1].edits[-1] = (old, f"{new}\n{text}" if new else text)
    return faults


# ---- the sources ----


def flat(file, seen):
    """A file and what it includes, without what all versions share."""
    if file in seen or file == "kernel_operator.h":
        return ""
    seen.add(file)
    lines = []
    for line in (KERNELS / file).read_text().splitlines():
        include = re.match(r'#include "(.*)"', line)
        if include:
            lines.append(flat(include[1], seen))
        elif not re.match(r"#include <|#pragma once", line):
            lines.append(line)
    if file == "kernel/kernel.h":
        lines.append("// ---- one dtype ----")
    return "\n".join(lines)


def sources_of(fault):
    source = flat(f"kernel/{fault.op.removesuffix('_sampling')}.cpp", set()).replace('extern "C" ', "")
    for old, new in fault.edits:
        found = list(re.finditer(r"\s+".join(map(re.escape, old.split())), source))
        place = fault.occurrence or 1
        if len(found) < place or (fault.occurrence is None and len(found) > 1):
            wanted = f"at least {place} times" if fault.occurrence else "once"
            raise ValueError(f"{fault}: {old!r} must occur {wanted} in the sources, came {len(found)} times")
        source = source[: found[place - 1].start()] + new + source[found[place - 1].end() :]
    dtype = f"""
#undef PANGU_ENTRIES
#define PANGU_ENTRIES(ENTRY) ENTRY({fault.dtype}, {fault.dtype}{"_t" * (fault.dtype == "bfloat16")})
"""
    return source.replace("// ---- one dtype ----", dtype)


def version(number, fault):
    """The text of a version, with its function ``fault_<number>``."""
    parameters, call = CALLS[fault.op]
    suffix = {"moge_dispatch": "_bytes", "spec_verify_sampling": ""}.get(fault.op, f"_{fault.dtype}")
    call = re.sub(r"LAUNCH\((\w+),", rf"LAUNCH(\1{suffix},", call)
    names = ", ".join(parameter.split()[-1] for parameter in parameters.split(", "))
    return f"""
namespace version_{number} {{
namespace {{
{sources_of(fault)}
namespace pangu::ascend {{
void call({parameters}, int64_t cores, int64_t ub_bytes, void* stream) {{
  [[maybe_unused]] constexpr Dtype DTYPE = Dtype::{fault.dtype.upper()};
  Chip chip = PANGU_EMULATED == 910 ? ASCEND_910B : ASCEND_310P;
  if (cores) chip.cores = int32_t(cores);
  if (ub_bytes) chip.ub_bytes = ub_bytes;
  {call}
}}
}}
}}
}}
extern "C" void fault_{number}({parameters}, int64_t cores, int64_t ub_bytes) {{
  run([&](void* stream) {{ version_{number}::pangu::ascend::call({names}, cores, ub_bytes, stream); }});
}}
"""


HEAD = """
#include <algorithm>
#include <cstdint>
#define LAUNCH(entry, cores, ...)                                                                                \\
  AscendC::emulator::launch(#entry, cores, *static_cast<std::vector<AscendC::emulator::Range>*>(stream), \\
                            [&] { entry(__VA_ARGS__); })
template <class Call>
void run(const Call& call) {
  auto& standalone = AscendC::emulator::Standalone::get();
  try {
    call(&standalone.ranges);
  } catch (const std::exception& error) {
    standalone.error = error.what();
  }
}
"""


# ---- the ops: parameters and body of a function that launches, and what to call it with ----

CALLS = {
    "silu_mul": (
        "uint8_t* gate_up, uint8_t* out, int64_t rows, int64_t columns, int64_t stride",
        """auto tiling = silu_mul_tiling(rows, columns, stride, stride, DTYPE, chip);
  LAUNCH(silu_mul, tiling.tiles.split.cores, gate_up, out, tiling);""",
    ),
    "rms_norm": (
        "uint8_t* x, uint8_t* weight, uint8_t* out, int64_t rows, int64_t columns, int64_t stride",
        """auto tiling = rms_norm_tiling(rows, columns, stride, stride, 1e-5f, DTYPE, chip);
  LAUNCH(rms_norm, tiling.tiles.split.cores, x, weight, out, tiling);""",
    ),
    "add_rms_norm": (
        "uint8_t* x, uint8_t* residual, uint8_t* weight, uint8_t* out, uint8_t* sum, int64_t rows, int64_t columns, "
        "int64_t stride",
        """auto tiling = add_rms_norm_tiling(rows, columns, stride, stride, 1e-5f, DTYPE, chip);
  LAUNCH(add_rms_norm, tiling.tiles.split.cores, x, residual, weight, out, sum, tiling);""",
    ),
    "rotary": (
        "uint8_t* q, uint8_t* k, uint8_t* cos, uint8_t* sin, uint8_t* out_q, uint8_t* out_k, int64_t tokens, "
        "int64_t q_heads, int64_t k_heads, int64_t half",
        """Heads q_{int32_t(q_heads), q_heads * 2 * half, 2 * half}, k_{int32_t(k_heads), k_heads * 2 * half, 2 * half};
  auto tiling = rotary_tiling(tokens, half, q_, k_, DTYPE, chip);
  LAUNCH(rotary, tiling.tiles.split.cores, q, k, cos, sin, out_q, out_k, tiling);""",
    ),
    "moge_dispatch": (
        "uint8_t* x, uint8_t* ids, uint8_t* rows, uint8_t* slot_rows, uint8_t* offsets, uint8_t* workspace, "
        "uint8_t* meetings, int64_t tokens, int64_t slots, int64_t experts, int64_t groups, int64_t columns, "
        "int64_t row_bytes",
        """auto tiling = moge_dispatch_tiling(tokens, slots, experts, groups, columns, row_bytes, chip);
  LAUNCH(moge_dispatch, cores_of(tiling), x, ids, rows, slot_rows, offsets, workspace, meetings, tiling);""",
    ),
    "moge_combine": (
        "uint8_t* rows, uint8_t* weights, uint8_t* slot_rows, uint8_t* addend, uint8_t* out, int64_t num_rows, "
        "int64_t tokens, int64_t slots, int64_t columns, int64_t stride",
        """auto tiling = moge_combine_tiling(num_rows, tokens, slots, columns, stride, addend != nullptr, DTYPE, chip);
  LAUNCH(moge_combine, tiling.split.cores, rows, weights, slot_rows, addend, out, tiling);""",
    ),
    "moge_gating": (
        "uint8_t* logits, uint8_t* bias, uint8_t* weights, uint8_t* ids, int64_t tokens, int64_t experts, "
        "int64_t groups, int64_t topk, int64_t stride",
        """auto tiling = moge_gating_tiling(tokens, experts, groups, topk, DTYPE, chip, bias != nullptr, false);
  tiling.softmax = bias == nullptr, tiling.scaling_factor = 1;
  LAUNCH(moge_gating, tiling.split.cores, logits, bias, nullptr, weights, ids, tiling);""",
    ),
    "spec_verify": (
        "uint8_t* draft_ids, uint8_t* parents, uint8_t* target, uint8_t* tokens, uint8_t* counts, uint8_t* nodes, "
        "uint8_t* workspace, int64_t batch, int64_t num_nodes, int64_t vocabulary, int64_t ahead, int64_t id_stride, "
        "int64_t stride, int64_t token_stride, int64_t node_stride, int64_t count_stride",
        """auto tiling = spec_verify_tiling(batch, num_nodes, vocabulary, true, DTYPE, chip);
  if (!ahead) tiling.reads_ahead = false, tiling.values = 1, tiling.record = 4;  // as for a large vocabulary
  tiling.layout = {id_stride, 0, 0, stride, 0, token_stride, node_stride, count_stride, 1, 0};
  LAUNCH(spec_verify_greedy, tiling.cores, draft_ids, parents, target, nullptr, nullptr, tokens, counts, nodes,
         workspace, tiling);""",
    ),
    "spec_verify_sampling": (
        "uint8_t* draft_ids, uint8_t* parents, uint8_t* target, uint8_t* probs, uint8_t* uniforms, uint8_t* tokens, "
        "uint8_t* counts, uint8_t* nodes, uint8_t* workspace, int64_t batch, int64_t num_nodes, int64_t vocabulary, "
        "int64_t id_stride, int64_t uniform_stride, int64_t stride, int64_t token_stride, int64_t node_stride, "
        "int64_t count_stride",
        """auto tiling = spec_verify_tiling(batch, num_nodes, vocabulary, false, Dtype::FLOAT, chip);
  tiling.method = int32_t(VerifyMethod::REJECTION), tiling.has_draft_probs = true;
  tiling.layout = {id_stride, 0, uniform_stride, stride, stride, token_stride, node_stride, count_stride, 1, 0};
  LAUNCH(spec_verify_sampling, tiling.cores, draft_ids, parents, target, probs, uniforms, tokens, counts, nodes,
         workspace, tiling);""",
    ),
}


@dataclasses.dataclass
class Case:
    tensors: list
    sizes: list  # then the chip's cores and bytes, 0 for what it has
    results: list  # (tensor, reference)


def padded(fault, x):
    """On 310P rows end with a block."""
    block = BLOCK_BYTES // x.element_size()
    missing = -x.shape[-1] % block if fault.chip == "310p" else 0
    return torch.nn.functional.pad(x, (0, missing)).contiguous()


def garbage(like):
    return torch.full_like(like, torch.nan if like.is_floating_point() else -7)


def silu_mul(fault, rows=43, columns=40, cores=2, ub_bytes=8 << 10):
    x = torch.randn(rows, 2, columns, dtype=DTYPES[fault.dtype])
    given = padded(fault, x)
    out = garbage(given[:, 0])
    sizes = [rows, columns, given.shape[-1], cores, ub_bytes]
    return Case([given, out], sizes, [(out, PAGES["silu_mul"].reference(x.flatten(1)))])


def norm(fault, rows=33, columns=200, cores=2, ub_bytes=24 << 10):
    dtype = DTYPES[fault.dtype]
    x, residual, weight = (torch.randn(*shape, dtype=dtype) for shape in ((rows, columns), (rows, columns), (columns,)))
    given = [padded(fault, tensor) for tensor in (x, residual, weight)]
    out, total = garbage(given[0]), garbage(given[0])
    sizes = [rows, columns, given[0].shape[-1], cores, ub_bytes]
    if fault.op == "rms_norm":
        return Case([given[0], given[2], out], sizes, [(out, PAGES["rms_norm"].reference(x, weight))])
    wanted = PAGES["add_rms_norm"].reference(x, residual, weight)
    return Case([*given, out, total], sizes, [(out, wanted[0]), (total, wanted[1])])


def rotary(fault, tokens=5, q_heads=3, k_heads=2, half=24, cores=2, ub_bytes=6 << 10):
    q, k = (torch.randn(tokens, heads, 2 * half, dtype=DTYPES[fault.dtype]) for heads in (q_heads, k_heads))
    cos, sin = torch.randn(tokens, half), torch.randn(tokens, half)
    outs = [garbage(q), garbage(k)]
    sizes = [tokens, q_heads, k_heads, half, cores, ub_bytes]
    return Case([q, k, cos, sin, *outs], sizes, [*zip(outs, PAGES["rotary"].reference(q, k, cos, sin))])


def moge_dispatch(fault, tokens=23, slots=4, experts=16, groups=2, columns=24, cores=3, ub_bytes=0):
    x = torch.randn(tokens, columns, dtype=torch.float16)
    size = experts // groups
    ids = torch.randint(0, size, (tokens, slots)) + torch.arange(slots) * groups // slots * size
    ids[torch.rand(tokens, slots) < 0.2] = -1  # masked
    ids = ids.to(torch.int32)
    wanted = PAGES["moge_dispatch"].reference(x, ids, experts, groups)
    given = padded(fault, x)
    given_ids = padded(fault, ids)
    rows = torch.full((tokens * slots, given.shape[1]), torch.nan, dtype=torch.float16)
    slot_rows, offsets = garbage(given_ids), garbage(padded(fault, wanted[2]))
    workspace = torch.full((2 * 40 * 2048,), -7, dtype=torch.int32)
    meetings = torch.zeros(40 * 8, dtype=torch.int32)
    sizes = [tokens, slots, experts, groups, given_ids.shape[1], given.shape[1] * 2, cores, ub_bytes]
    return Case([given, given_ids, rows, slot_rows, offsets, workspace, meetings], sizes,
                [*zip((rows, slot_rows, offsets), wanted)])  # fmt: skip


def moge_combine(fault, tokens=6, slots=3, columns=520, cores=2, ub_bytes=0, rows=20, addend=True):
    x, more = (torch.randn(count, columns, dtype=DTYPES[fault.dtype]) for count in (rows or 1, tokens))
    weights = torch.rand(tokens, slots)
    slot_rows = torch.randint(-1, rows or 0, (tokens, slots), dtype=torch.int32)
    wanted = PAGES["moge_combine"].reference(x, weights, slot_rows, more if addend else None)
    given = [padded(fault, tensor) for tensor in (x, weights.flatten(), slot_rows.flatten(), more)]
    out = garbage(given[3])
    given[3] = given[3] if addend else None
    sizes = [len(x), tokens, slots, columns, out.shape[1], cores, ub_bytes]
    return Case([*given, out], sizes, [(out, wanted)])


def moge_gating(fault, tokens=21, experts=50, groups=5, topk=2, bias=False, cores=3, ub_bytes=20 << 10):
    logits, *_, added = PAGES["moge_gating"].example(tokens, experts, groups, topk, DTYPES[fault.dtype], bias=True)[:5]
    score_function = "sigmoid" if bias else "softmax"
    wanted = PAGES["moge_gating"].reference(logits, groups, topk, score_function, added if bias else None)
    given = padded(fault, logits.view(tokens * groups, -1))
    weights, ids = (garbage(padded(fault, tensor)) for tensor in wanted)
    tensors = [given, padded(fault, added.view(groups, -1)) if bias else None, weights, ids]
    return Case(tensors, [tokens, experts, groups, topk, 0, cores, ub_bytes], [*zip((weights, ids), wanted)])


def spec_verify(fault, batch=1, nodes=5, vocabulary=2970, ahead=True, cores=3, ub_bytes=0):
    ids, parents, target, *_ = PAGES["spec_verify"].example(batch, nodes, vocabulary, DTYPES[fault.dtype], "greedy")
    ids = ids.to(torch.int32)
    wanted = PAGES["spec_verify"].reference(ids, parents, target, method="greedy")
    wanted = wanted[0], wanted[1][:, None], wanted[2]
    given = [padded(fault, tensor) for tensor in (ids, parents, target)]
    outs = [garbage(padded(fault, tensor)) for tensor in wanted]
    workspace = torch.zeros(1 << 14, dtype=torch.int32)
    strides = [tensor.shape[-1] for tensor in (given[0], given[2], outs[0], outs[2], outs[1])]
    sizes = [batch, nodes, vocabulary, ahead, *strides, cores, ub_bytes]
    return Case([*given, *outs, workspace], sizes, [*zip(outs, wanted)])


def spec_verify_sampling(fault, batch=1, vocabulary=2970, cores=3, ub_bytes=0, seed=5):
    """A tree of which several nodes are rejected."""
    made = PAGES["spec_verify"].example(batch, 8, vocabulary, tree=(-1, -1, -1, 0, 1, 2, -1, 2), seed=seed)
    ids, parents, target, probs, uniforms, *_ = made
    ids, uniforms = ids.to(torch.int32), 0.95 + 0.05 * uniforms
    wanted = PAGES["spec_verify"].reference(ids, parents, target, probs, uniforms)
    wanted = wanted[0], wanted[1][:, None], wanted[2]
    given = [padded(fault, tensor) for tensor in (ids, parents, target, probs, uniforms)]
    outs = [garbage(padded(fault, tensor)) for tensor in wanted]
    workspace = torch.zeros(1 << 14, dtype=torch.int32)
    strides = [tensor.shape[-1] for tensor in (given[0], given[4], given[2], outs[0], outs[2], outs[1])]
    sizes = [batch, 8, vocabulary, *strides, cores, ub_bytes]
    return Case([*given, *outs, workspace], sizes, [*zip(outs, wanted)])


def case(call, **sizes):
    return lambda fault: call(fault, **sizes)


# The sizes that options name; "" for all others.
CASES = {
    "silu_mul": {
        "": silu_mul,
        "one-tile": case(silu_mul, rows=1, columns=40),
        "whole": case(silu_mul, rows=300, columns=300, cores=1, ub_bytes=0),
        "uneven": case(silu_mul, rows=7, columns=300, cores=4),
    },
    "rms_norm": {"": norm, "chunks": case(norm, rows=3, columns=700, ub_bytes=5 << 10)},
    "add_rms_norm": {"": norm},
    "rotary": {"": rotary, "odd": case(rotary, half=21)},
    "moge_dispatch": {
        "": moge_dispatch,
        "exchange": case(moge_dispatch, tokens=300, experts=128, columns=16),
        "windows": case(moge_dispatch, tokens=20, slots=2, experts=2080),
        "long": case(moge_dispatch, tokens=300, slots=8, columns=16, cores=1),
        "wide": case(moge_dispatch, tokens=2, slots=2, columns=40000, cores=1),
    },
    "moge_combine": {
        "": moge_combine,
        "few": case(moge_combine, tokens=2, columns=40),
        "near": case(moge_combine, tokens=400, columns=16, cores=1),
        "masked": case(moge_combine, rows=0, addend=False),
    },
    "moge_gating": {"": moge_gating, "bias": case(moge_gating, bias=True)},
    "spec_verify": {
        "": spec_verify,
        "groups": case(spec_verify, batch=3, cores=6, vocabulary=1500, ahead=False),
        "many": case(spec_verify, batch=3, cores=1, vocabulary=1500, ub_bytes=40 << 10),
    },
    "spec_verify_sampling": {
        "": spec_verify_sampling,
        "groups": case(spec_verify_sampling, batch=3, cores=6, vocabulary=1500),
        "alone": case(spec_verify_sampling, batch=3, cores=1, ub_bytes=60 << 10),
    },
}


# ---- the tests ----

OPS = sorted(CASES)
TABLE = [fault for op in OPS for fault in faults_of(op)]
CLEAN = []  # each op as it is, in every way that a fault is looked for
for each in TABLE:
    plain = Fault(each.op, "as it is", options=(each.dtype, each.chip, each.case))
    if each.compiles and plain not in CLEAN:
        CLEAN.append(plain)
ALL = [fault for fault in CLEAN + TABLE if fault.compiles]


def source_of(chip):
    """The text of all versions for a chip, and what is wrong with those that there cannot be."""
    text, wrong = HEAD, {}
    for number, fault in enumerate(ALL):
        if fault.chip == chip:
            try:
                text += version(number, fault)
            except ValueError as error:
                wrong[number] = error
    return text, wrong


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")

    def build(chip):
        source = folder / f"faults_{chip}.cpp"
        text, wrong = source_of(chip)
        source.write_text(text)
        return ascendc.compile([source], chip, folder, options=["-O0"]), wrong

    return ascendc.for_every_chip(build)


def launch(kernels, fault, auto_sync):
    """The emulator's error, or None, and the results."""
    (library, wrong), number = kernels[fault.chip], ALL.index(fault)
    if number in wrong:
        raise wrong[number]
    torch.manual_seed(0)
    made = CASES[fault.op][fault.case](fault)
    outs = [out for out, _ in made.results]
    tensors = [ascendc.New(tensor) if any(tensor is out for out in outs) else tensor for tensor in made.tensors]
    library.options(auto_sync=auto_sync)
    if "again" in fault.options:  # after the op as it is, whose results still lie in the workspace
        before = next(i for i, other in enumerate(CLEAN) if other.op == fault.op and other.case == fault.case)
        getattr(library, f"fault_{before}")(*made.tensors, *made.sizes)
    try:
        getattr(library, f"fault_{number}")(*tensors, *made.sizes)
    except RuntimeError as error:
        return str(error), made.results
    return None, made.results


def is_right(results):
    """Whether results are the reference's: in a narrow type most to the bit, the others next to it."""
    for out, wanted in results:
        out = out.view(-1, out.shape[-1])[: wanted.numel(), : wanted.shape[-1]].reshape(wanted.shape)
        tolerance = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}.get(wanted.dtype, 0)
        if not torch.allclose(out.double(), wanted.double(), atol=tolerance * 1e-2, rtol=tolerance):
            return False
        if wanted.dtype.itemsize == 2 and (out != wanted).double().mean() > 0.05:
            return False
    return True


@pytest.mark.parametrize("auto_sync", [True, False], ids=["auto sync", "no auto sync"])
@pytest.mark.parametrize("fault", CLEAN, ids=lambda fault: " ".join([fault.op, *fault.options]))
def test_no_fault_is_found_where_there_is_none(kernels, fault, auto_sync):
    error, results = launch(kernels, fault, auto_sync)
    assert error is None
    assert is_right(results)


@pytest.mark.parametrize("fault", [fault for fault in TABLE if fault.compiles], ids=str)
def test_the_fault_is_found(kernels, fault):
    for auto_sync in (True, False):
        error, results = launch(kernels, fault, auto_sync)
        if fault.rule == "values":
            assert error is None
            assert not is_right(results)
        elif auto_sync and "off" in fault.options:
            assert error is None
            assert is_right(results)
        else:
            assert error is not None
            rule = fault.rule.split(" / ")[0 if auto_sync else -1]
            assert re.match(rf"{fault.op}\w*: (core \d+, .+|all cores) \[{rule}\]: .+, came .", error), error


@pytest.mark.parametrize("fault", [fault for fault in TABLE if not fault.compiles], ids=str)
def test_the_compiler_finds_the_fault(fault, tmp_path):
    source = tmp_path / "fault.cpp"
    source.write_text(HEAD + version(0, fault))
    with pytest.raises(RuntimeError, match=re.escape(fault.rule.removeprefix("compiler: "))):
        ascendc.compile([source], fault.chip, tmp_path, options=["-fsyntax-only"])
