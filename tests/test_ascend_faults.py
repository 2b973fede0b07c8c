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
from ascend.fault_cases import CALLS, CASES, DTYPES

from pangu_ops.testing import ascendc

KERNELS = ascendc.ROOT / "ascend_kernels"
FAULTS = ascendc.ROOT / "tests/ascend/faults"

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
