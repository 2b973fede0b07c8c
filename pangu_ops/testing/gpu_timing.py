"""timing.py for a GPU: calls are captured in CUDA graphs, so that what is timed is kernels and not their launching."""

import functools

import torch

from pangu_ops.testing.timing import medians_in_turn

CACHE = 2**28  # bytes that push everything else out of a GPU's cache
SIDE = 8192  # of the square matrices whose product measures the matrix units


def medians(candidates, budget=2.0, cold=False):
    """Median seconds of each of ``candidates`` (name to callable), taken in turn within ``budget`` seconds or so.

    ``cold``: the cache is filled with something else before every call, and that time subtracted. What waits for the
    GPU by itself cannot be captured: it is launched kernel by kernel, waiting included.
    """
    flush = flusher()
    runs = {name: Run(call, flush if cold else None) for name, call in candidates.items()}
    if cold:
        runs["flush"] = Run(flush, None)
    found = medians_in_turn({name: run.seconds for name, run in runs.items()}, budget)
    spent = found.pop("flush") if cold else 0.0
    return {name: max(value - spent, 1e-9) for name, value in found.items()}


class Run:
    """Several calls in one graph, or several launches of one that cannot be captured."""

    def __init__(self, call, before):
        def once():
            if before is not None:
                before()
            call()

        for _ in range(2):
            once()
        self.times = 1
        self.replay = once
        estimate = self.seconds()
        self.times = max(1, min(100, int(2e-3 / estimate)))
        if waits(call):
            self.replay = functools.partial(repeat, once, self.times)
            return
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            repeat(once, self.times)
        self.replay = graph.replay
        self.seconds()

    def seconds(self):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        self.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / self.times


def repeat(call, times):
    for _ in range(times):
        call()


def waits(call):
    """Whether the call waits for the GPU, as one that reads a value does."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return False


@functools.cache
def flusher():
    other = torch.empty(CACHE, dtype=torch.uint8, device="cuda")
    return other.zero_


@functools.cache
def copy_buffers():
    return tuple(torch.ones(2**28, device="cuda") for _ in range(2))


def copy_limit():
    """A candidate that moves 2 GiB, read and written bytes counted."""
    source, target = copy_buffers()
    return lambda: target.copy_(source)


@functools.cache
def matmul_rate():
    """FLOP/s of torch's bfloat16 product, of random numbers: zeros are faster."""
    a, b = (torch.randn(SIDE, SIDE, device="cuda").bfloat16() for _ in range(2))
    return 2 * SIDE**3 / medians({"matmul": lambda: a @ b}, 1.0)["matmul"]


# As in timing.py: name to candidate and the bytes that it moves. A GPU reads as fast as it copies.
LIMITS = dict.fromkeys(("copy", "read"), (copy_limit, 2 * 4 * 2**28))
