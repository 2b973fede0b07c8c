"""How close a result must be to its fp64 reference."""

import torch

# Largest allowed error, as |difference| <= tolerance * (scale + |expected|), where scale is the root mean square of
# what is expected: about four roundings of the dtype, since a sum is rounded once and its inputs are exact.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2.5e-3}


def widen(value):
    """float64 copies of floating-point tensors, everything else as it is."""
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def case_id(value):
    """How tests are named: an op's name as it is, a case by its sizes."""
    return value if isinstance(value, str) else ",".join(f"{key}={size}" for key, size in value.items())


def as_tuple(results):
    return results if isinstance(results, tuple) else (results,)


def expected(page, args):
    """The reference's results in float64 arithmetic for the op's ``args``."""
    return as_tuple(page.reference(*map(widen, args)))


def mismatch(page, args, results, wanted=None, slack=1):
    """The first way in which ``results`` differ from what the op's page promises; an empty string when none.

    Shape, dtype and strides must be those of ``outputs``; results that the page calls exact must equal the reference
    bit for bit, the others lie within ``slack`` times the tolerance of the dtype of ``args``.
    """
    wanted = expected(page, args) if wanted is None else wanted
    dtype = next((arg.dtype for arg in args if isinstance(arg, torch.Tensor) and arg.is_floating_point()), None)
    for index, (got, want, blank) in enumerate(
        zip(as_tuple(results), wanted, as_tuple(page.outputs(*args)), strict=True)
    ):
        for what in ("shape", "dtype", "device"):
            if getattr(got, what) != getattr(blank, what):
                return f"result {index} must have {what} {getattr(blank, what)}, came {getattr(got, what)}"
        if got.stride() != blank.stride():
            return f"result {index} must have strides {blank.stride()}, came {got.stride()}"
        if index in page.exact:
            if not torch.equal(got, want.to(got.dtype)):
                return f"result {index} must equal the reference, differs in {int((got != want).sum())} elements"
            continue
        error = (got.double() - want).abs()
        scale = want.square().mean().sqrt() if want.numel() else 0.0
        tolerance = slack * TOLERANCE[dtype]
        allowed = tolerance * (scale + want.abs())
        if not bool((error <= allowed).all()):
            worst = (error / allowed.clamp_min(1e-300)).max().item()
            return f"result {index} must be within {tolerance:g} of the reference, came {worst:.3g} times that"
    return ""
