"""Timing side by side: every candidate runs in turn, so that a noisy machine is noisy for all of them."""

import ctypes
import functools
import statistics
import time

import torch


def keep_memory():
    """Let glibc keep freed memory: returning and faulting in large results costs any candidate up to 2.7x."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def medians(candidates, budget=2.0, cold=False):
    """Median seconds of each of ``candidates`` (name to callable), taken in turn within ``budget`` seconds or so.

    A sample lasts at least 1 ms; where that is several calls, one more comes first, untimed, to find back into the
    cache after the others. Every candidate gives at least three samples. ``cold`` changes nothing: only a GPU's cache
    is larger than what is timed.
    """
    repeats = {name: 1 + int(1e-3 / max(seconds(call), 1e-7)) for name, call in candidates.items()}

    def sample(call, times):
        if times > 1:
            call()
        begin = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - begin) / times

    samplers = {name: functools.partial(sample, call, repeats[name]) for name, call in candidates.items()}
    return medians_in_turn(samplers, budget)


def medians_in_turn(samplers, budget):
    """The median of the samples that each of ``samplers`` (name to function) gives in its turn, three at least."""
    samples = {name: [] for name in samplers}
    start = time.perf_counter()
    while time.perf_counter() - start < budget or len(samples[next(iter(samples))]) < 3:
        for name, sampler in samplers.items():
            samples[name].append(sampler())
    return {name: statistics.median(values) for name, values in samples.items()}


@functools.cache
def copy_buffers():
    return torch.ones(2**25), torch.ones(2**25)


def copy_limit():
    """A candidate that moves 256 MiB (read and written bytes counted), for this machine's copy bandwidth."""
    source, target = copy_buffers()
    return lambda: target.copy_(source)


def read_limit():
    """A candidate that reads 128 MiB, for this machine's read bandwidth."""
    source, _ = copy_buffers()
    return lambda: torch.dot(source, source)


# name to candidate and the bytes that it moves
LIMITS = {"copy": (copy_limit, 2 * 4 * 2**25), "read": (read_limit, 4 * 2**25)}
