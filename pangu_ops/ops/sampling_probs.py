"""sampling_probs: the distribution that the next token is drawn from."""

import torch

from pangu_ops.registry import accumulate_dtype, check, check_device, check_float, check_int32, register

OP = "sampling_probs"


def sampling_probs(logits, temperature=1.0, top_k=0, top_p=1.0):
    """Softmax of ``logits / temperature``, cut to the ``top_k`` likeliest ids, then to ``top_p`` of what is left.

    Ids rank by falling logit, equal ones by rising id. Of the ``top_k`` the fewest likeliest are kept that together
    hold ``top_p``, at least one; what is kept adds up to 1. The op is for inference only and has no gradient.

    Args:
        logits: ``[T, V]`` float32, bfloat16 or float16.
        temperature: ``[T]`` float32, or a number for every row; 0 gives the likeliest id all. None is too small: the
            largest logit is subtracted before the division.
        top_k: ``[T]`` int32, or a number; 0, and any that V does not exceed, keeps all.
        top_p: ``[T]`` float32, or a number; above 0 and at most 1, which keeps all.

    Returns:
        ``[T, V]`` float32. A row is all NaN where its logits have a NaN or no finite maximum, or where its temperature
        is negative or not finite, its ``top_k`` negative, or its ``top_p`` outside (0, 1]; other rows do not see it.

    Equivalent, for a row with temperature > 0 and top_k > 0, to::

        ranked, ids = ((logits - logits.max()) / temperature).softmax(-1).sort(descending=True, stable=True)
        ranked[top_k:] = 0
        ranked /= ranked.sum()
        ranked[ranked.cumsum(-1) - ranked >= top_p] = 0
        probs = torch.zeros(V).scatter(0, ids, ranked / ranked.sum())
    """
    dtype = accumulate_dtype(logits)
    limits = torch.finfo(dtype)

    def per_row(value, dtype):
        return value if isinstance(value, torch.Tensor) else logits.new_full(logits.shape[:1], value, dtype=dtype)

    # A number in range stays so in the narrower dtype.
    if not isinstance(temperature, torch.Tensor) and temperature < torch.inf:
        temperature = min(temperature, limits.max)
    if not isinstance(top_k, torch.Tensor):
        top_k = max(-1, min(top_k, logits.shape[-1]))
    if not isinstance(top_p, torch.Tensor) and top_p > 0:
        top_p = max(top_p, limits.tiny)
    return torch.ops.pangu.sampling_probs(
        logits, per_row(temperature, dtype), per_row(top_k, torch.int32), per_row(top_p, dtype)
    )


def outputs(logits, temperature, top_k, top_p):
    check(logits.dim() == 2, OP, "logits must be [T, V]", logits)
    check_float(OP, logits=logits)
    num_rows, num_ids = logits.shape
    check(num_ids >= 1, OP, "the vocabulary must have at least one id", num_ids)
    for name, tensor in (("temperature", temperature), ("top_k", top_k), ("top_p", top_p)):
        check(tensor.shape == (num_rows,), OP, f"{name} must be [T] = [{num_rows}]", tensor)
        if name == "top_k":
            check_int32(OP, top_k=top_k)
        else:
            check(tensor.dtype == accumulate_dtype(logits), OP, f"{name} must be float32", tensor.dtype)
        check_device(OP, logits=logits, **{name: tensor})
    return logits.new_empty(num_rows, num_ids, dtype=accumulate_dtype(logits))


def reference(logits, temperature, top_k, top_p):
    num_ids = logits.shape[1]
    logits = logits.to(accumulate_dtype(logits))
    top = logits.amax(-1, keepdim=True)  # NaN where the row has one
    in_range = (temperature >= 0) & (temperature < torch.inf) & (top_k >= 0) & (top_p > 0) & (top_p <= 1)
    greedy = temperature == 0
    temperature = torch.where(greedy, 1.0, temperature)[:, None]
    top_k = torch.where(greedy, 1, torch.where(top_k == 0, num_ids, top_k))[:, None]
    top_p = top_p[:, None]

    order = logits.sort(dim=-1, descending=True, stable=True).indices
    ranked = ((logits - top) / temperature).softmax(-1).gather(-1, order)
    ranked = ranked.masked_fill(torch.arange(num_ids, device=logits.device) >= top_k, 0)
    ranked = ranked / ranked.sum(-1, keepdim=True)
    ranked = ranked.masked_fill((ranked.cumsum(-1) - ranked >= top_p) & (top_p < 1), 0)
    probs = torch.zeros_like(ranked).scatter(-1, order, ranked / ranked.sum(-1, keepdim=True))
    return probs.masked_fill(~(top.isfinite() & in_range[:, None]), torch.nan)


def example(T, V, dtype=torch.float32, temperature=(1.0,), top_k=(0,), top_p=(1.0,), seed=0):
    """The rows take the settings in turn."""
    logits = 3 * torch.randn(T, V, generator=torch.Generator().manual_seed(seed))

    def in_turn(values, dtype):
        return torch.tensor([values[row % len(values)] for row in range(T)], dtype=dtype)

    settings = in_turn(temperature, torch.float32), in_turn(top_k, torch.int32), in_turn(top_p, torch.float32)
    return logits.to(dtype), *settings


register(
    OP,
    outputs,
    reference,
    inference=True,
    example=example,
    cases=(
        dict(T=0, V=8),
        dict(T=1, V=1, top_k=(1,), top_p=(0.5,)),
        dict(T=3, V=7, temperature=(0.7,), top_k=(4,), top_p=(0.8,)),
        dict(T=2, V=1000, temperature=(1.5,)),
        dict(T=2, V=1000, top_k=(50,)),
        dict(T=2, V=1000, temperature=(3.0,), top_p=(0.9,)),
        dict(T=2, V=4099, temperature=(2.0,), top_k=(20,), top_p=(0.7,)),  # fewer than the kernel has blocks
        dict(T=12, V=1000, temperature=(0.0, 0.8, 2.0), top_k=(0, 300, 5, 2000), top_p=(1.0, 0.95, 0.5, 0.1, 1e-30)),
    ),
)
