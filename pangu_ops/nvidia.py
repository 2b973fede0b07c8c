"""The twins for NVIDIA GPUs: Triton's kernels, and CUDA's own where an op has one.

Nothing here imports Triton or asks for a GPU before an op runs.
"""

import functools
import importlib
import importlib.util
import os

import torch

from pangu_ops.registry import LIB, check, has_kernel
from pangu_ops.schemas import OPS

# Triton reads it once, when it is imported: from then on kernels run on the CPU, statement by statement.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

registered = set()  # the ops whose Triton kernel takes CUDA tensors


def module(op):
    """The name of the module that holds the op's Triton kernel, or would."""
    return f"pangu_ops.triton_kernels.{op.removesuffix('_backward')}"


def has_triton(op):
    return importlib.util.find_spec(module(op)) is not None


@functools.cache
def triton_kernel(op):
    """The function that launches the op's Triton kernels, with the arguments of the schema."""
    launcher = getattr(importlib.import_module(module(op)), op)
    names = [argument.name for argument in getattr(torch.ops.pangu, op).default._schema.arguments]

    def run(*args, **kwargs):
        for name, arg in zip(names, args):
            if isinstance(arg, torch.Tensor) and arg.is_floating_point():  # the page lets the others be like this one
                check(arg.dtype != torch.float64, op, f"{name} must be float32, bfloat16 or float16", arg.dtype)
                break
        return launcher(*args, **kwargs)

    return launcher if op == "spec_verify" else run  # which says it in words of its own


def register():
    """Give each op that has a Triton kernel, and no CUDA kernel of its own, that one for CUDA tensors."""
    if missing_triton():
        return
    for op in OPS:
        if has_triton(op) and not has_kernel(op, "CUDA"):
            LIB.impl(op, functools.partial(on_its_device, op), "CUDA")
            registered.add(op)


def on_its_device(op, *args, **kwargs):
    """Triton launches on the current device, which need not be that of the tensors."""
    tensor = next(arg for arg in args if isinstance(arg, torch.Tensor))
    if tensor.get_device() == torch.cuda.current_device():
        return triton_kernel(op)(*args, **kwargs)
    with torch.cuda.device(tensor.device):
        return triton_kernel(op)(*args, **kwargs)


def missing_triton():
    return "" if importlib.util.find_spec("triton") else "triton is not installed"


def missing(name):
    """Why ``triton``, or on a GPU ``cuda``, cannot run ops on CPU tensors here; an empty string when it can."""
    if name == "triton":
        reason = missing_triton()
        if reason or INTERPRETED:
            return reason
    if torch.version.cuda is None:
        return "torch was built without CUDA"
    return "" if torch.cuda.is_available() else "no CUDA device is visible"


class OnCpuTensors:
    """Kernels for GPUs that take ops on CPU tensors: in Triton's interpreter, or on the GPU with a copy there and back.

    For tests: whatever is written for CPU tensors holds the GPU's kernels to the same.
    """

    def __init__(self, name):
        if name == "triton" and INTERPRETED:
            importlib.import_module("pangu_ops.testing.interpreter").mend()
        self.library = torch.library.Library("pangu", "IMPL")
        for op in OPS:
            if name == "triton" and not has_triton(op):
                continue
            run = triton_kernel(op) if name == "triton" else getattr(torch.ops.pangu, op)
            self.library.impl(op, run if INTERPRETED else on_the_gpu(op, run), "CPU")

    def unload(self):
        self.library._destroy()


def on_the_gpu(op, run):
    written = [bool(argument.is_write) for argument in getattr(torch.ops.pangu, op).default._schema.arguments]

    def there(value):
        if not isinstance(value, torch.Tensor):
            return value
        copy = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")
        return copy.copy_(value)

    def there_and_back(*args):
        copies = [there(arg) for arg in args]
        results = run(*copies)
        for arg, copy, writes in zip(args, copies, written):
            if writes:
                arg.copy_(copy)
        return tuple(result.cpu() for result in results) if isinstance(results, tuple) else results.cpu()

    return there_and_back
