"""libpangu_ascend.so without an NPU: the build's own rules compile it against torch_npu's headers, and it is loaded as
on an NPU, where torch_npu and CANN are those of mock_npu/ and the kernels the emulator's.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from mock_npu import launches as cann

import pangu_ops
from pangu_ops.backends import library
from pangu_ops.schemas import OPS

ROOT = Path(__file__).parents[1]
MOCK = Path(__file__).parent / "mock_npu"
TORCH = Path(torch.__file__).parent
HEADERS = next(Path(sys.prefix).glob("torch_npu-*/torch_npu/include"), None)  # what `make test` fetches
EMULATED = "-DPANGU_EMULATED=910", "-ffp-contract=off", "-U_FORTIFY_SOURCE"  # as CMakeLists.txt compiles the emulator
# The environment's own first, as setup.py has it: it is on no PATH unless somebody has activated it.
CMAKE = shutil.which("cmake", path=sysconfig.get_path("scripts")) or "cmake"
NATIVE = [op for op in OPS if (ROOT / f"ascend_kernels/host/{op}.cpp").exists()]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compile_mock(to, source, flags=()):
    includes = [
        f"-isystem{folder}" for folder in (TORCH / "include", TORCH / "include/torch/csrc/api/include", HEADERS)
    ]
    options = "-std=c++20", "-O0", "-fPIC", "-shared", f"-Wl,-soname,{to.name}", "-Wl,--no-undefined", *includes
    libraries = "-L", TORCH / "lib", "-ltorch_cpu", "-lc10"
    run("c++", *options, source, "-o", to, *flags, *libraries)


def as_one(file, *sources):
    file.write_text("".join(f'#include "{source}"\n' for source in sources))
    return file


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with torch, torch_npu and CANN for all that the build can see, and what it builds there."""
    if HEADERS is None:
        pytest.skip("torch_npu's headers are not here: `make test` fetches them where there is a network")
    version = ".".join(torch.__version__.split(".")[:2])
    if not HEADERS.parents[1].name.startswith(f"torch_npu-{version}."):
        pytest.skip(f"{HEADERS.parents[1].name} is for another torch than {version}")
    if not library("ascend_910b").exists():
        pytest.skip(f"{library('ascend_910b').name} was not built: this compiler cannot compile the emulator")
    folder = tmp_path_factory.mktemp("npu")
    site, toolkit = folder / "site", folder / "cann"
    (site / "torch_npu").mkdir(parents=True)
    (site / "torch").symlink_to(TORCH)
    (site / "torch_npu/include").symlink_to(HEADERS)
    for lib in (toolkit / "lib64", site / "torch_npu/lib"):
        lib.mkdir(parents=True)
    emulated = "-I", ROOT / "ascend_kernels", "-I", ROOT / "ascend_kernels/emulator", *EMULATED
    compile_mock(toolkit / "lib64/libascendcl.so", MOCK / "acl.cpp", emulated)
    torch_npu = as_one(folder / "torch_npu.cpp", MOCK / "torch_npu.cpp", MOCK / "device.cpp")  # torch's headers once
    kernels = as_one(folder / "kernels.cpp", *sorted((ROOT / "ascend_kernels/kernel").glob("*.cpp")))
    text = run("c++", "-E", "-P", "-std=c++20", *emulated, kernels)
    (folder / "kernels.txt").write_text(text)
    with kernels.open("a") as file:
        file.write(cann.launches(text))
    with ThreadPoolExecutor() as pool:
        beside = pool.submit(compile_mock, toolkit / "lib64/libkernels.so", kernels, emulated)
        linked = "-L", toolkit / "lib64", "-lascendcl"
        compile_mock(site / "torch_npu/lib/libtorch_npu.so", torch_npu, linked)
        beside.result()
    for name in ("tiling_api", "register", "platform", "ascendalog"):  # which only CANN's own kernels need
        run("c++", "-shared", "-x", "c++", os.devnull, "-o", toolkit / f"lib64/lib{name}.so")
    (toolkit / "tools/tikcpp/ascendc_kernel_cmake").mkdir(parents=True)
    (toolkit / "tools/tikcpp/ascendc_kernel_cmake/ascendc.cmake").symlink_to(MOCK / "ascendc.cmake")
    (toolkit / "include").mkdir()
    environment = os.environ | {"ASCEND_HOME_PATH": str(toolkit), "MOCK_KERNELS": str(toolkit / "lib64/libkernels.so")}
    environment.pop("PANGU_SOC_VERSION", None)
    configure(folder, "-DCMAKE_BUILD_TYPE=None", env=environment)
    run(CMAKE, "--build", folder / "build", "--target", "pangu_ascend")
    return folder


def configure(folder, *options, **more):
    settings = "-G", "Unix Makefiles", f"-DTORCH_ROOT={folder / 'site/torch'}"
    return run(CMAKE, "-S", ROOT, "-B", folder / "build", *settings, *options, **more)


@pytest.fixture(scope="module")
def on_npu(built):
    """Runs Python code where the package finds libpangu_ascend.so among its libraries, and torch an NPU."""
    package = built / "package/pangu_ops"
    (package / "lib").mkdir(parents=True)
    for source, to in ((ROOT / "pangu_ops", package), (ROOT / "pangu_ops/lib", package / "lib")):
        for entry in source.iterdir():
            if entry.name not in ("lib", "libpangu_ascend.so"):
                (to / entry.name).symlink_to(entry)
    (package / "lib/libpangu_ascend.so").symlink_to(built / "build/lib/libpangu_ascend.so")
    libraries = built / "cann/lib64/libascendcl.so", built / "site/torch_npu/lib/libtorch_npu.so"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (package.parent, MOCK))),
        "MOCK_LIBRARIES": os.pathsep.join(map(str, libraries)),
        "LD_LIBRARY_PATH": str(built / "cann/lib64"),
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",  # no torch_npu but the mock
    }

    def python(code, soc="Ascend910B3"):
        return run(sys.executable, "-c", f"import start\n{code}", env=environment | {"MOCK_SOC": soc}, cwd=built)

    return python


def test_every_kernel_runs_through_the_queue(on_npu):
    """On the tensors' device and the stream that is current there, under the op's name, and nobody waits."""
    code = f"""
import torch
from pangu_ops import npu
from pangu_ops.registry import FLOATS, PAGES
from pangu_ops.testing.compare import as_tuple, mismatch
for name in {NATIVE}:
    page = PAGES[name]
    case = next(case for case in page.cases if case["T"] > 1)
    for dtype in FLOATS:
        args = page.example(**case, dtype=dtype)
        there = [arg.to("npu:1") if isinstance(arg, torch.Tensor) else arg for arg in args]
        start.calls()
        results = as_tuple(getattr(torch.ops.pangu, name)(*there))
        calls = start.calls()
        assert calls and set(calls) == {{"stream of npu:1", f"task {{name}} on npu:1"}}, (name, calls)
        assert all(result.device == torch.device("npu:1") for result in results)
        problem = mismatch(page, args, tuple(result.cpu() for result in results))
        assert not problem, (name, dtype, problem)
"""
    on_npu(code)


def test_tilings_said_again_are_the_same(built):
    """Plain C++17 without a namespace, as CANN's build compiles what it has of them."""
    text = (built / "kernels.txt").read_text()
    names, structs = cann.restated(text)
    assert {kind for parameters in cann.entries(text).values() for kind, _ in parameters} <= {"uint8_t*", *names}
    tilings = sorted((ROOT / "ascend_kernels/tiling").glob("*.h"))
    includes = "".join(f'#include "{tiling}"\n' for tiling in tilings)
    same = "".join(f"static_assert(sizeof({name}) == sizeof(pangu::ascend::{name}));\n" for name in names)
    (built / "tilings.cpp").write_text(includes + structs + same)
    run("c++", "-std=c++17", "-fsyntax-only", "-I", ROOT / "ascend_kernels", built / "tilings.cpp")


def test_what_is_refused_and_nothing_to_do_make_no_task(on_npu):
    code = """
import torch
from pangu_ops import silu_mul
for x in (torch.zeros(2, 5), torch.zeros(2, 4, dtype=torch.int32)):
    texts = []
    for device in ("cpu", "npu"):
        try:
            silu_mul(x.to(device))
        except RuntimeError as error:
            texts.append(str(error).splitlines()[0])
    assert len(texts) == 2 and texts[0] == texts[1], texts
assert silu_mul(torch.zeros(0, 8, device="npu")).shape == (0, 4)
assert start.calls() == []
"""
    on_npu(code)


CHIPS = [
    ("Ascend910_9392", ""),
    ("Ascend910B", "ascend: the chip must be an Ascend 910B, 910C or 310P, came Ascend910B"),
    ("Ascend310P3", "ascend: the kernels, built for Ascend910B1, must run on a chip of that family, came Ascend310P3"),
]


@pytest.mark.parametrize("soc, message", CHIPS)
def test_chips(on_npu, soc, message):
    code = """
import torch, pangu_ops
try:
    pangu_ops.silu_mul(torch.zeros(2, 8, device='npu'))
except RuntimeError as error:
    print(str(error).splitlines()[0])
"""
    assert on_npu(code, soc).strip() == message


def test_pangu_check_and_info(on_npu):
    ops = "silu_mul", "linear", "moge_experts", "attention"
    code = f"""
from pathlib import Path
from pangu_ops import backends, cli
assert cli.main(["check", "--device", "npu", *{ops}]) == 0
print("----")
assert cli.main(["info"]) == 0
print("----")
backends.LIBRARIES = Path("/nowhere")
assert cli.main(["info"]) == 0
"""
    checked, told, without = on_npu(code).split("----\n")
    assert [line.split()[-1] for line in checked.splitlines()] == ["ok"] * len(ops)
    assert "NPU          Ascend910B3" in told and "was not built" not in told
    runs = {line.split()[0]: line.split()[-1] for line in told.splitlines() if line.split(" ")[0] in OPS}
    assert runs["silu_mul"] == "kernel" and runs["moge_ffn"] == runs["attention"] == "torch_npu"
    assert f"  {'kernels':20} libpangu_ascend.so was not built" in without


def test_a_model_on_an_npu_says_what_it_says_on_a_cpu(on_npu):
    paths = [str(ROOT / "tests/data" / model) for model in ("embedded-tiny", "pro-moe-tiny")]
    here = [pangu_ops.generate(pangu_ops.load_model(path), [5, 6, 7], max_new_tokens=6) for path in paths]
    code = f"""
import pangu_ops
for path, here in zip({paths}, {here}):
    model = pangu_ops.load_model(path, "npu")
    assert model.embed.weight.device.type == "npu"
    assert pangu_ops.generate(model, [5, 6, 7], max_new_tokens=6) == here, path
"""
    on_npu(code)


def test_a_folder_that_is_no_cann_is_refused(built):
    environment = os.environ | {"ASCEND_HOME_PATH": "/nowhere"}
    with pytest.raises(AssertionError, match="ASCEND_HOME_PATH must name a CANN toolkit"):
        configure(built, "-B", built / "other", env=environment)
