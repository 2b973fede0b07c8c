"""Builds the native kernels with cmake and ninja, or make; everything static about the package is in pyproject.toml."""

import hashlib
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ModuleNotFoundError:
    import setuptools

    sys.exit(f"pangu_ops: setuptools must be 77 or later, came {setuptools.__version__}")

ROOT = Path(__file__).resolve().parent
OLDEST_TORCH = (2, 10)
CHECKPOINTS = ("embedded", "pro_moe", "draft")


def find_torch():
    """The folder of the torch that the kernels will run with.

    It is searched for and never imported: pip's isolated build hides the environment's packages from ``sys.path``,
    and naming torch as a build requirement would fetch a second one.
    """
    # PREFIXES lacks the base's in a virtual environment that sees nothing outside itself, the user's site included
    user = [site.getusersitepackages()] if sys.base_prefix in site.PREFIXES else []
    found = PathFinder.find_spec("torch", [*sys.path, *site.getsitepackages(), *user])
    oldest = ".".join(map(str, OLDEST_TORCH))
    if found is None or found.origin is None:
        sys.exit(f"pangu_ops: torch {oldest} or later must be installed in {sys.prefix} before this package, came none")
    folder = Path(found.origin).parent
    version = re.search(r"__version__ = '(\d+)\.(\d+)", (folder / "version.py").read_text())
    if version is None or tuple(map(int, version.groups())) < OLDEST_TORCH:
        came = ".".join(version.groups()) if version else "a version that cannot be read"
        sys.exit(f"pangu_ops: torch must be {oldest} or later, came {came} in {folder}")
    return folder


def find_compiler():
    """The C++ compiler's command as a list: what CXX names, otherwise the first that is there."""
    named = os.environ.get("CXX", "").strip()
    for command in [named] if named else ["c++", "g++", "clang++"]:
        program, *options = shlex.split(command)
        if path := shutil.which(program):
            return [path, *options]
    sys.exit(f"pangu_ops: a C++ compiler must be installed, came {f'CXX={named}, not found' if named else 'none'}")


def find_tool(name):
    # The environment's own first: a build by another version of cmake compiles everything again.
    path = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    return path or sys.exit(f"pangu_ops: {name} must be installed (pip install {name}), came none")


# Looked for before anything is built, and so before pip fetches what the package depends on.
TORCH, COMPILER = find_torch(), find_compiler()


def build_kernels():
    """Build every library that this compiler can build; returns their paths."""
    # CANN's rules for its kernels know make alone, which by itself does one thing at a time.
    generator, tool = ("Unix Makefiles", "make") if "ASCEND_HOME_PATH" in os.environ else ("Ninja", "ninja")
    cmake, program = find_tool("cmake"), find_tool(tool)
    # A folder per compiler: cmake forgets everything it was told when that changes.
    key = " ".join([*COMPILER, *([tool] if tool == "make" else [])])
    folder = ROOT / "build" / f"cmake-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    wanted = os.environ.get("MAX_JOBS") or (str(os.cpu_count()) if tool == "make" else "")
    jobs = ["-j", wanted] if wanted else []
    configure = [
        cmake, "-S", ROOT, "-B", folder, "-G", generator,
        f"-DCMAKE_MAKE_PROGRAM={program}",
        f"-DCMAKE_CXX_COMPILER={';'.join(COMPILER)}",
        f"-DTORCH_ROOT={TORCH}",
    ]  # fmt: skip
    for step in (configure, [cmake, "--build", folder, *jobs]):
        if subprocess.run(step).returncode:
            sys.exit("pangu_ops: the native kernels must compile, came the errors of cmake above")
    return sorted((folder / "lib").glob("*.so"))


class BuildKernels(build_ext):
    """Puts the libraries into ``pangu_ops/lib``: the checkout's for an editable install, otherwise the wheel's."""

    def run(self):
        folder = (ROOT if self.inplace else Path(self.build_lib)) / "pangu_ops" / "lib"
        folder.mkdir(parents=True, exist_ok=True)
        libraries = build_kernels()
        self.copied = [folder / library.name for library in libraries]
        for library, copy in zip(libraries, self.copied, strict=True):
            # A process may have the old library mapped: it keeps its file, and no one sees half a new one.
            shutil.copy2(library, copy.with_suffix(".new"))
            os.replace(copy.with_suffix(".new"), copy)
        for stale in set(folder.glob("*.so")) - set(self.copied):
            stale.unlink()

    def get_outputs(self):
        return [str(copy) for copy in self.copied]

    def get_output_mapping(self):
        return {}


class Wheel(bdist_wheel):
    """The libraries use torch's stable ABI and nothing of Python's: one wheel per platform serves every Python 3."""

    def run(self):
        # What an earlier build left there would be packed too.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(
    packages=[*find_packages(include=["pangu_ops*"]), "pangu_ops.triton_kernels"],
    # A top-level package named triton_kernels would shadow OpenAI's.
    package_dir={"pangu_ops.triton_kernels": "triton_kernels"},
    package_data={"pangu_ops": [*(f"checkpoints/{name}/*" for name in CHECKPOINTS), "thinking/difficulty.json"]},
    ext_modules=[Extension("pangu_ops.lib", sources=[])],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
