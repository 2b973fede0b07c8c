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


@pytest.hookimpl(tryfirst=True)  # before marks are looked at
def pytest_collection_modifyitems(config, items):
    """Without a GPU its kernels are interpreted or emulated: what would take long is marked, and what tests nothing
    left out. CUDA's are tested op by op: through ops that have none the reference would be tested again.
    """

    def parameter(item, name):
        return item.callspec.params.get(name) if hasattr(item, "callspec") else None

    def tests_nothing(item):
        op = parameter(item, "name") or item.path.stem.removeprefix("test_")
        return parameter(item, "implementation") == "cuda" and op not in IN_CUDA

    if torch.cuda.is_available():
        return
    for item in items:
        interpreted = "triton" in (parameter(item, "implementation"), parameter(item, "native"))
        if interpreted and item.get_closest_marker("many_steps"):
            item.add_marker(pytest.mark.slow)
    config.hook.pytest_deselected(items=[item for item in items if tests_nothing(item)])
    items[:] = [item for item in items if not tests_nothing(item)]
