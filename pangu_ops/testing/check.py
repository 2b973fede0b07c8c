"""`pangu check`: every op's own cases, on this machine, against the float64 reference."""

import argparse

import torch

from pangu_ops.backends import implementations, use
from pangu_ops.registry import FLOATS, PAGES
from pangu_ops.testing.compare import expected, mismatch


def failures(page, names):
    """``(implementation, case, dtype, what is wrong)`` of every case that fails."""
    for case in page.cases:
        for dtype in FLOATS:
            args = page.example(**case, dtype=dtype)
            wanted = expected(page, args)
            for name in names:
                with use(name):
                    problem = mismatch(page, args, getattr(torch.ops.pangu, page.name)(*args), wanted)
                if problem:
                    yield name, case, dtype, problem


def main(argv=None):
    parser = argparse.ArgumentParser(prog="pangu check", description="compare every op with its float64 reference")
    parser.add_argument("op", nargs="*", help="only these ops")
    parser.add_argument("--backend", choices=implementations(), help="only this implementation")
    args = parser.parse_args(argv)
    unknown = [op for op in args.op if op not in PAGES]
    if unknown:
        raise SystemExit(f"pangu check: op must be one of {', '.join(PAGES)}, came {', '.join(unknown)}")
    reasons = {name: reason for name, reason in implementations().items() if args.backend in (None, name)}
    for name, reason in reasons.items():
        if reason:
            print(f"{name}: not checked, {reason}")
    names = [name for name, reason in reasons.items() if not reason]
    failed = 0
    for page in (PAGES[op] for op in args.op or PAGES):
        found = list(failures(page, names))
        failed += len(found)
        print(f"{page.name:24} {len(page.cases)} cases x {len(FLOATS)} dtypes: {', '.join(names)} ", end="")
        print("ok" if not found else "FAILED")
        for name, case, dtype, problem in found:
            print(f"    {name} {case} {dtype}: {problem}")
    return 1 if failed else 0
