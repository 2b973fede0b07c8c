"""What spec_verify's Ascend kernel does in the place of float64: integers on the scalar unit, two floats on the other.

Files of tests/ascend compare each with the host's float64, bit for bit: half units, their neighbours, what cancels.
"""

import ctypes

import pytest

from pangu_ops.testing import ascendc

VOCABULARY, TILE = 153376, 1024


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("residual")
    if ascendc.compiler() is None:
        pytest.skip("no C++ compiler is installed")
    sources = [ascendc.ROOT / "tests/ascend" / name for name in ("residual.cpp", "real.cpp")]

    def build(chip):
        options = [f"-I{ascendc.EMULATOR.parent}"]
        library = ctypes.CDLL(str(ascendc.build(sources, chip, folder / f"{chip}.so", options=options)))
        library.check_real.restype = library.check_residual.restype = ctypes.c_char_p
        return library

    return ascendc.for_every_chip(build)


@pytest.fixture(scope="module", params=ascendc.CHIPS)
def library(request, libraries):
    return libraries[request.param]


def test_float64_by_integers(library):
    assert library.check_real(ctypes.c_uint64(0), 200_000) == b""


@pytest.mark.parametrize("auto_sync", [True, False])
def test_units_of_tiles(library, auto_sync):
    library.pangu_ascend_options(auto_sync, True)
    assert library.check_residual(ctypes.c_uint64(1), 1500, ctypes.byref(ctypes.c_int64()), False) == b""


def test_few_elements_of_distributions_are_doubtful(library):
    """The scalar unit takes long for one; sums of 1 leave it a handful of a vocabulary."""
    doubtful, count = ctypes.c_int64(), 300
    assert library.check_residual(ctypes.c_uint64(2), count, ctypes.byref(doubtful), True) == b""
    assert doubtful.value * VOCABULARY < 10 * count * TILE
