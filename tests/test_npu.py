"""The ops that NPUs run through torch_npu's operators: with these in plain torch, on the CPU, they are right."""

import sys
from pathlib import Path

import pytest
import torch
from mock_npu import operators

from pangu_ops import npu
from pangu_ops.models.cache import KVCache
from pangu_ops.registry import FLOATS, PAGES
from pangu_ops.testing.compare import case_id, expected, mismatch

pytestmark = pytest.mark.skipif("torch_npu" in sys.modules, reason="torch.ops.npu are torch_npu's own here")
WHEEL = next(Path(sys.prefix).glob("torch_npu-*/schemas.txt"), None)  # what `make test` fetches of it
# What the operators take: in the cases of the pages heads are narrow and blocks short.
WIDE = {
    "attention": (
        dict(T=1, Hq=4, Hk=4, D=128, block=128),
        dict(T=9, Hq=8, Hk=2, D=128, block=128, B=4, past=300),
        dict(T=40, Hq=5, Hk=1, D=128, block=256, B=3, past=600, scale=0.2),
    ),
    "attention_ffn": (dict(T=7, H=32, Hq=4, Hk=2, D=128, I=16, block=128, B=3, past=200),),
}
CASES = [(name, case) for name in npu.COMPOSED for case in (*PAGES[name].cases, *WIDE.get(name, ()))]


@pytest.fixture(scope="module", autouse=True)
def torch_npu():
    """torch.ops.npu in plain torch, and no chip to ask."""
    library = operators.register()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(npu, "is_310p", lambda device: False)
        yield
    library._destroy()


@pytest.fixture
def called(monkeypatch):
    """The names of torch_npu's operators that were called."""
    names = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace == "npu":
                names.append(func._schema.name.removeprefix("npu::npu_"))
            return func(*args, **(kwargs or {}))

    with Watch():
        yield names


def test_the_schemas_are_those_of_torch_npu():
    if WHEEL is None:
        pytest.skip("torch_npu's schemas are not here: `make test` fetches them where there is a network")
    theirs = WHEEL.read_text().splitlines()
    for schema in operators.SCHEMAS:
        assert schema in theirs


@pytest.mark.parametrize("name, case", CASES, ids=case_id)
def test_matches_the_float64_reference(name, case):
    for dtype in FLOATS:
        args = PAGES[name].example(**case, dtype=dtype)
        problem = mismatch(
            PAGES[name], args, npu.COMPOSED[name](*args), expected(PAGES[name], args), npu.SLACK.get(name, 1)
        )
        assert not problem, dtype


@pytest.mark.parametrize("case", WIDE["attention"], ids=case_id)
def test_attention_writes_what_the_reference_writes(case):
    ours, theirs = (PAGES["attention"].example(**case, dtype=torch.bfloat16) for _ in range(2))
    npu.attention(*ours)
    PAGES["attention"].reference(*theirs)
    assert torch.equal(ours[3], theirs[3]) and torch.equal(ours[4], theirs[4])


def test_which_of_torch_npus_operators_run(called):
    experts = PAGES["moge_experts"].example(T=5, H=8, E=4, G=2, k=1, dtype=torch.bfloat16)
    npu.moge_experts(*experts)
    assert called == ["grouped_matmul", "swiglu", "grouped_matmul"]
    called.clear()
    npu.attention(*PAGES["attention"].example(**WIDE["attention"][1], dtype=torch.float16))
    assert called == ["scatter_nd_update_", "scatter_nd_update_", "fused_infer_attention_score"]
    called.clear()
    npu.attention(*PAGES["attention"].example(**WIDE["attention"][1]))  # float32, which the operator does not take
    npu.attention(*PAGES["attention"].example(T=3, Hq=2, Hk=1, D=128, block=64, dtype=torch.float16))
    npu.attention(*PAGES["attention"].example(T=3, Hq=2, Hk=1, D=64, block=128, dtype=torch.float16))
    assert called == []


def test_the_cache_of_an_npu_has_blocks_that_attention_takes():
    class Config:
        num_hidden_layers, num_key_value_heads, head_dim = 1, 1, 128

    cache = KVCache(Config, 1, 10, device="meta")
    assert npu.attention_rule(torch.empty(1, 4, 128, dtype=torch.float16), cache.keys[0], 1) == ""


@pytest.mark.parametrize(
    "values", [(1, 2, 3, 4), (9, 2, 5, -7), (0, 0, 0, 0), (0, 4, 1, 5), (0, 9, 2, 5), (0, -4, 2, 5)]
)
def test_experts_get_rows_that_no_expert_owns(values):
    rows, _, gate_up, down = PAGES["moge_experts"].example(T=5, H=8, E=3, G=1, k=1)

    def experts(*offsets):
        return npu.moge_experts(rows, torch.tensor(offsets, dtype=torch.int32), gate_up, down)

    out, owners = experts(*values), (experts(0, 5, 5, 5), experts(0, 0, 5, 5), experts(0, 0, 0, 5))
    assert torch.stack([torch.isclose(out, owner).all(1) for owner in owners]).any(0).all()


BAD = [
    (dict(query_starts=[0, 3, 2, 9]), "query_starts must rise from 0 to T = 9, came other values"),
    (dict(context_lens=[2, 3, 999]), "context_lens must count the new tokens and be at most M * block = "),
    (dict(context_lens=[0, 3, 9]), "context_lens must count the new tokens and be at most M * block = "),
    (dict(block_table=99), "block_table must hold numbers of blocks below N = "),
]


@pytest.mark.parametrize("op", ["attention", "attention_ffn"])
@pytest.mark.parametrize("changes, message", BAD)
def test_bad_values_are_refused_as_by_the_reference(op, changes, message):
    sizes = dict(T=9, Hq=2, Hk=1, D=128, block=128, B=3, past=100, dtype=torch.float16)
    args = list(PAGES[op].example(**sizes) if op == "attention" else PAGES[op].example(H=8, I=8, **sizes))
    first = 5 if op == "attention" else 13
    args[first + 2] = torch.tensor([0, 2, 5, 9], dtype=torch.int32)
    args[first + 1] = torch.tensor([2, 3, 130], dtype=torch.int32)
    for at, name in enumerate(("block_table", "context_lens", "query_starts"), first):
        if name in changes:
            args[at] = torch.tensor(changes[name], dtype=torch.int32).expand(args[at].shape)
    texts = []
    for run in (npu.COMPOSED[op], PAGES[op].reference):
        with pytest.raises(RuntimeError, match=f"{op}: {message}".replace("*", r"\*")) as error:
            run(*args)
        texts.append(str(error.value))
    assert texts[0] == texts[1]


def test_strict_refuses_what_the_operators_do_not_take(monkeypatch):
    monkeypatch.setattr(npu, "STRICT", True)
    message = "attention: q must be bfloat16 or float16 with a D of 128 for npu_fused_infer_attention_score, came"
    with pytest.raises(RuntimeError, match=message):
        npu.attention(*PAGES["attention"].example(T=3, Hq=2, Hk=1, D=64, block=128))


def test_a_310p_takes_float16_experts_of_whole_blocks(monkeypatch, called):
    monkeypatch.setattr(npu, "is_310p", lambda device: True)
    for dtype, hidden, runs in ((torch.float16, 32, 3), (torch.float32, 32, 0), (torch.float16, 20, 0)):
        called.clear()
        npu.moge_experts(*PAGES["moge_experts"].example(T=5, H=hidden, E=4, G=2, k=1, dtype=dtype))
        assert len(called) == runs
    npu.attention(*PAGES["attention"].example(**WIDE["attention"][0], dtype=torch.float16))
    assert called == []
    assert npu.floats("npu") == (torch.float32, torch.float16)
