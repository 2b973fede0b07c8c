"""AscendC sources as they are, compiled against the emulator and called with tensors.

``kernels = compile([file], "910b", folder)`` gives an object whose attributes are the host functions of those files,
those that launch with ``kernel<<<blocks, l2, stream>>>(arguments)``. They take tensors, which they read and write in
place, numbers (an int as an integer, a float as a float, what is of ctypes as it is), and None as a null pointer.
"""

import ctypes
import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
EMULATOR = ROOT / "ascend_kernels" / "emulator"
CHIPS = {"910b": 910, "310p": 310}
# As for the libraries of the package, but built in a hurry.
OPTIONS = ["-std=c++20", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-fno-gnu-unique", "-U_FORTIFY_SOURCE", "-w"]
LAUNCH = re.compile(r"([A-Za-z_][\w:#]*(?:<[^<>;(){}]*>)?)\s*<<<(.*?)>>>\s*\(", re.S)


def compiler():
    """A C++ compiler that knows half-precision numbers, or None."""
    return shutil.which("g++") or shutil.which("c++")


def launches_as_calls(source):
    """The text of a source with ``kernel<<<blocks, l2, stream>>>(`` in words of C++."""

    def call(match):
        kernel, configuration = match.groups()
        pick = f"[&](auto... arguments) {{ {kernel}(arguments...); }}".replace("\n", " ")
        return f"::AscendC::emulator::launched({pick}, ASCENDC_TEXT({kernel}), {configuration})("

    return LAUNCH.sub(call, source)


def compile(sources, chip, folder, *, options=()):
    """Compile ``sources`` (paths) as one, for a chip of ``CHIPS``; ``folder`` gets what is built."""
    folder = Path(folder) / f"ascendc_{chip}"
    folder.mkdir(parents=True, exist_ok=True)
    includes, folders = ['#include "standalone.h"'], []
    for source in map(Path, sources):
        copy = folder / source.name
        copy.write_text(f'#line 1 "{source.name}"\n' + launches_as_calls(source.read_text(encoding="utf-8-sig")))
        includes.append(f'#include "{copy.name}"')
        folders.append(source.parent.resolve())
    (folder / "all.cpp").write_text("\n".join(includes) + "\n")
    quoted = [f"-iquote{place}" for place in dict.fromkeys(folders)]
    return Kernels(build([folder / "all.cpp"], chip, folder / "kernels.so", options=[*quoted, *options]))


def build(sources, chip, library, *, options=()):
    """The file of a library of ``sources`` as they are, with the emulator of a chip."""
    if not EMULATOR.exists():
        raise RuntimeError(f"ascendc: the package must be a checkout's, with the emulator beside it, came {ROOT}")
    if compiler() is None:
        raise RuntimeError("ascendc: a C++ compiler must be installed, came none")
    emulated = [f"-DPANGU_EMULATED={CHIPS[chip]}", f"-I{EMULATOR}"]
    command = [compiler(), *OPTIONS, *emulated, *options, *sources, "-o", library]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"ascendc: the kernels must compile, came {done.stderr}")
    return library


def for_every_chip(build):
    """``{chip: build(chip)}``, where compilers run beside each other."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(CHIPS, pool.map(build, CHIPS)))


class New:
    """A tensor that a kernel must write before it reads."""

    def __init__(self, tensor):
        self.tensor = tensor


class Kernels:
    """The host functions of a compiled library, by name."""

    def __init__(self, file):
        self._library = ctypes.CDLL(str(file))
        self._library.pangu_ascend_finish.restype = ctypes.c_char_p
        self._library.pangu_ascend_report.restype = ctypes.c_char_p
        listed = subprocess.run(["nm", "-D", "--defined-only", file], text=True, capture_output=True, check=True).stdout
        mangled = [line.split()[-1] for line in listed.splitlines()]
        plain = subprocess.run(["c++filt"], input="\n".join(mangled), text=True, capture_output=True, check=True).stdout
        names = [name.split("(")[0] for name in plain.splitlines()]
        self._symbols = {
            name.split("::")[-1]: symbol
            for name, symbol in zip(names, mangled)
            if not re.search(r"\bstd::|AscendC::", name)
        }

    def __getattr__(self, name):
        if name.startswith("_") or name not in self._symbols:
            raise AttributeError(f"ascendc: no function is named {name}")
        function = self._library[self._symbols[name]]
        function.restype = None
        return lambda *arguments: self._call(function, arguments)

    def names(self):
        return list(self._symbols)

    def options(self, auto_sync=True, strict=True):
        self._library.pangu_ascend_options(auto_sync, strict)

    def tiling_key(self, key):
        """What ``TILING_KEY_IS`` of op-def kernels is asked about from now on."""
        self._library.pangu_ascend_tiling_key(ctypes.c_uint64(key))

    def report(self):
        """What each launch since the last call did, as a list of dicts."""
        return json.loads(self._library.pangu_ascend_report())

    def _call(self, function, arguments):
        new = [isinstance(argument, New) for argument in arguments]
        arguments = [argument.tensor if isinstance(argument, New) else argument for argument in arguments]
        for index, argument in enumerate(arguments):
            if isinstance(argument, torch.Tensor):
                if not argument.is_contiguous() or argument.device.type != "cpu":
                    raise ValueError(f"ascendc: argument {index} must be a contiguous CPU tensor, came another")
                size = argument.numel() * argument.element_size()
                self._library.pangu_ascend_tensor(
                    ctypes.c_void_p(argument.data_ptr()), ctypes.c_int64(size), f"argument {index}".encode(), new[index]
                )
        function(*map(_as_c, arguments))
        if error := self._library.pangu_ascend_finish().decode():
            raise RuntimeError(error)


def _as_c(argument):
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if argument is None:
        return ctypes.c_void_p()
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    return argument
