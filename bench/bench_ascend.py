"""The AscendC kernels on the emulated 910B: how fast it emulates them, and by their counts what bounds them on a chip.

Nothing here was measured on a chip. What it moves and how often its vector units repeat are the least times; how long
the scalar unit takes for an access nobody tells, so that these are only counted.
"""

import pytest
import torch

import pangu_ops
from pangu_ops import ascend
from pangu_ops.backends import missing
from pangu_ops.registry import PAGES
from pangu_ops.testing.compare import as_tuple

# What is documented of a 910B: bytes a second of its memory, vector cores, and repeats of 256 bytes a second of each.
BANDWIDTH, CORES, REPEATS = 1.2e12, 40, 1.8e9
LANES = 64  # floats of a repeat
ROUNDS = 3
CASES = {
    "moge_gating": dict(T=512, E=64, G=8, k=1),
    "moge_dispatch": dict(T=512, H=5120, E=64, G=8, k=1),
    "moge_combine": dict(T=512, H=5120, E=64, G=8, k=1, addend=True),
    "rms_norm": dict(T=512, H=5120),
    "add_rms_norm": dict(T=512, H=5120),
    "rotary": dict(T=512, Hq=40, Hk=8, D=128),
    "silu_mul": dict(T=512, I=1344),
    "spec_verify": dict(T=4, N=4, V=153376),
}
pytestmark = pytest.mark.skipif(bool(missing("ascend_emulator")), reason=missing("ascend_emulator"))


@pytest.mark.parametrize("op", CASES)
def test_ascend(benchmark, op):
    args = PAGES[op].example(**CASES[op], dtype=torch.bfloat16)
    run = getattr(torch.ops.pangu, op)
    with pangu_ops.use("ascend_emulator"):
        results = as_tuple(run(*args))
        ascend.report()
        benchmark.pedantic(lambda: run(*args), rounds=ROUNDS)
        launches = ascend.report()
    seconds = benchmark.stats["median"]
    tensors = [tensor for tensor in (*args, *results) if isinstance(tensor, torch.Tensor)]
    least = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    moved = sum(launch["mte2_bytes"] + launch["mte3_bytes"] for launch in launches) / ROUNDS
    repeats = sum(launch["vector_repeats"] for launch in launches) / ROUNDS
    scalar = sum(launch["scalar_reads"] + launch["scalar_writes"] for launch in launches) / ROUNDS / CORES
    memory, vector = moved / BANDWIDTH, repeats / (CORES * REPEATS)
    emulated = repeats * LANES / seconds
    benchmark.extra_info.update(emulated=emulated, moved_of_least=moved / least, memory=memory, vector=vector)
    print(
        f"\n{op:14} emulated at {emulated / 1e6:4.0f} M elements/s; moves {moved / least:4.2f} of the least bytes: "
        f"memory {memory * 1e6:5.1f} us, vector units {vector * 1e6:5.1f} us on paper; "
        f"{scalar:.0f} scalar accesses a core",
        end=" ",
    )
