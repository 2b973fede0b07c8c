"""How an op's page becomes ``torch.ops.pangu.<op>``: schema, fake, reference and autograd.

Native kernels are not registered here: each registers itself when its library is loaded (backends.py).
"""

import os

import torch

from pangu_ops.schemas import OPS, SCHEMAS

STRICT = os.environ.get("PANGU_OPS_STRICT", "0") not in ("", "0")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
# The dtypes that error messages name; csrc/common/check.h has the same.
NAMED_DTYPES = (*FLOATS, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)

# The library object owns the registrations: it has to live as long as the process.
LIB = torch.library.Library("pangu", "DEF")
for _schema in SCHEMAS:
    LIB.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))

PAGES = {}


class Page:
    """What an op's page gives: the shape oracle, the reference and, for tests and benches, example inputs."""

    def __init__(self, name, outputs, reference, cases, example, exact, inference):
        self.name, self.outputs, self.reference = name, outputs, reference
        self.cases, self.example, self.exact, self.inference = cases, example, exact, inference


def register(
    name, outputs, reference, *, setup_context=None, backward=None, inference=False, cases=(), example=None, exact=()
):
    """Register op ``name``.

    ``outputs(*args)`` checks the arguments and allocates the results; it is the fake kernel too.
    ``reference(*args)`` computes them in plain torch, on any device.
    ``cases`` are keyword dicts for ``example(**case)``, which returns the op's arguments.
    ``exact`` holds the indices of the results that every backend must match bit for bit.
    An op with ``inference``, and one that writes an argument, refuses inputs that require gradients.
    """
    if name not in OPS:
        raise ValueError(f"{name}: must be in schemas.py, which has {', '.join(OPS)}")

    def checked_reference(*args, **kwargs):
        outputs(*args, **kwargs)
        results = reference(*args, **kwargs)
        # Plain torch keeps the layout of its inputs; the contract's results are contiguous.
        return tuple(map(torch.Tensor.contiguous, results)) if isinstance(results, tuple) else results.contiguous()

    if not STRICT:
        LIB.impl(name, checked_reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"pangu::{name}", outputs, lib=LIB)
    inference = inference or getattr(torch.ops.pangu, name).default._schema.is_mutable
    if inference:
        LIB.impl(name, inference_only(name), "Autograd")
    else:
        if backward is None:
            backward = differentiated_twice(name)
        torch.library.register_autograd(f"pangu::{name}", backward, setup_context=setup_context, lib=LIB)
    PAGES[name] = Page(name, outputs, checked_reference, tuple(cases), example, tuple(exact), inference)


def differentiated_twice(name):
    """The backward of an op that is itself a backward: without one, torch would leave terms out and only warn."""

    def backward(ctx, *grads):
        raise RuntimeError(f"{name}: gradients must be taken once, came a second derivative")

    return backward


def inference_only(name):
    """The autograd kernel of an op that has no gradient; what it writes counts as changed."""
    op = getattr(torch.ops.pangu, name).default
    written = [index for index, argument in enumerate(op._schema.arguments) if argument.is_write]

    def refuse_or_run(*args, **kwargs):
        inputs = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, torch.Tensor)]
        if torch.is_grad_enabled():
            check(
                not any(arg.requires_grad for arg in inputs), name, "inputs must not require gradients", "some that do"
            )
        # autograd must notice that what it saved of a cache is no longer there
        torch.autograd.graph.increment_version([args[index] for index in written])
        with torch._C._AutoDispatchBelowAutograd():
            return op(*args, **kwargs)

    return refuse_or_run


def has_kernel(op, key):
    """Whether a kernel of the op is registered for that dispatch key."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"pangu::{op}", key)


def check(condition, op, rule, *came):
    """Raise ``op: rule, came ...`` unless ``condition`` holds; the same text as csrc/common/check.h."""
    if not condition:
        raise RuntimeError(f"{op}: {rule}, came {' '.join(describe(value) for value in came)}")


def describe(value):
    """A value as error messages print it: a tensor's or size's shape as [2, 3], a dtype by its short name."""
    if isinstance(value, torch.Tensor):
        value = value.shape
    if isinstance(value, (torch.Size, list, tuple)):
        return f"[{', '.join(str(int(size)) for size in value)}]"
    if isinstance(value, torch.dtype) and value not in NAMED_DTYPES:
        return "another dtype"
    return str(value).removeprefix("torch.")


def check_float(op, **tensors):
    """All of ``tensors`` share one dtype out of float32, bfloat16 and float16 (float64: reference only)."""
    (first_name, first), *rest = tensors.items()
    check(
        first.dtype in (*FLOATS, torch.float64),
        op,
        f"{first_name} must be float32, bfloat16 or float16",
        first.dtype,
    )
    for name, tensor in rest:
        check(tensor.dtype == first.dtype, op, f"{name} must have the dtype of {first_name}", tensor.dtype)
    check_device(op, **tensors)


def check_device(op, **tensors):
    """All of ``tensors`` lie on one device."""
    (first_name, first), *rest = tensors.items()
    for name, tensor in rest:
        check(
            tensor.device == first.device,
            op,
            f"{name} must be on the device of {first_name}",
            tensor.device,
        )


def check_int32(op, **tensors):
    for name, tensor in tensors.items():
        check(tensor.dtype == torch.int32, op, f"{name} must be int32", tensor.dtype)


def accumulate_dtype(tensor):
    """The dtype that arithmetic runs in: float32, but float64 stays float64 so that gradcheck can see."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
