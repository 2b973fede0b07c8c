"""Which implementation an op runs, and how to choose another one.

On CPU there is one library of native kernels per instruction set; the best that this machine runs is loaded when
the package is imported, and registers its kernels by itself. The kernels for NVIDIA GPUs are registered beside it
(nvidia.py), and can be put in its place: on the GPU, or without one in emulation. Those for Ascend NPUs are too, where
torch has loaded torch_npu (npu.py); in its place they run in an emulation of either chip (ascend.py).
"""

import _ctypes
import contextlib
import ctypes
import os
import platform
import sys
from pathlib import Path

import torch

from pangu_ops import npu, nvidia
from pangu_ops.registry import STRICT

LIBRARIES = Path(__file__).parent / "lib"
# From the slowest to the fastest, with the /proc/cpuinfo flags that each needs.
CPU_FLAGS = {
    "generic": (),
    "avx2": ("avx2", "fma", "f16c"),
    "avx512": ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2", "fma", "f16c"),
    "avx512bf16": ("avx512_bf16", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2", "fma", "f16c"),
    "amx": ("amx_tile", "amx_bf16", "avx512_bf16", "avx512f", "avx512bw", "avx512vl", "avx512dq", "fma", "f16c"),
}
# What ops on CPU tensors can run through; a GPU's are for tests and comparisons.
GPU_IMPLEMENTATIONS = ("triton", "cuda")
# The AscendC kernels in emulation, with the library of each chip.
ASCEND_IMPLEMENTATIONS = {"ascend_emulator": "ascend_910b", "ascend_emulator_310p": "ascend_310p"}
IMPLEMENTATIONS = ("reference", *CPU_FLAGS, *GPU_IMPLEMENTATIONS, *ASCEND_IMPLEMENTATIONS)

_loaded = None  # (implementation, its library) in use; None is the reference
_invariant = os.environ.get("PANGU_OPS_BATCH_INVARIANT", "0") not in ("", "0")


def library(isa):
    return LIBRARIES / f"libpangu_{isa}.so"


def missing(name):
    """Why implementation ``name`` cannot run here, even in emulation; an empty string when it can."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"implementation must be one of {', '.join(IMPLEMENTATIONS)}, came {name}")
    if name == "reference":
        return "left out by PANGU_OPS_STRICT" if STRICT else ""
    if name in GPU_IMPLEMENTATIONS:
        if name == "cuda" and not torch.cuda.is_available():
            return "" if library("cuda_emulated").exists() else f"{library('cuda_emulated').name} was not built"
        return nvidia.missing(name)
    if name in ASCEND_IMPLEMENTATIONS:
        file = library(ASCEND_IMPLEMENTATIONS[name])
        return "" if file.exists() else f"{file.name} was not built"
    present = _cpu_flags()
    absent = [flag for flag in CPU_FLAGS[name] if flag not in present]
    if absent:
        return f"this CPU has no {', '.join(absent)}"
    if not library(name).exists():
        return f"{library(name).name} was not built"
    if name == "amx" and not _ask_for_tiles():
        return "the kernel refuses the use of AMX tiles"
    return ""


def implementations():
    """Name of each implementation to the reason why it cannot run here (an empty string when it can)."""
    return {name: missing(name) for name in IMPLEMENTATIONS}


def takes(name, dtype):
    """Whether implementation ``name`` computes in ``dtype``: a 310P has no bfloat16, and its ops refuse it."""
    return name != "ascend_emulator_310p" or dtype != torch.bfloat16


def current():
    """The name of the implementation that ops on CPU tensors run now."""
    return _loaded[0] if _loaded else "reference"


@contextlib.contextmanager
def use(name):
    """Run ops on CPU tensors through implementation ``name``: out of ``IMPLEMENTATIONS``.

    The choice holds for the whole process until the block ends; it is meant for tests and comparisons.
    """
    _require(name, "use")
    before = current()
    try:
        _switch(name)
        yield
    finally:
        _switch(before)


@contextlib.contextmanager
def batch_invariant(enabled=True):
    """Give a token the same bits whatever the number of tokens, of an expert's rows and of sequences beside it.

    In float32 and float16 the native CPU kernels always do, as long as all values are finite; in bfloat16 those of
    ``avx512bf16`` and ``amx`` sum in another order from a few tokens on, unless this mode is on. One token takes no
    longer in it, many do. On NVIDIA GPUs, of the ops whose pages speak of it, only this mode does, in which few tokens
    take longer too. The reference makes no such promise: torch's own products sum in another order for other
    shapes.

    The choice holds for the whole process until the block ends, whichever library :func:`use` names in between;
    PANGU_OPS_BATCH_INVARIANT=1 makes it for good.
    """
    before = _invariant
    try:
        _set_invariant(enabled)
        yield
    finally:
        _set_invariant(before)


def is_batch_invariant():
    """Whether :func:`batch_invariant` holds now."""
    return _invariant


def load():
    """Load the best native kernels for this CPU, or those that PANGU_OPS_CPU_ISA names."""
    wanted = os.environ.get("PANGU_OPS_CPU_ISA")
    if wanted:
        if wanted not in ("reference", *CPU_FLAGS):
            raise ValueError(f"PANGU_OPS_CPU_ISA must be one of reference, {', '.join(CPU_FLAGS)}, came {wanted}")
        _require(wanted, "PANGU_OPS_CPU_ISA")
    else:
        wanted = ["reference", *(isa for isa in CPU_FLAGS if not missing(isa))][-1]
    _switch(wanted)
    if library("cuda").exists():
        NativeLibrary(library("cuda"))  # for as long as the process
    nvidia.register()
    if library("ascend").exists() and "torch_npu" in sys.modules:  # it needs that one's libraries
        NativeLibrary(library("ascend"))
    npu.register()


def _require(name, who):
    reason = missing(name)
    if reason:
        raise RuntimeError(f"{who}: {name} must be able to run here, came: {reason}")


def _switch(name):
    """Take the registrations of the kernels in use away and bring in those of ``name``."""
    global _loaded
    if _loaded is not None:
        _loaded[1].unload()
        _loaded = None
    if name in CPU_FLAGS:
        _loaded = (name, NativeLibrary(library(name)))
        _set_invariant(_invariant)
    elif name in ASCEND_IMPLEMENTATIONS:
        _loaded = (name, NativeLibrary(library(ASCEND_IMPLEMENTATIONS[name])))
    elif name == "cuda" and not torch.cuda.is_available():
        _loaded = (name, NativeLibrary(library("cuda_emulated")))
    elif name != "reference":
        _loaded = (name, nvidia.OnCpuTensors(name))


def emulator():
    """The functions of the library of AscendC kernels in use."""
    if current() not in ASCEND_IMPLEMENTATIONS:
        wanted = " or ".join(ASCEND_IMPLEMENTATIONS)
        raise RuntimeError(f"ascend: the implementation in use must be {wanted}, came {current()}")
    return _loaded[1].functions


class NativeLibrary:
    """A library of native kernels; its static objects register them when it is loaded and deregister them later."""

    def __init__(self, file):
        try:
            self.functions = ctypes.CDLL(str(file))
        except OSError as error:
            raise RuntimeError(f"pangu_ops: {file.name} must be a library for this torch, came: {error}") from None

    def unload(self):
        _ctypes.dlclose(self.functions._handle)


def _set_invariant(enabled):
    global _invariant
    _invariant = bool(enabled)
    if current() in CPU_FLAGS:
        _loaded[1].functions.pangu_set_batch_invariant(_invariant)


def _cpu_flags():
    if platform.machine() not in ("x86_64", "AMD64") or not os.path.exists("/proc/cpuinfo"):
        return ()
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), ())


def _ask_for_tiles():
    """Linux grants the tile registers on request: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)."""
    return ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0


load()
