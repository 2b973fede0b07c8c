"""How test_ascend_faults.py launches the kernels of each op, and with which tensors and references."""

import dataclasses

import torch

from pangu_ops.registry import PAGES

DTYPES = {"float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}
BLOCK_BYTES = 32

# The parameters and the body of a function that launches.
CALLS = {
    "silu_mul": (
        "uint8_t* gate_up, uint8_t* out, int64_t rows, int64_t columns, int64_t stride",
        """auto tiling = silu_mul_tiling(rows, columns, stride, stride, DTYPE, chip);
  LAUNCH(silu_mul, tiling.tiles.split.cores, gate_up, out, tiling);""",
    ),
    "rms_norm": (
        "uint8_t* x, uint8_t* weight, uint8_t* out, int64_t rows, int64_t columns, int64_t stride",
        """auto tiling = rms_norm_tiling(rows, columns, stride, stride, 1e-5f, DTYPE, chip);
  LAUNCH(rms_norm, tiling.tiles.split.cores, x, weight, out, tiling);""",
    ),
    "add_rms_norm": (
        "uint8_t* x, uint8_t* residual, uint8_t* weight, uint8_t* out, uint8_t* sum, int64_t rows, int64_t columns, "
        "int64_t stride",
        """auto tiling = add_rms_norm_tiling(rows, columns, stride, stride, 1e-5f, DTYPE, chip);
  LAUNCH(add_rms_norm, tiling.tiles.split.cores, x, residual, weight, out, sum, tiling);""",
    ),
    "rotary": (
        "uint8_t* q, uint8_t* k, uint8_t* cos, uint8_t* sin, uint8_t* out_q, uint8_t* out_k, int64_t tokens, "
        "int64_t q_heads, int64_t k_heads, int64_t half",
        """Heads q_{int32_t(q_heads), q_heads * 2 * half, 2 * half}, k_{int32_t(k_heads), k_heads * 2 * half, 2 * half};
  auto tiling = rotary_tiling(tokens, half, q_, k_, DTYPE, chip);
  LAUNCH(rotary, tiling.tiles.split.cores, q, k, cos, sin, out_q, out_k, tiling);""",
    ),
    "moge_dispatch": (
        "uint8_t* x, uint8_t* ids, uint8_t* rows, uint8_t* slot_rows, uint8_t* offsets, uint8_t* workspace, "
        "uint8_t* meetings, int64_t tokens, int64_t slots, int64_t experts, int64_t groups, int64_t columns, "
        "int64_t row_bytes",
        """auto tiling = moge_dispatch_tiling(tokens, slots, experts, groups, columns, row_bytes, chip);
  LAUNCH(moge_dispatch, cores_of(tiling), x, ids, rows, slot_rows, offsets, workspace, meetings, tiling);""",
    ),
    "moge_combine": (
        "uint8_t* rows, uint8_t* weights, uint8_t* slot_rows, uint8_t* addend, uint8_t* out, int64_t num_rows, "
        "int64_t tokens, int64_t slots, int64_t columns, int64_t stride",
        """auto tiling = moge_combine_tiling(num_rows, tokens, slots, columns, stride, addend != nullptr, DTYPE, chip);
  LAUNCH(moge_combine, tiling.split.cores, rows, weights, slot_rows, addend, out, tiling);""",
    ),
    "moge_gating": (
        "uint8_t* logits, uint8_t* bias, uint8_t* weights, uint8_t* ids, int64_t tokens, int64_t experts, "
        "int64_t groups, int64_t topk, int64_t stride",
        """auto tiling = moge_gating_tiling(tokens, experts, groups, topk, DTYPE, chip, bias != nullptr, false);
  tiling.softmax = bias == nullptr, tiling.scaling_factor = 1;
  LAUNCH(moge_gating, tiling.split.cores, logits, bias, nullptr, weights, ids, tiling);""",
    ),
    "spec_verify": (
        "uint8_t* draft_ids, uint8_t* parents, uint8_t* target, uint8_t* tokens, uint8_t* counts, uint8_t* nodes, "
        "uint8_t* workspace, int64_t batch, int64_t num_nodes, int64_t vocabulary, int64_t ahead, int64_t id_stride, "
        "int64_t stride, int64_t token_stride, int64_t node_stride, int64_t count_stride",
        """auto tiling = spec_verify_tiling(batch, num_nodes, vocabulary, true, DTYPE, chip);
  if (!ahead) tiling.reads_ahead = false, tiling.values = 1, tiling.record = 4;  // as for a large vocabulary
  tiling.layout = {id_stride, 0, 0, stride, 0, token_stride, node_stride, count_stride, 1, 0};
  LAUNCH(spec_verify_greedy, tiling.cores, draft_ids, parents, target, nullptr, nullptr, tokens, counts, nodes,
         workspace, tiling);""",
    ),
    "spec_verify_sampling": (
        "uint8_t* draft_ids, uint8_t* parents, uint8_t* target, uint8_t* probs, uint8_t* uniforms, uint8_t* tokens, "
        "uint8_t* counts, uint8_t* nodes, uint8_t* workspace, int64_t batch, int64_t num_nodes, int64_t vocabulary, "
        "int64_t id_stride, int64_t uniform_stride, int64_t stride, int64_t token_stride, int64_t node_stride, "
        "int64_t count_stride",
        """auto tiling = spec_verify_tiling(batch, num_nodes, vocabulary, false, Dtype::FLOAT, chip);
  tiling.method = int32_t(VerifyMethod::REJECTION), tiling.has_draft_probs = true;
  tiling.layout = {id_stride, 0, uniform_stride, stride, stride, token_stride, node_stride, count_stride, 1, 0};
  LAUNCH(spec_verify_sampling, tiling.cores, draft_ids, parents, target, probs, uniforms, tokens, counts, nodes,
         workspace, tiling);""",
    ),
}


@dataclasses.dataclass
class Case:
    tensors: list
    sizes: list  # then the chip's cores and bytes, 0 for what it has
    results: list  # (tensor, reference)


def padded(fault, x):
    """On 310P rows end with a block."""
    block = BLOCK_BYTES // x.element_size()
    missing = -x.shape[-1] % block if fault.chip == "310p" else 0
    return torch.nn.functional.pad(x, (0, missing)).contiguous()


def garbage(like):
    return torch.full_like(like, torch.nan if like.is_floating_point() else -7)


def silu_mul(fault, rows=43, columns=40, cores=2, ub_bytes=8 << 10):
    x = torch.randn(rows, 2, columns, dtype=DTYPES[fault.dtype])
    given = padded(fault, x)
    out = garbage(given[:, 0])
    sizes = [rows, columns, given.shape[-1], cores, ub_bytes]
    return Case([given, out], sizes, [(out, PAGES["silu_mul"].reference(x.flatten(1)))])


def norm(fault, rows=33, columns=200, cores=2, ub_bytes=24 << 10):
    dtype = DTYPES[fault.dtype]
    x, residual, weight = (torch.randn(*shape, dtype=dtype) for shape in ((rows, columns), (rows, columns), (columns,)))
    given = [padded(fault, tensor) for tensor in (x, residual, weight)]
    out, total = garbage(given[0]), garbage(given[0])
    sizes = [rows, columns, given[0].shape[-1], cores, ub_bytes]
    if fault.op == "rms_norm":
        return Case([given[0], given[2], out], sizes, [(out, PAGES["rms_norm"].reference(x, weight))])
    wanted = PAGES["add_rms_norm"].reference(x, residual, weight)
    return Case([*given, out, total], sizes, [(out, wanted[0]), (total, wanted[1])])


def rotary(fault, tokens=5, q_heads=3, k_heads=2, half=24, cores=2, ub_bytes=6 << 10):
    q, k = (torch.randn(tokens, heads, 2 * half, dtype=DTYPES[fault.dtype]) for heads in (q_heads, k_heads))
    cos, sin = torch.randn(tokens, half), torch.randn(tokens, half)
    outs = [garbage(q), garbage(k)]
    sizes = [tokens, q_heads, k_heads, half, cores, ub_bytes]
    return Case([q, k, cos, sin, *outs], sizes, [*zip(outs, PAGES["rotary"].reference(q, k, cos, sin))])


def moge_dispatch(fault, tokens=23, slots=4, experts=16, groups=2, columns=24, cores=3, ub_bytes=0):
    x = torch.randn(tokens, columns, dtype=torch.float16)
    size = experts // groups
    ids = torch.randint(0, size, (tokens, slots)) + torch.arange(slots) * groups // slots * size
    ids[torch.rand(tokens, slots) < 0.2] = -1  # masked
    ids = ids.to(torch.int32)
    wanted = PAGES["moge_dispatch"].reference(x, ids, experts, groups)
    given = padded(fault, x)
    given_ids = padded(fault, ids)
    rows = torch.full((tokens * slots, given.shape[1]), torch.nan, dtype=torch.float16)
    slot_rows, offsets = garbage(given_ids), garbage(padded(fault, wanted[2]))
    workspace = torch.full((2 * 40 * 2048,), -7, dtype=torch.int32)
    meetings = torch.zeros(40 * 8, dtype=torch.int32)
    sizes = [tokens, slots, experts, groups, given_ids.shape[1], given.shape[1] * 2, cores, ub_bytes]
    return Case([given, given_ids, rows, slot_rows, offsets, workspace, meetings], sizes,
                [*zip((rows, slot_rows, offsets), wanted)])  # fmt: skip


def moge_combine(fault, tokens=6, slots=3, columns=520, cores=2, ub_bytes=0, rows=20, addend=True):
    x, more = (torch.randn(count, columns, dtype=DTYPES[fault.dtype]) for count in (rows or 1, tokens))
    weights = torch.rand(tokens, slots)
    slot_rows = torch.randint(-1, rows or 0, (tokens, slots), dtype=torch.int32)
    wanted = PAGES["moge_combine"].reference(x, weights, slot_rows, more if addend else None)
    given = [padded(fault, tensor) for tensor in (x, weights.flatten(), slot_rows.flatten(), more)]
    out = garbage(given[3])
    given[3] = given[3] if addend else None
    sizes = [len(x), tokens, slots, columns, out.shape[1], cores, ub_bytes]
    return Case([*given, out], sizes, [(out, wanted)])


def moge_gating(fault, tokens=21, experts=50, groups=5, topk=2, bias=False, cores=3, ub_bytes=20 << 10):
    logits, *_, added = PAGES["moge_gating"].example(tokens, experts, groups, topk, DTYPES[fault.dtype], bias=True)[:5]
    score_function = "sigmoid" if bias else "softmax"
    wanted = PAGES["moge_gating"].reference(logits, groups, topk, score_function, added if bias else None)
    given = padded(fault, logits.view(tokens * groups, -1))
    weights, ids = (garbage(padded(fault, tensor)) for tensor in wanted)
    tensors = [given, padded(fault, added.view(groups, -1)) if bias else None, weights, ids]
    return Case(tensors, [tokens, experts, groups, topk, 0, cores, ub_bytes], [*zip((weights, ids), wanted)])


def spec_verify(fault, batch=1, nodes=5, vocabulary=2970, ahead=True, cores=3, ub_bytes=0):
    ids, parents, target, *_ = PAGES["spec_verify"].example(batch, nodes, vocabulary, DTYPES[fault.dtype], "greedy")
    ids = ids.to(torch.int32)
    wanted = PAGES["spec_verify"].reference(ids, parents, target, method="greedy")
    wanted = wanted[0], wanted[1][:, None], wanted[2]
    given = [padded(fault, tensor) for tensor in (ids, parents, target)]
    outs = [garbage(padded(fault, tensor)) for tensor in wanted]
    workspace = torch.zeros(1 << 14, dtype=torch.int32)
    strides = [tensor.shape[-1] for tensor in (given[0], given[2], outs[0], outs[2], outs[1])]
    sizes = [batch, nodes, vocabulary, ahead, *strides, cores, ub_bytes]
    return Case([*given, *outs, workspace], sizes, [*zip(outs, wanted)])


def spec_verify_sampling(fault, batch=1, vocabulary=2970, cores=3, ub_bytes=0, seed=5):
    """A tree of which several nodes are rejected."""
    made = PAGES["spec_verify"].example(batch, 8, vocabulary, tree=(-1, -1, -1, 0, 1, 2, -1, 2), seed=seed)
    ids, parents, target, probs, uniforms, *_ = made
    ids, uniforms = ids.to(torch.int32), 0.95 + 0.05 * uniforms
    wanted = PAGES["spec_verify"].reference(ids, parents, target, probs, uniforms)
    wanted = wanted[0], wanted[1][:, None], wanted[2]
    given = [padded(fault, tensor) for tensor in (ids, parents, target, probs, uniforms)]
    outs = [garbage(padded(fault, tensor)) for tensor in wanted]
    workspace = torch.zeros(1 << 14, dtype=torch.int32)
    strides = [tensor.shape[-1] for tensor in (given[0], given[4], given[2], outs[0], outs[2], outs[1])]
    sizes = [batch, 8, vocabulary, *strides, cores, ub_bytes]
    return Case([*given, *outs, workspace], sizes, [*zip(outs, wanted)])


def case(call, **sizes):
    return lambda fault: call(fault, **sizes)


# The sizes that options name; "" for all others.
CASES = {
    "silu_mul": {
        "": silu_mul,
        "one-tile": case(silu_mul, rows=1, columns=40),
        "whole": case(silu_mul, rows=300, columns=300, cores=1, ub_bytes=0),
        "uneven": case(silu_mul, rows=7, columns=300, cores=4),
    },
    "rms_norm": {"": norm, "chunks": case(norm, rows=3, columns=700, ub_bytes=5 << 10)},
    "add_rms_norm": {"": norm},
    "rotary": {"": rotary, "odd": case(rotary, half=21)},
    "moge_dispatch": {
        "": moge_dispatch,
        "exchange": case(moge_dispatch, tokens=300, experts=128, columns=16),
        "windows": case(moge_dispatch, tokens=20, slots=2, experts=2080),
        "long": case(moge_dispatch, tokens=300, slots=8, columns=16, cores=1),
        "wide": case(moge_dispatch, tokens=2, slots=2, columns=40000, cores=1),
    },
    "moge_combine": {
        "": moge_combine,
        "few": case(moge_combine, tokens=2, columns=40),
        "near": case(moge_combine, tokens=400, columns=16, cores=1),
        "masked": case(moge_combine, rows=0, addend=False),
    },
    "moge_gating": {"": moge_gating, "bias": case(moge_gating, bias=True)},
    "spec_verify": {
        "": spec_verify,
        "groups": case(spec_verify, batch=3, cores=6, vocabulary=1500, ahead=False),
        "many": case(spec_verify, batch=3, cores=1, vocabulary=1500, ub_bytes=40 << 10),
    },
    "spec_verify_sampling": {
        "": spec_verify_sampling,
        "groups": case(spec_verify_sampling, batch=3, cores=6, vocabulary=1500),
        "alone": case(spec_verify_sampling, batch=3, cores=1, ub_bytes=60 << 10),
    },
}
