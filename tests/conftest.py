import os

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


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    """Runs the test once per implementation of the ops on CPU tensors; skips those that cannot run here."""
    reason = missing(request.param)
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    with pangu_ops.use(request.param):
        yield request.param
