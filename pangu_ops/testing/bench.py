"""`pangu bench`: what a bench file measures, and one line for each shape.

A bench file (bench/bench_<op>.py) holds ``contests()``: our call, its rivals and the bytes or operations counted.
pytest-benchmark runs the same files (`make bench`).
"""

import argparse
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pangu_ops import backends
from pangu_ops.info import cpu_model
from pangu_ops.testing.timing import LIMITS, keep_memory, medians

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
        keep_memory()
        with torch.inference_mode():
            ours, rivals = self.prepare()
            result = ours()
            for name, rival in rivals.items():
                self.compare(name, result, rival())
            self.results = medians({"pangu": ours, self.limit: LIMITS[self.limit][0](), **rivals}, self.budget)
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
        with torch.inference_mode():
            ours, _ = self.prepare()
            fixture.pedantic(ours, rounds=5, warmup_rounds=1)

    def line(self):
        """us, GB/s or GFLOP/s, the share of this machine's bandwidth, and how many times slower each rival is."""
        spent = self.results["pangu"]
        limit = LIMITS[self.limit][1] / self.results[self.limit] / 1e9
        parts = [f"{self.name:38} {spent * 1e6:10.1f} us"]
        if self.bytes:
            speed = self.bytes / spent / 1e9
            parts.append(f"{speed:6.1f} GB/s = {speed / limit:4.2f} of {self.limit}")
        if self.flops:
            parts.append(f"{self.flops / spent / 1e9:6.1f} GFLOP/s")
        rivals = {name: value for name, value in self.results.items() if name not in ("pangu", self.limit)}
        parts += [f"{name} {value / spent:.2f}x" for name, value in rivals.items()]
        return "  ".join(parts)


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
    parser.add_argument("--backend", help="the implementation to time (default: the one that runs here)")
    args = parser.parse_args(argv)
    if not files:
        raise SystemExit(f"pangu bench: the bench folder must be beside the package, came nothing at {FOLDER}")
    unknown = [op for op in args.op if op not in files]
    if unknown:
        raise SystemExit(f"pangu bench: op must be one of {', '.join(files)}, came {', '.join(unknown)}")
    with backends.use(args.backend or backends.current()):
        print(f"{cpu_model()}, {torch.get_num_threads()} threads, {backends.current()}, torch {torch.__version__}")
        for op in args.op or files:
            module = load(files[op])
            for contest in module.contests():
                print(contest.run().line(), flush=True)
            if hasattr(module, "report"):
                print(module.report())
    return 0
