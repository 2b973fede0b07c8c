import shutil

import pytest
import torch

import pangu_ops
from pangu_ops import backends


def test_use_is_scoped_and_comes_back_after_an_error():
    before = backends.current()
    with pytest.raises(KeyError), pangu_ops.use("reference"):
        assert backends.current() == "reference"
        raise KeyError
    assert backends.current() == before


def test_an_unknown_implementation_is_named_with_those_known():
    known = "reference, generic, avx2, avx512, avx512bf16, amx, triton, cuda, ascend_emulator, ascend_emulator_310p"
    with pytest.raises(ValueError, match=f"implementation must be one of {known}, came fast"), pangu_ops.use("fast"):
        pass


def test_a_broken_library_leaves_the_one_in_use(monkeypatch, tmp_path):
    """A truncated library is refused in one sentence, and the kernels in use stay."""
    before = backends.current()
    if before in ("reference", "generic"):
        pytest.skip(f"the {before} kernels are in use, so there is no other library to break")
    shutil.copy(backends.library(before), tmp_path)
    monkeypatch.setattr(backends, "LIBRARIES", tmp_path)
    backends.library("generic").write_bytes(b"\x7fELF")
    with pytest.raises(RuntimeError, match="libpangu_generic.so must be a library for this torch, came: "):
        with pangu_ops.use("generic"):
            pass
    assert backends.current() == before
    assert torch.equal(pangu_ops.rms_norm(torch.zeros(1, 2), torch.ones(2)), torch.zeros(1, 2))
