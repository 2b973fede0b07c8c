"""The AscendC kernels in emulation: what their launches did, and how strict the emulator is.

Both are for tests: they speak of the library that :func:`pangu_ops.use` has put in place, as ``ascend_emulator`` (910B)
or ``ascend_emulator_310p``. What runs there was verified in CPU emulation, and no more than that.
"""

import contextlib
import ctypes
import json

from pangu_ops import backends


def report():
    """One dict per launch since the last call: kernel, blocks, bytes moved, instructions, warnings."""
    function = backends.emulator().pangu_ascend_report
    function.restype = ctypes.c_char_p
    return json.loads(function())


@contextlib.contextmanager
def emulator_options(auto_sync=True, strict=True):
    """Run the kernels under other rules until the block ends.

    ``auto_sync`` is the compiler's switch of that name: without it nothing but flags, barriers and queues orders the
    vector unit's instructions and the scalar unit's accesses. Not ``strict``, a warning of the report takes the place
    of the error where hardware silently does what nobody means, as DataCopy does when it rounds a count down.
    """
    set_options = backends.emulator().pangu_ascend_options
    before = set_options(int(auto_sync), int(strict))
    try:
        yield
    finally:
        set_options(before & 1, before >> 1)
