"""The Triton kernels without a GPU: inside their buffers, and compiled for GPUs that are not here."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pangu_ops
from pangu_ops.nvidia import INTERPRETED, has_triton, missing_triton, triton_kernel
from pangu_ops.registry import PAGES
from pangu_ops.testing.compare import case_id, mismatch

pytestmark = pytest.mark.skipif(bool(missing_triton()), reason=missing_triton())
CASES = [(name, case) for name, page in PAGES.items() if has_triton(name) for case in page.cases]
DTYPES = ("float32", "bfloat16")  # float16 takes the way of bfloat16
DATA = Path(__file__).parent / "data"


class GuardBands(TorchDispatchMode):
    """Lays every new tensor between two bands of NaN (of integers: a number that indexes nothing) and fills it so."""

    BAND = 2048  # elements

    def __init__(self):
        super().__init__()
        self.wholes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        fresh = all(returned.alias_info is None for returned in func._schema.returns)
        return self.around(result, func) if fresh and isinstance(result, torch.Tensor) else result

    def around(self, tensor, func=None):
        if tensor.dtype == torch.bool or tensor.numel() == 0:
            return tensor
        filling = torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).min // 3
        span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
        whole = torch.full((span + 2 * self.BAND,), filling, dtype=tensor.dtype)
        inside = whole.as_strided(tensor.shape, tensor.stride(), self.BAND)
        if func is None or "empty" not in func.__name__:
            inside.copy_(tensor)
        self.wholes.append((whole, filling))
        return inside

    def intact(self):
        def holds(band, filling):
            return bool((band.isnan() if band.is_floating_point() else band == filling).all())

        ends = (slice(None, self.BAND), slice(-self.BAND, None))
        return all(holds(whole[end], filling) for whole, filling in self.wholes for end in ends)


@pytest.mark.skipif(not INTERPRETED, reason="the kernels run on the GPU, where compute-sanitizer sees more")
@pytest.mark.parametrize("name, case", CASES, ids=case_id)
def test_kernels_stay_inside_their_buffers(name, case):
    """A write outside shows in the bands, a read outside as NaN in the results."""
    args = PAGES[name].example(**case, dtype=torch.bfloat16)
    bands = GuardBands()
    args = tuple(bands.around(arg) if isinstance(arg, torch.Tensor) else arg for arg in args)
    with pangu_ops.use("triton"), bands:
        results = triton_kernel(name)(*args)
    assert bands.intact()
    assert not mismatch(PAGES[name], args, results)


def run_python(*arguments, **environment):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"} | environment
    return subprocess.Popen([sys.executable, *arguments], env=environment, text=True, stdout=-1, stderr=-1)


@pytest.fixture(scope="module")
def compiled():
    """What every kernel takes on every GPU, as `python -m pangu_ops.testing.aot` tells it."""
    from pangu_ops.testing.aot import GPUS

    runs = [run_python("-m", "pangu_ops.testing.aot", "--gpu", gpu, "--dtype", *DTYPES) for gpu in GPUS]
    rows = []
    for run in runs:
        out, errors = run.communicate()
        assert run.returncode == 0, errors
        rows += csv.DictReader(out.splitlines())
    return rows


def test_no_kernel_spills_or_takes_more_shared_memory_than_there_is(compiled):
    from pangu_ops.testing.aot import SHARED_LIMIT

    for row in compiled:
        assert int(row["stack"]) == 0, row
        assert int(row["shared"]) <= SHARED_LIMIT[row["gpu"]], row


def test_every_op_with_a_kernel_is_compiled(compiled):
    assert {row["op"] for row in compiled} == {name for name in PAGES if has_triton(name)}


def test_products_of_many_rows_use_the_tensor_cores(compiled):
    """In half precision: wgmma on Hopper, tcgen05 on Blackwell; with few rows both take the smaller instruction."""
    key = ("op", "case", "dtype", "launch", "kernel")
    products = {tuple(row[name] for name in key) for row in compiled if row["gpu"] == "sm_80" and row["mma"]}
    found = set()
    for row in compiled:
        if row["case"].startswith("prefill") and row["dtype"] != "float32" and tuple(row[k] for k in key) in products:
            assert row["mma"] == {"sm_80": "mma", "sm_90": "wgmma", "sm_100": "tcgen05"}[row["gpu"]], row
            found.add(row["op"])
    assert found == {"linear", "moge_experts", "moge_experts_backward", "moge_ffn", "attention", "attention_ffn"}


def test_resources_are_those_of_the_table(compiled):
    """Registers, shared memory and instructions change only with the table: another version has another one."""
    import triton

    path = DATA / f"triton-{triton.__version__}.csv"
    if not path.exists():
        pytest.skip(f"{path.name} must be there to compare with: python -m pangu_ops.testing.aot > {path.name}")
    wanted = [row for row in csv.DictReader(path.read_text().splitlines()) if row["dtype"] in DTYPES]
    assert sorted(map(str, compiled)) == sorted(map(str, wanted))


def test_import_neither_loads_triton_nor_asks_for_a_gpu():
    run = run_python("-c", "import sys, torch, pangu_ops; print('triton' in sys.modules, torch.cuda.is_initialized())")
    out, errors = run.communicate()
    assert out.split() == ["False", "False"], errors
