"""``python -m pangu_ops.testing.aot``: compile the Triton kernels for GPUs that are not here, and list what each takes.

Each op is launched with the released models' sizes exactly as on the GPU, but Triton is given a driver that only
names it: kernels are specialised and compiled to machine code, and never run.
"""

import argparse
import csv
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from pangu_ops.nvidia import INTERPRETED, triton_kernel
from pangu_ops.registry import PAGES
from pangu_ops.triton_kernels.launch import Gpu, compiling, pretending

GPUS = {"sm_80": Gpu(80, 108), "sm_90": Gpu(90, 132), "sm_100": Gpu(100, 148)}
SHARED_LIMIT = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}  # bytes that a block can have
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What is launched of each op: the sizes of Pangu Pro MoE, of Pangu Embedded 7B for dense blocks, at decode and prefill.
# Fewer experts than it has: only their sizes choose kernels.
EMBEDDED = dict(H=4096, Hq=32, Hk=8, D=128, I=12800, block=128)
# as many tiles as on each multiprocessor of a GPU with all 64 experts, or more
FEWER = dict(H=2304, E=16, G=8, k=1, I=1344)
EXPERTS = {"decode": dict(T=1, **FEWER), "batch": dict(T=16, **FEWER), "prefill": dict(T=512, **FEWER)}
SHAPES = {
    "moge_gating": {
        "decode": dict(T=1, E=64, G=8, k=1, scale=True),
        "prefill": dict(T=4096, E=64, G=8, k=1, scale=True),
    },
    "moge_dispatch": {"decode": dict(T=1, H=5120, E=64, G=8, k=1), "prefill": dict(T=4096, H=5120, E=64, G=8, k=1)},
    "moge_combine": {"decode": dict(T=1, H=5120, E=64, G=8, k=1), "prefill": dict(T=4096, H=5120, E=64, G=8, k=1)},
    "moge_combine_backward": {"prefill": dict(T=4096, H=5120, E=64, G=8, k=1)},
    "moge_experts": EXPERTS,
    "moge_experts_backward": {"prefill": EXPERTS["prefill"]},
    "moge_ffn": EXPERTS,
    "linear": {
        "decode": dict(T=1, H=5120, N=5120),
        "batch": dict(T=64, H=5120, N=5120),
        "prefill": dict(T=1024, H=5120, N=5120),
    },
    "rms_norm": {"decode": dict(T=1, H=5120)},
    "add_rms_norm": {"decode": dict(T=1, H=5120)},
    "rotary": {"decode": dict(T=1, Hq=40, Hk=8, D=128)},
    "silu_mul": {"decode": dict(T=1, I=1344)},
    "attention": {
        "decode": dict(T=1, Hq=40, Hk=8, D=128, past=4096, block=128),
        "draft": dict(T=24, Hq=40, Hk=8, D=128, B=4, past=1024, block=128),
        "prefill": dict(T=512, Hq=40, Hk=8, D=128, B=2, past=100, block=128),
    },
    "attention_ffn": {
        "decode": dict(T=1, **EMBEDDED, past=1024),
        "batch": dict(T=48, **EMBEDDED, B=48, past=100),
        "prefill": dict(T=1024, **EMBEDDED),
    },
    "spec_verify": {
        "block": dict(T=1, N=4, V=153376, method="block"),
        "greedy": dict(T=1, N=4, V=153376, method="greedy"),
        "tree": dict(T=1, N=8, V=153376, tree=(-1, -1, 0, 0, 1, 2, -1, 2)),
        "typical": dict(T=1, N=8, V=153376, method="typical"),
        "batch": dict(T=8, N=4, V=153376),
    },
    "sampling_probs": {"decode": dict(T=1, V=153376), "batch": dict(T=64, V=153376)},
}
COLUMNS = ("op", "case", "dtype", "gpu", "launch", "kernel", "warps", "registers", "shared", "stack", "mma")
MMA = {"wgmma.mma_async": "wgmma", "tcgen05.mma": "tcgen05", "mma.sync": "mma"}  # PTX instruction to name


class NamesTheGpu:
    """What Triton asks of a driver before it has to run something."""

    def __init__(self, gpu):
        self.gpu = gpu

    def get_current_device(self):
        return self.gpu.arch  # kernels are kept by device

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", self.gpu.arch, 32)


def rows(op, gpu, dtypes=DTYPES):
    """One dict of COLUMNS for each kernel that the op launches on that GPU."""
    for case, sizes in SHAPES[op].items():
        for dtype in dtypes:
            with mock.patch.object(torch, "randn", zeros), mock.patch.object(torch, "rand", zeros):
                args = PAGES[op].example(**sizes, dtype=DTYPES[dtype])
            driver.set_active(NamesTheGpu(GPUS[gpu]))
            with pretending(GPUS[gpu]), compiling() as compiled:
                triton_kernel(op)(*args)
            for index, kernel in enumerate(compiled):
                values = op, case, dtype, gpu, index, kernel.metadata.name, kernel.metadata.num_warps
                yield dict(zip(COLUMNS, (*values, *resources(kernel))))


def zeros(*shape, generator=None):
    """In the place of random numbers, which nobody will read and which take long to draw."""
    return torch.zeros(*shape)


def resources(kernel):
    """Registers of a thread, shared memory of a block, local memory of a thread (spills), matrix instruction."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        told = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.findall(rf"{name}:(\d+)", told)[-1]) for name in ("REG", "STACK", "LOCAL"))
    mma = next((name for text, name in MMA.items() if text in kernel.asm["ptx"]), "")
    return registers, kernel.metadata.shared, stack + local, mma


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m pangu_ops.testing.aot", description=__doc__.split("\n")[0])
    parser.add_argument("op", nargs="*", help="only these ops")
    parser.add_argument("--gpu", nargs="*", choices=GPUS, default=list(GPUS))
    parser.add_argument("--dtype", nargs="*", choices=DTYPES, default=list(DTYPES))
    args = parser.parse_args(argv)
    if INTERPRETED:
        raise SystemExit("aot: TRITON_INTERPRET must not be set, came 1")
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for op in args.op or SHAPES:
        for gpu in args.gpu:
            writer.writerows(rows(op, gpu, args.dtype))
    return 0


if __name__ == "__main__":
    sys.exit(main())
