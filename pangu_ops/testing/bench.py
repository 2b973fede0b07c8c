"""`pangu bench`: what a bench file measures, and one line for each shape.

A bench file (bench/bench_<op>.py) holds ``contests()``: our call, its rivals and the bytes or operations counted.
pytest-benchmark runs the same files (`make bench`).
"""

import argparse
import contextlib
import importlib.util
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pangu_ops import backends
from pangu_ops.info import absent, cpu_model
from pangu_ops.testing import gpu_timing, timing

DEVICE = "cpu" if absent("CUDA") else "cuda"  # where bench files make their tensors, and what is timed
FOLDER = Path(__file__).parents[2] / "bench"
# Largest difference between ours and a rival's result, over the root mean square: rivals round to bfloat16 after
# every step. It tells a wrong result from a right one; how right ours is, the tests say.
AGREEMENT = 0.2


@dataclass
class Contest:
    """One shape of one op. ``prepare()`` returns our call and a dict of rivals; all must agree before any is timed."""

    name: str
    prepare: object
    bytes: int = 0  # read and written once
    flops: int = 0
    exact: bool = False
    budget: float = 2.0
    limit: str = "copy"  # what the rate is compared with: this machine's copy or read bandwidth
    results: dict = field(default_factory=dict)

    def __str__(self):
        return self.name

    def run(self):
        """Check, time everything in turn, and keep ``results``: medians in seconds by name."""
        timing.keep_memory()
        with torch.inference_mode(), place():
            ours, rivals = self.prepare()
            result = ours()
            for name, rival in rivals.items():
                self.compare(name, result, rival())
            del result
            candidates = {"pangu": ours, self.limit: clock().LIMITS[self.limit][0](), **rivals}
            budget = sizes(self.budget, self.budget / 8)  # a GPU's times vary little
            # cold is what is read from memory and not handed on by the kernel before: weights and KV caches
            self.results = clock().medians(candidates, budget, cold=self.limit == "read")
        return self

    def compare(self, name, ours, theirs):
        for a, b in zip(*(value if isinstance(value, tuple) else (value,) for value in (ours, theirs))):
            if self.exact:
                assert torch.equal(a, b), f"{self.name}: pangu and {name} must agree bit for bit"
            else:
                error = (a.float() - b.float()).abs().max() / b.float().square().mean().sqrt()
                assert error <= AGREEMENT, f"{self.name}: pangu and {name} must agree, differ by {error:.3g}"

    def benchmark(self, fixture):
        """The same under pytest-benchmark, with every ratio in the saved results."""
        self.run()
        fixture.extra_info.update({name: value / self.results["pangu"] for name, value in self.results.items()})
        print(f"\n{self.line()}", end=" ")
        with torch.inference_mode(), place():
            ours, _ = self.prepare()
            fixture.pedantic(ours, rounds=5, warmup_rounds=1)

    def figures(self):
        """What was measured, by name: us, GB/s, TFLOP/s, their shares of this machine's limits, each rival's ratio."""
        spent = self.results["pangu"]
        found = {"us": spent * 1e6}
        if self.bytes:
            limit = clock().LIMITS[self.limit][1] / self.results[self.limit]
            found |= {"GB/s": self.bytes / spent / 1e9, f"of {self.limit}": self.bytes / spent / limit}
        if self.flops:
            found["TFLOP/s"] = self.flops / spent / 1e12
            if on_gpu():
                found["of matmul"] = self.flops / spent / gpu_timing.matmul_rate()
        rivals = {name: value for name, value in self.results.items() if name not in ("pangu", self.limit)}
        return found | {f"{name} x": value / spent for name, value in rivals.items()}

    def line(self):
        """us, GB/s or GFLOP/s, the share of this machine's limits, and how many times slower each rival is."""
        figures = self.figures()
        parts = [f"{self.name:38} {figures.pop('us'):10.1f} us"]
        for name, value in figures.items():
            if name.endswith(" x"):
                parts.append(f"{name[:-2]} {value:.2f}x")
            elif name.startswith("of "):
                parts[-1] += f" = {value:4.2f} {name}"
            elif name == "TFLOP/s" and not on_gpu():
                parts.append(f"{1e3 * value:6.1f} GFLOP/s")
            else:
                parts.append(f"{value:6.1f} {name}")
        return "  ".join(parts)


def on_gpu():
    return DEVICE == "cuda"


def place():
    """Where tensors are made for the time of the block; on CPU that is so anyway, and the context would cost time."""
    return torch.device(DEVICE) if on_gpu() else contextlib.nullcontext()


def sizes(cpu, gpu):
    """What to time: a GPU has other sizes where something changes."""
    return gpu if on_gpu() else cpu


def clock():
    return gpu_timing if on_gpu() else timing


def bench_files():
    """Op to file; empty where the package runs without its repository."""
    return {path.stem.removeprefix("bench_"): path for path in sorted(FOLDER.glob("bench_*.py"))}


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(argv=None):
    files = bench_files()
    parser = argparse.ArgumentParser(prog="pangu bench", description="time ops beside their rivals, one line a shape")
    parser.add_argument("op", nargs="*", help=f"out of {', '.join(files) or 'the files of a checkout'}")
    parser.add_argument("--backend", help="the implementation to time on CPU (default: the one that runs here)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where a GPU is visible")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args(argv)
    if not files:
        raise SystemExit(f"pangu bench: the bench folder must be beside the package, came nothing at {FOLDER}")
    unknown = [op for op in args.op if op not in files]
    if unknown:
        raise SystemExit(f"pangu bench: op must be one of {', '.join(files)}, came {', '.join(unknown)}")
    global DEVICE
    DEVICE = args.device or DEVICE
    if on_gpu() and absent("CUDA"):
        raise SystemExit(f"pangu bench: --device must be one that is here, came cuda, where {absent('CUDA')}")
    with backends.use(args.backend or backends.current()):
        results = {"machine": machine(), "figures": {}}
        print(results["machine"])
        for op in args.op or files:
            with place():
                module = load(files[op])
            if on_gpu() and not getattr(module, "ON_GPU", True):
                continue
            for contest in module.contests():
                print(contest.run().line(), flush=True)
                results["figures"][contest.name] = contest.figures()
            if hasattr(module, "report"):
                with place():
                    print(module.report())
    if args.json:
        scratch = Path(f"{args.json}.tmp")
        scratch.write_text(json.dumps(results, indent=1))
        os.replace(scratch, args.json)
    return 0


def machine():
    """What figures are worth nothing without."""
    if on_gpu():
        limits = f"copy {gpu_copy() / 1e12:.2f} TB/s, bfloat16 matmul {gpu_timing.matmul_rate() / 1e12:.0f} TFLOP/s"
        return f"{torch.cuda.get_device_name()}, {limits}, torch {torch.__version__}"
    return f"{cpu_model()}, {torch.get_num_threads()} threads, {backends.current()}, torch {torch.__version__}"


def gpu_copy():
    candidate, moved = gpu_timing.LIMITS["copy"]
    return moved / gpu_timing.medians({"copy": candidate()}, 0.5)["copy"]
