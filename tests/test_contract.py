"""What every op promises, checked for each op on its own cases (design: one list of cases per op)."""

import pytest
import torch
from torch.library import opcheck

import pangu_ops
from pangu_ops.backends import takes
from pangu_ops.nvidia import INTERPRETED
from pangu_ops.registry import FLOATS, OPS, PAGES
from pangu_ops.testing.compare import as_tuple, case_id, mismatch

CASES = [(name, case) for name, page in PAGES.items() for case in page.cases]
BACKWARDS = ("moge_combine_backward", "moge_experts_backward")
# These write a KV cache, the one argument that may change, and that no copy can stand for.
WRITING = tuple(name for name in PAGES if getattr(torch.ops.pangu, name).default._schema.is_mutable)
INFERENCE = [name for name, page in PAGES.items() if page.inference]
DIFFERENTIABLE = [name for name in PAGES if name not in (*BACKWARDS, *INFERENCE)]


def operator(name):
    return getattr(torch.ops.pangu, name)


def small(name):
    """A case with a few tokens and nothing special."""
    return next(case for case in PAGES[name].cases if case["T"] > 1)


def tensors(args):
    return [arg for arg in args if isinstance(arg, torch.Tensor)]


def written(name):
    """For each argument of the op, whether it writes it."""
    return [
        bool(argument.alias_info and argument.alias_info.is_write)
        for argument in operator(name).default._schema.arguments
    ]


def inputs(name, args):
    return [arg for arg, writes in zip(args, written(name)) if isinstance(arg, torch.Tensor) and not writes]


def floats(implementation):
    return [dtype for dtype in FLOATS if takes(implementation, dtype)]


def test_every_op_has_a_page():
    assert sorted(PAGES) == sorted(OPS)


@pytest.mark.parametrize("name, case", CASES, ids=case_id)
def test_matches_the_float64_reference(implementation, name, case):
    for dtype in floats(implementation):
        args = PAGES[name].example(**case, dtype=dtype)
        assert not mismatch(PAGES[name], args, operator(name)(*args)), dtype


@pytest.mark.parametrize("name, case", CASES, ids=case_id)
def test_two_runs_give_the_same_bits_and_inputs_stay_unwritten(implementation, name, case):
    args = PAGES[name].example(**case, dtype=floats(implementation)[1])
    before = [tensor.clone() for tensor in inputs(name, args)]
    first, second = as_tuple(operator(name)(*args)), as_tuple(operator(name)(*args))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, inputs(name, args), strict=True))


@pytest.mark.parametrize("name", PAGES)
def test_every_element_of_the_outputs_is_written(implementation, name):
    """Memory that the outputs get next is filled with NaN first: what an op leaves unwritten shows."""
    if implementation == "triton" and INTERPRETED:
        pytest.skip("test_kernels_stay_inside_their_buffers fills all new memory with NaN, for a third of the time")
    for case in PAGES[name].cases:
        args = PAGES[name].example(**case)
        clean = as_tuple(operator(name)(*args))
        sizes = [out.numel() * out.element_size() for out in clean]
        again = []
        for _ in range(2):
            poison = [torch.full((size // 4 + 1,), torch.nan) for size in sizes for _ in range(4)]
            del poison
            again = as_tuple(operator(name)(*args))
        assert all(torch.equal(a, b) for a, b in zip(clean, again, strict=True)), case


def strided(tensor):
    """The same numbers with gaps between rows and between elements."""
    wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 3), 7, dtype=tensor.dtype)
    view = wide[..., 1 : 2 * tensor.shape[-1] + 1 : 2]
    view.copy_(tensor)
    return view


def transposed(tensor):
    """The same numbers with the last two dimensions swapped in memory."""
    return tensor.transpose(-1, -2).contiguous().transpose(-1, -2) if tensor.dim() > 1 else tensor


@pytest.mark.parametrize("view", [strided, transposed], ids=["strided", "transposed"])
@pytest.mark.parametrize("name", PAGES)
def test_any_strides_are_accepted(implementation, name, view):
    args = PAGES[name].example(**small(name))
    views = [
        view(arg) if isinstance(arg, torch.Tensor) and not writes else arg for arg, writes in zip(args, written(name))
    ]
    assert not tensors(views)[0].is_contiguous()
    assert not mismatch(PAGES[name], args, operator(name)(*views))


SIZES_OF_NOTHING = {
    "moge_dispatch": dict(T=3, H=0, E=4, G=2, k=1, masked=True),
    "moge_combine": dict(T=3, H=0, E=4, G=2, k=1),
    "moge_experts": dict(T=3, H=4, E=4, G=2, k=1, I=0),
    "moge_ffn": dict(T=3, H=4, E=4, G=2, k=1, I=0),
    "silu_mul": dict(T=3, I=0),
    "linear": dict(T=3, H=0, N=4),
    "attention_ffn": dict(T=3, H=4, Hq=2, Hk=1, D=4, I=0),
}


@pytest.mark.parametrize("name", SIZES_OF_NOTHING)
def test_empty_dimensions_are_accepted(implementation, name):
    args = PAGES[name].example(**SIZES_OF_NOTHING[name])
    assert not mismatch(PAGES[name], args, operator(name)(*args))


def differentiable(name, args):
    """The arguments with requires_grad where the op has a gradient for them."""
    skip = {"correction_bias", "cos", "sin"}
    names = [argument.name for argument in operator(name).default._schema.arguments]
    return [
        arg.clone().requires_grad_()
        if isinstance(arg, torch.Tensor) and arg.is_floating_point() and argument not in skip
        else arg
        for argument, arg in zip(names, args)
    ]


@pytest.mark.parametrize("name", PAGES)
def test_opcheck(name):
    args = PAGES[name].example(**small(name))
    opcheck(operator(name).default, args)
    if name in DIFFERENTIABLE:
        opcheck(operator(name).default, tuple(differentiable(name, args)))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_of_the_reference(name):
    """opcheck does not notice a missing backward; gradcheck in float64 does."""
    args = [
        arg.double() if isinstance(arg, torch.Tensor) and arg.is_floating_point() else arg
        for arg in PAGES[name].example(**GRADIENT_CASES[name])
    ]

    def floats(*args):
        outs = as_tuple(operator(name)(*args))
        return tuple(out for out in outs if out.is_floating_point())

    with pangu_ops.use("reference"):
        assert torch.autograd.gradcheck(floats, differentiable(name, args))


SMALL_ROUTING = dict(T=5, H=6, E=6, G=2, k=2, masked=True)
GRADIENT_CASES = {
    "moge_gating": dict(T=4, E=12, G=3, k=2, bias=True, scale=True, renormalize=True, scaling_factor=1.5),
    "moge_dispatch": SMALL_ROUTING,
    "moge_combine": SMALL_ROUTING,
    "moge_experts": dict(T=5, H=6, E=6, G=2, k=1, I=4),
    "moge_ffn": dict(**SMALL_ROUTING, I=4),
    "rms_norm": dict(T=3, H=7),
    "add_rms_norm": dict(T=3, H=7),
    "rotary": dict(T=3, Hq=2, Hk=1, D=4),
    "silu_mul": dict(T=3, I=5),
    "linear": dict(T=3, H=5, N=4),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_of_the_kernels_equal_the_reference(implementation, name):
    def gradients():
        args = differentiable(name, PAGES[name].example(**small(name)))
        outs = [out for out in as_tuple(operator(name)(*args)) if out.requires_grad]
        loss = sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outs)
        wanted = [arg for arg in args if isinstance(arg, torch.Tensor) and arg.requires_grad]
        return torch.autograd.grad(loss, wanted)

    came = gradients()
    with pangu_ops.use("reference"):
        wanted = gradients()
    for a, b in zip(came, wanted):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PAGES)
def test_compiles_with_dynamic_shapes(name):
    page = PAGES[name]
    case = small(name)
    torch._dynamo.reset()
    compiled = torch.compile(operator(name), backend="aot_eager", fullgraph=True, dynamic=True)
    for tokens in (case["T"], case["T"] + 3):
        args = page.example(**{**case, "T": tokens})
        wanted, came = as_tuple(operator(name)(*args)), as_tuple(compiled(*args))
        assert all(torch.equal(a, b) for a, b in zip(wanted, came, strict=True))


@pytest.mark.parametrize("name", BACKWARDS)
def test_a_second_derivative_is_refused(name):
    args = differentiable(name, PAGES[name].example(**small(name)))
    with pytest.raises(RuntimeError, match=f"{name}: gradients must be taken once, came a second derivative"):
        as_tuple(operator(name)(*args))[0].sum().backward()


@pytest.mark.parametrize("name", INFERENCE)
def test_gradients_are_refused_where_there_are_none(implementation, name):
    asking = list(PAGES[name].example(**small(name)))
    index = next(i for i, arg in enumerate(asking) if isinstance(arg, torch.Tensor) and arg.is_floating_point())
    asking[index] = asking[index].clone().requires_grad_()
    with pytest.raises(RuntimeError, match=f"{name}: inputs must not require gradients, came some that do"):
        operator(name)(*asking)
    with torch.no_grad():
        assert not any(result.requires_grad for result in as_tuple(operator(name)(*asking)))


@pytest.mark.parametrize("name", WRITING)
def test_what_is_written_is_the_references(implementation, name):
    for case in PAGES[name].cases:
        args = PAGES[name].example(**case)
        again = [arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in args]
        operator(name)(*args)
        PAGES[name].reference(*again)
        for came, wanted, writes in zip(args, again, written(name)):
            if writes:  # attention_ffn computes what it writes, attention only moves it
                torch.testing.assert_close(came, wanted, rtol=0, atol=0 if name == "attention" else 1e-5)


@pytest.mark.parametrize("name", PAGES)
def test_meta_tensors_give_the_same_shapes(name):
    args = PAGES[name].example(**small(name))
    real = as_tuple(operator(name)(*args))
    meta = as_tuple(operator(name)(*(arg.to("meta") if isinstance(arg, torch.Tensor) else arg for arg in args)))
    for a, b in zip(real, meta, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
