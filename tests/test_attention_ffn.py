import pytest
import torch
import torch.nn.functional as F

from pangu_ops import attention, attention_ffn, rms_norm, rotary, silu_mul
from pangu_ops.backends import GPU_IMPLEMENTATIONS
from pangu_ops.ops.attention_ffn import example
from pangu_ops.registry import PAGES
from pangu_ops.testing.compare import mismatch

SIZES = dict(T=11, H=24, Hq=6, Hk=2, D=4, I=20, B=3, past=9, block=3)


def test_it_equals_the_steps_it_stands_for(implementation):
    args = example(**SIZES)
    x, input_norm, qkv_weight, qkv_bias, o_weight, o_bias, ffn_norm, gate_up, down, cos, sin, keys, values, *paging = (
        args
    )
    caches = keys.clone(), values.clone()
    out = attention_ffn(*args, eps=1e-3)
    heads = F.linear(rms_norm(x, input_norm, 1e-3), qkv_weight, qkv_bias).view(11, 10, 4)
    q, k, v = heads.split((6, 2, 2), 1)
    attended = attention(*rotary(q, k, cos, sin), v, *caches, *paging)
    middle = x + F.linear(attended.flatten(1), o_weight, o_bias)
    wanted = middle + F.linear(silu_mul(F.linear(rms_norm(middle, ffn_norm, 1e-3), gate_up)), down)
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(keys, caches[0])
    torch.testing.assert_close(values, caches[1])


def test_in_float32_sequences_alone_give_the_same_bits(implementation):
    if implementation == "reference":
        pytest.skip("reference: torch's own product sums in another order for one row than for many")
    args = list(example(**SIZES))
    together = attention_ffn(*args)
    table, lens, starts = args[13:16]
    for row, (begin, end) in enumerate(zip(starts.tolist(), starts[1:].tolist())):
        one = [args[0][begin:end], *args[1:9], args[9][begin:end], args[10][begin:end], *args[11:13]]
        one += [table[row : row + 1], lens[row : row + 1], torch.tensor([0, end - begin], dtype=torch.int32)]
        assert torch.equal(attention_ffn(*one), together[begin:end])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sizes", [dict(T=150, H=64, D=32, I=300), dict(T=20, H=23, D=22, I=19)], ids=str)
def test_many_tokens(implementation, sizes, dtype):
    """Large tiles, and sizes that no tile and no vector fits."""
    args = example(**sizes, Hq=4, Hk=1, B=2, past=9, block=16, dtype=dtype)
    assert not mismatch(PAGES["attention_ffn"], args, attention_ffn(*args))


def test_activations_that_are_large_before_their_norm(implementation):
    args = example(**SIZES, dtype=torch.float16)
    args[0].mul_(1e4)
    args[1].mul_(30)
    assert not mismatch(PAGES["attention_ffn"], args, attention_ffn(*args))


NAMES = (
    "x input_norm qkv_weight qkv_bias o_weight o_bias ffn_norm gate_up down cos sin "
    "key_cache value_cache block_table context_lens query_starts"
).split()
ARGS = dict(zip(NAMES, example(T=3, H=8, Hq=2, Hk=1, D=4, I=6)))
BAD = [
    (dict(x=ARGS["x"][0]), "x must be [T, H], came [8]"),
    (dict(x=ARGS["x"].int()), "x must be float32, bfloat16 or float16, came int32"),
    (dict(key_cache=ARGS["key_cache"].half()), "key_cache must have the dtype of x, came float16"),
    (dict(input_norm=torch.zeros(7)), "input_norm must be [H] = [8], came [7]"),
    (dict(qkv_weight=torch.zeros(16, 7)), "qkv_weight must be [(Hq+2*Hk)*D, H] = [16, 8], came [16, 7]"),
    (dict(qkv_bias=torch.zeros(15)), "qkv_bias must be [(Hq+2*Hk)*D] = [16], came [15]"),
    (
        dict(o_weight=torch.zeros(8, 6)),
        "o_weight must be [H, Hq*D] with a multiple of the Hk heads of key_cache, came [8, 6]",
    ),
    (dict(o_weight=ARGS["o_weight"].half()), "o_weight must have the dtype of x, came float16"),
    (dict(o_bias=torch.zeros(1)), "o_bias must be [H] = [8], came [1]"),
    (dict(ffn_norm=torch.zeros(1)), "ffn_norm must be [H] = [8], came [1]"),
    (dict(gate_up=torch.zeros(11, 8)), "gate_up must be [2*I, H] with the H of x, came [11, 8]"),
    (dict(down=torch.zeros(8, 5)), "down must be [H, I] = [8, 6], came [8, 5]"),
    (dict(cos=torch.zeros(3, 3)), "cos must be [T, D/2] = [3, 2], came [3, 3]"),
    (dict(sin=ARGS["sin"].half()), "sin must be float32, came float16"),
]


@pytest.mark.parametrize("changes, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused(implementation, changes, message):
    with pytest.raises(RuntimeError) as error:
        attention_ffn(**ARGS | changes)
    assert str(error.value).splitlines()[0] == f"attention_ffn: {message}"


def test_values_that_point_outside(implementation):
    """Refused, but on a GPU, where nobody looks at them first: their tokens get NaN and leave the cache alone."""
    starts = torch.tensor([0, 4], dtype=torch.int32)
    before = ARGS["key_cache"].clone()
    if implementation in GPU_IMPLEMENTATIONS:
        assert attention_ffn(**ARGS | dict(query_starts=starts)).isnan().all()
    else:
        with pytest.raises(RuntimeError, match="^attention_ffn: query_starts must rise from 0 to T = 3, came other"):
            attention_ffn(**ARGS | dict(query_starts=starts))
    assert torch.equal(ARGS["key_cache"], before)
