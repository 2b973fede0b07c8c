"""The CUDA kernels without a GPU: the build's own rules compile them for every architecture, as where torch has CUDA.

What they compute is shown by the op tests, in emulation; here, that the emulator finds what goes wrong.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
TORCH = Path(torch.__file__).parent
NVCC = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def cuobjdump(*arguments):
    """The toolkit's, or the one that Triton brings."""
    found = shutil.which("cuobjdump") or shutil.which("/usr/local/cuda/bin/cuobjdump")
    if found is None:
        triton = pytest.importorskip("triton", reason="cuobjdump is not installed, nor Triton, which has one")
        found = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    return run(found, *arguments)


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """libpangu_cuda.so for a torch that is the one here and, for all that the build can see, has CUDA."""
    if NVCC is None:
        pytest.skip("nvcc is not installed")
    folder = tmp_path_factory.mktemp("cuda")
    root = folder / "torch"
    (root / "lib").mkdir(parents=True)
    (root / "include").symlink_to(TORCH / "include")
    (root / "lib/libtorch_cpu.so").symlink_to(TORCH / "lib/libtorch_cpu.so")
    (folder / "cuda.c").write_text("int aoti_torch_get_current_cuda_stream() { return 0; }")
    run("cc", "-shared", "-fPIC", folder / "cuda.c", "-o", root / "lib/libtorch_cuda.so")
    run("cmake", "-S", ROOT, "-B", folder / "build", "-G", "Ninja", f"-DTORCH_ROOT={root}")
    run("cmake", "--build", folder / "build", "--target", "pangu_cuda", "-j", "2")
    return folder / "build/lib/libpangu_cuda.so"


def test_no_kernel_keeps_registers_in_memory(library):
    told = cuobjdump("-res-usage", library)
    kernels = re.findall(r"REG:\d+ STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", told)
    assert len(kernels) > 50 and set(kernels) == {("0", "0")}


def test_there_is_code_for_every_architecture(library):
    listed = cuobjdump("-lelf", library) + cuobjdump("-lptx", library)
    assert set(re.findall(r"\.(sm_\d+a?)\.(cubin|ptx)", listed)) == {
        ("sm_80", "cubin"), ("sm_90a", "cubin"), ("sm_100", "cubin"),
        ("sm_80", "ptx"), ("sm_100", "ptx"),
    }  # fmt: skip


def test_it_needs_no_cuda_runtime_but_its_own(library):
    needed = re.findall(r"Shared library: \[(.*?)\]", run("readelf", "-d", library))
    assert "libtorch_cuda.so" in needed and not any("cudart" in name for name in needed)


FAULTS = r"""
#include <cstdio>
#include "cuda/emulator/builtins.h"
using namespace pangu::emulator;
static char key;

void run(int which) {
  auto& shared = pangu::emulator::shared<float, 32>(&key);
  int thread = threadIdx.x;
  if (which == 0 && thread < 16) __syncthreads();               // half of the block
  if (which == 1) __shfl_sync(0xffff, thread, 0);               // lanes outside of their mask
  if (which == 2) shared[thread + 1] = 1;                       // one past the end
  if (which == 3) thread < 7 ? __syncwarp() : __syncthreads();  // not at the same place
  if (which == 4) shared[thread] = 1;                           // nothing wrong
}

int main(int, char** arguments) {
  int which = arguments[1][0] - '0';
  try {
    Machine::get().run("faulty", {1, 1, 32, 1}, [&] { run(which); });
  } catch (const std::exception& error) {
    std::puts(error.what());
  }
}
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "faults.cpp").write_text(FAULTS)
    options = "-std=c++17", "-U_FORTIFY_SOURCE", "-Wno-unknown-pragmas", "-I", ROOT / "csrc"
    run("c++", *options, folder / "faults.cpp", "-o", folder / "faults")
    return folder / "faults"


@pytest.mark.parametrize(
    "which, message",
    [
        (0, "faulty: threads that wait for each other must be at the same place, came "),
        (1, "faulty: a collective must be called by lanes of its mask, came "),
        (2, "faulty: an index of a shared array must be below 32, came 32"),
        (3, "faulty: threads that wait for each other must be at the same place, came "),
        (4, ""),
    ],
)
def test_the_emulator_finds_what_hardware_leaves_undefined(faulty, which, message):
    said = run(faulty, str(which), timeout=20)
    assert said.startswith(message) and bool(said) == bool(message)
