import hypothesis
import pytest

import pangu_ops
from pangu_ops.backends import IMPLEMENTATIONS, missing

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("pangu_ops", deadline=None)
hypothesis.settings.load_profile("pangu_ops")


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    """Runs the test once per implementation of the ops on CPU; skips those that cannot run here."""
    reason = missing(request.param)
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    with pangu_ops.use(request.param):
        yield request.param
