"""``pangu info``: versions, devices, and which implementation each op runs here and why not another one."""

import importlib.util
import os
import platform
from importlib import metadata
from pathlib import Path

import torch

import pangu_ops
from pangu_ops import npu, nvidia
from pangu_ops.backends import ASCEND_IMPLEMENTATIONS, GPU_IMPLEMENTATIONS, current, implementations, library
from pangu_ops.registry import PAGES, STRICT, has_kernel
from pangu_ops.schemas import OPS

ROOT = Path(__file__).parents[1]
DEVICES = {"CPU": "CPU", "CUDA": "CUDA", "NPU": "PrivateUse1"}  # device to dispatch key
ENVIRONMENT = {
    "PANGU_OPS_BATCH_INVARIANT": "1 gives a token the same bits whatever is beside it, on CPU in bfloat16 too",
    "PANGU_OPS_CPU_ISA": "the CPU implementation to run, instead of the best one",
    "PANGU_OPS_STRICT": "1 leaves out the reference, so that an op without a kernel fails",
}
LEGEND = {
    "kernel": "a native kernel is registered for that op and device",
    "triton": "its Triton kernel",
    "torch_npu": "composed of torch_npu's own operators",
    "reference": "plain torch: no native kernel is registered for that op and device",
    "missing": "no native kernel is registered, and PANGU_OPS_STRICT leaves the reference out",
}


def report():
    """What this installation runs, as lines of text; everything in it is read from what is registered."""
    blocks = (_versions(), _devices(), _environment(), _ops())
    return "\n\n".join("\n".join(block) for block in blocks)


def table():
    """The op x backend table of README.md, from the kernels in a checkout; it is the same on every machine."""
    ascend = "Ascend: compiled, verified in CPU emulation, not run on hardware"
    lines = [f"| op | reference | CPU (C++) | NVIDIA (Triton, CUDA) | {ascend} |", "|---|---|---|---|---|"]
    for op in OPS:
        composed = "torch_npu" if op in npu.COMPOSED else "-"
        on_npu = "AscendC" if _has_file(f"ascend_kernels/kernel/{op}.cpp") else composed
        cells = (
            op in PAGES,
            has_kernel(op, "CPU"),
            _has_file(f"triton_kernels/{op.removesuffix('_backward')}.py", f"csrc/cuda/{op}.cu"),
        )
        lines.append(f"| `{op}` | {' | '.join('yes' if cell else '-' for cell in cells)} | {on_npu} |")
    return "\n".join(lines)


def _has_file(*paths):
    return any((ROOT / path).exists() for path in paths)


def implementation(op, device):
    """What ``op`` runs on tensors of ``device`` here: the name of a CPU library, a word of LEGEND, or - for nothing."""
    if absent(device):
        return "-"
    if has_kernel(op, DEVICES[device]):
        if device == "CPU":
            return current()
        composed = {"CUDA": ("triton", nvidia.registered), "NPU": ("torch_npu", npu.registered)}
        name, ops = composed[device]
        return name if op in ops else "kernel"
    return "missing" if STRICT else "reference"


def absent(device):
    """Why no device of this kind can be used here; an empty string when one can."""
    if device == "CPU":
        return ""
    if device == "CUDA":
        if torch.version.cuda is None:
            return "torch was built without CUDA"
        return "" if torch.cuda.is_available() else "no device is visible"
    if importlib.util.find_spec("torch_npu") is None:
        return "torch_npu is not installed"
    return "" if hasattr(torch, "npu") and torch.npu.is_available() else "no device is visible"


def _versions():
    yield f"{'pangu_ops':12} {pangu_ops.__version__}"
    yield f"{'python':12} {platform.python_version()}"
    yield f"{'torch':12} {torch.__version__}"
    owners = metadata.packages_distributions()
    for package in ("triton", "torch_npu"):
        yield f"{package:12} {metadata.version(owners[package][0]) if package in owners else 'not installed'}"


def _devices():
    yield f"{'CPU':12} {cpu_model()}, {os.cpu_count()} threads"
    for name, reason in implementations().items():
        for device, its in (("CUDA", GPU_IMPLEMENTATIONS), ("NPU", tuple(ASCEND_IMPLEMENTATIONS))):
            if name == its[0]:
                yield f"{device:12} {absent(device) or ', '.join(_device_names(device))}"
        emulated = name in ASCEND_IMPLEMENTATIONS or (name in GPU_IMPLEMENTATIONS and absent("CUDA"))
        can = "runs in emulation, for tests" if emulated else "can run"
        yield f"  {name:20} {'in use' if name == current() else reason or can}"
    if not absent("NPU") and not library("ascend").exists():
        yield f"  {'kernels':20} {library('ascend').name} was not built"


def _device_names(device):
    module = torch.cuda if device == "CUDA" else torch.npu
    return [module.get_device_name(index) for index in range(module.device_count())]


def cpu_model():
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def _environment():
    for name, meaning in ENVIRONMENT.items():
        yield f"{name:26} {os.environ.get(name, 'not set'):10} {meaning}"


def _ops():
    rows = [("op", *DEVICES)] + [(op, *(implementation(op, device) for device in DEVICES)) for op in OPS]
    for op, *cells in rows:
        yield f"{op:24}" + "".join(f"{cell:12}" for cell in cells).rstrip()
    yield ""
    shown = {cell for _, *cells in rows for cell in cells}
    for word, meaning in LEGEND.items():
        if word in shown:
            yield f"{word:12} {meaning}"
    if "-" in shown:
        yield f"{'-':12} " + "; ".join(f"{device}: {absent(device)}" for device in DEVICES if absent(device))
