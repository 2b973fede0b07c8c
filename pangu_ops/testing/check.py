"""`pangu check`: every op's own cases, on this machine, against the float64 reference."""

import argparse

import torch

from pangu_ops import npu
from pangu_ops.backends import implementations, takes, use
from pangu_ops.info import absent, implementation
from pangu_ops.registry import FLOATS, PAGES
from pangu_ops.testing.compare import as_tuple, expected, mismatch

DEVICES = {"cuda": "CUDA", "npu": "NPU"}  # torch's name to that of `pangu info`


def label(page, name):
    """The name of an implementation, with what it leaves to another or does not take."""
    with use(name):
        runs = implementation(page.name, "CPU")
    notes = [runs] if runs != name else []
    notes += [f"no {str(dtype).removeprefix('torch.')}" for dtype in FLOATS if not takes(name, dtype)]
    return f"{name} ({', '.join(notes)})" if notes else name


def tell(page, dtypes, runs, problems):
    """Print a line for an op and one for each of its problems; returns how many there are."""
    problems = list(problems)
    verdict = "FAILED" if problems else "ok"
    print(f"{page.name:24} {len(page.cases)} cases x {len(dtypes)} dtypes: {runs} {verdict}")
    for problem in problems:
        print(f"    {problem}")
    return len(problems)


def failures(page, names):
    """What is wrong in every case that fails, beginning with the implementation."""
    for case in page.cases:
        for dtype in FLOATS:
            args = page.example(**case, dtype=dtype)
            wanted = expected(page, args)
            for name in (name for name in names if takes(name, dtype)):
                with use(name):
                    problem = mismatch(page, args, getattr(torch.ops.pangu, page.name)(*args), wanted)
                if problem:
                    yield f"{name} {case} {dtype}: {problem}"


def failures_on(page, device, dtypes):
    """What is wrong in every case that fails on tensors of ``device``."""
    slack = npu.SLACK.get(page.name, 1) if device.startswith("npu") else 1
    for case in page.cases:
        for dtype in dtypes:
            args = page.example(**case, dtype=dtype)
            wanted = expected(page, args)
            try:
                there = [arg.to(device) if isinstance(arg, torch.Tensor) else arg for arg in args]
                results = as_tuple(getattr(torch.ops.pangu, page.name)(*there))
                problem = mismatch(page, args, tuple(result.cpu() for result in results), wanted, slack)
            except RuntimeError as error:
                problem = str(error)
            if problem:
                yield f"{case} {dtype}: {problem}"


def check_device(pages, device):
    """Check the ops on tensors of ``device``; returns the number of failures."""
    kind = DEVICES[device.partition(":")[0]]
    dtypes = FLOATS if kind == "CUDA" else npu.floats(torch.device(device))
    return sum(tell(page, dtypes, implementation(page.name, kind), failures_on(page, device, dtypes)) for page in pages)


def usable(device):
    """``device``, where ops can run on its tensors here."""
    kind = DEVICES.get(device.partition(":")[0])
    if kind is None or absent(kind):
        why = f", where {absent(kind)}" if kind else ""
        raise SystemExit(f"pangu check: --device must be cuda or npu, with an index or without, came {device}{why}")
    return device


def build_parser():
    parser = argparse.ArgumentParser(prog="pangu check", description="compare every op with its float64 reference")
    parser.add_argument("op", nargs="*", help="only these ops")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--backend", choices=implementations(), help="only this implementation")
    which.add_argument("--device", help="what the ops run on tensors of this device: cuda, npu, npu:1 ...")
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    unknown = [op for op in args.op if op not in PAGES]
    if unknown:
        raise SystemExit(f"pangu check: op must be one of {', '.join(PAGES)}, came {', '.join(unknown)}")
    pages = [PAGES[op] for op in args.op or PAGES]
    if args.device:
        return 1 if check_device(pages, usable(args.device)) else 0
    reasons = {name: reason for name, reason in implementations().items() if args.backend in (None, name)}
    for name, reason in reasons.items():
        if reason:
            print(f"{name}: not checked, {reason}")
    names = [name for name, reason in reasons.items() if not reason]
    failed = sum(
        tell(page, FLOATS, ", ".join(label(page, name) for name in names), failures(page, names)) for page in pages
    )
    return 1 if failed else 0
