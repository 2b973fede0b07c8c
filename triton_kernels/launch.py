"""How every kernel here is launched, and what its launcher may know of the GPU."""

import contextlib
import functools
from dataclasses import dataclass

import torch

_pretended = None  # the GPU that launchers choose for, instead of the one that the tensors are on
_compiled = None  # where compiled kernels are collected, instead of being run


@dataclass(frozen=True)
class Gpu:
    arch: int  # compute capability as one number: 80, 90, 100
    num_sms: int


def gpu_of(tensor):
    """The GPU that kernels on ``tensor`` run on; the interpreter counts as a small one that has everything."""
    if _pretended:
        return _pretended
    return _properties(tensor.get_device()) if tensor.is_cuda else Gpu(90, 3)


@functools.cache
def _properties(device):
    found = torch.cuda.get_device_properties(device)
    return Gpu(10 * found.major + found.minor, found.multi_processor_count)


@contextlib.contextmanager
def pretending(gpu):
    """Let launchers choose kernels and sizes for ``gpu``, whatever the tensors are on."""
    global _pretended
    before, _pretended = _pretended, gpu
    try:
        yield
    finally:
        _pretended = before


@contextlib.contextmanager
def compiling():
    """Compile what is launched for Triton's active driver and collect it in the list given, without running it."""
    global _compiled
    before, _compiled = _compiled, []
    try:
        yield _compiled
    finally:
        _compiled = before


def contiguous(tensor):
    """The tensor laid out row by row; None stays None."""
    return None if tensor is None else tensor.contiguous()


def launch(kernel, grid, *args, num_warps=4, num_stages=2, fp_fusion=True, **constants):
    """Run ``kernel`` on every program of ``grid``, of which there may be none.

    Whether products and sums fuse is said at every launch: Triton's versions differ in what they do by default.
    """
    if 0 in grid:
        return
    options = dict(num_warps=num_warps, num_stages=num_stages, enable_fp_fusion=fp_fusion)
    if _compiled is None:
        kernel[grid](*args, **constants, **options)
    else:
        _compiled.append(kernel.run(*args, grid=grid, warmup=True, **constants, **options))
