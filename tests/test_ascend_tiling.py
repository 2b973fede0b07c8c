"""The tilings of the Ascend kernels by themselves: for thousands of shapes, a tiling fits the chip, gives every core as
much as any other and leaves nothing out. A file in tests/ascend/tiling checks the op that it is named after."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPS = sorted(path.stem for path in (ROOT / "tests/ascend/tiling").glob("*.cpp"))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiling")
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler is installed")
    (folder / "tiling.cpp").write_text("".join(f'#include "ascend/tiling/{op}.cpp"\n' for op in OPS))
    options = "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"
    paths = "-I", ROOT / "ascend_kernels", "-I", ROOT / "tests"
    command = [compiler, *options, *paths, folder / "tiling.cpp", "-o", folder / "tiling.so"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "tiling.so"))


def test_every_tiling_is_tested():
    tilings = {path.stem for path in (ROOT / "ascend_kernels/host").glob("*.cpp")}
    assert tilings <= set(OPS)


@pytest.mark.parametrize("op", OPS)
def test_tiling(library, op):
    check = getattr(library, f"check_{op}")
    check.restype = ctypes.c_char_p
    assert check(ctypes.c_uint64(0), 3000).decode() == ""
