import contextlib
import os
from pathlib import Path

import hypothesis
import pytest
import torch

# Triton reads this once, when it is imported: without a GPU its kernels are interpreted.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pangu_ops  # noqa: E402
from pangu_ops.ascend import emulator_options  # noqa: E402
from pangu_ops.backends import ASCEND_IMPLEMENTATIONS, IMPLEMENTATIONS, missing, takes  # noqa: E402

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("pangu_ops", deadline=None)
hypothesis.settings.load_profile("pangu_ops")


def stems(pattern):
    return {path.stem for path in Path(__file__).parents[1].glob(pattern)}


# What is tested op by op: through an op that has no such kernel the reference would be tested again.
KERNELS = dict.fromkeys(ASCEND_IMPLEMENTATIONS, stems("ascend_kernels/kernel/*.cpp"))
if not torch.cuda.is_available():
    KERNELS["cuda"] = stems("csrc/cuda/*.cu")


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    """Runs the test once per implementation of the ops on CPU tensors; skips those that cannot run here."""
    reason = missing(request.param)
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    with pangu_ops.use(request.param), contextlib.ExitStack() as stack:
        if request.param in ASCEND_IMPLEMENTATIONS:  # what is right without the compiler's help is right with it
            stack.enter_context(emulator_options(auto_sync=False))
        yield request.param


@pytest.hookimpl(tryfirst=True)  # before marks are looked at
def pytest_collection_modifyitems(config, items):
    """Without a GPU its kernels are interpreted or emulated, and an NPU's always are: what would take long is marked,
    and what tests nothing left out.
    """

    def parameter(item, name):
        return item.callspec.params.get(name) if hasattr(item, "callspec") else None

    def tests_nothing(item):
        op = parameter(item, "name") or item.path.stem.removeprefix("test_")
        implementation = parameter(item, "implementation")
        return implementation in KERNELS and op not in KERNELS[implementation]

    for item in items if not torch.cuda.is_available() else ():
        interpreted = "triton" in (parameter(item, "implementation"), parameter(item, "native"))
        if interpreted and item.get_closest_marker("many_steps"):
            item.add_marker(pytest.mark.slow)
    config.hook.pytest_deselected(items=[item for item in items if tests_nothing(item)])
    items[:] = [item for item in items if not tests_nothing(item)]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A 310P has no bfloat16, and its kernels say so: that is the end of a test which needs it, on that chip only."""
    try:
        return (yield)
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        has_bfloat16 = takes(pyfuncitem.funcargs.get("implementation"), torch.bfloat16)
        if has_bfloat16 or not said.endswith(" on this chip, came bfloat16"):
            raise
        pytest.skip(said)
