import os
from pathlib import Path

import hypothesis
import pytest
import torch

# Triton reads this once, when it is imported: without a GPU its kernels are interpreted.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pangu_ops  # noqa: E402
from pangu_ops.backends import IMPLEMENTATIONS, missing  # noqa: E402

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("pangu_ops", deadline=None)
hypothesis.settings.load_profile("pangu_ops")

IN_CUDA = {path.stem for path in (Path(__file__).parents[1] / "csrc/cuda").glob("*.cu")}


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    """Runs the test once per implementation of the ops on CPU tensors; skips those that cannot run here."""
    reason = missing(request.param)
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    with pangu_ops.use(request.param):
        yield request.param


def pytest_collection_modifyitems(config, items):
    """In emulation, CUDA's kernels are tested op by op: ops that have none would run the reference again."""

    def tests_nothing(item):
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        op = parameters.get("name", item.path.stem.removeprefix("test_"))
        return parameters.get("implementation") == "cuda" and op not in IN_CUDA

    if not torch.cuda.is_available():
        config.hook.pytest_deselected(items=[item for item in items if tests_nothing(item)])
        items[:] = [item for item in items if not tests_nothing(item)]
