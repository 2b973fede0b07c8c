import pytest
import torch

import pangu_ops
from pangu_ops import sampling_probs
from pangu_ops.registry import PAGES
from pangu_ops.testing.compare import mismatch

PAGE = PAGES["sampling_probs"]
NAN, INF = torch.nan, torch.inf
# Probabilities 0.1, 0.4, 0.2, 0.3 at temperature 1.
LOGITS = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()


def probabilities(logits, temperature=1.0, top_k=0, top_p=1.0):
    """The distribution of one row in float64, by sorting all of it."""
    logits = logits.double()
    ranked, order = ((logits - logits.max()) / temperature).softmax(-1).sort(descending=True, stable=True)
    if top_k:
        ranked[top_k:] = 0
    ranked /= ranked.sum()
    if top_p < 1:
        ranked[ranked.cumsum(-1) - ranked >= top_p] = 0
    return torch.zeros_like(ranked).scatter(0, order, ranked / ranked.sum())


def random_logits(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "options, expected",
    [
        (dict(), [0.1, 0.4, 0.2, 0.3]),
        (dict(temperature=0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),  # squares over their sum
        (dict(temperature=0), [0, 1, 0, 0]),
        (dict(temperature=1e-37), [0, 1, 0, 0]),
        (dict(temperature=1e-40), [0, 1, 0, 0]),  # its reciprocal is infinite
        (dict(temperature=5e-324), [0, 1, 0, 0]),  # 0 in float32
        (dict(temperature=1e300), [0.25] * 4),  # infinite in float32
        (dict(top_k=1), [0, 1, 0, 0]),
        (dict(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (dict(top_k=4), [0.1, 0.4, 0.2, 0.3]),
        (dict(top_k=10**30), [0.1, 0.4, 0.2, 0.3]),
        (dict(top_p=0.39), [0, 1, 0, 0]),  # never less than one id
        (dict(top_p=1e-300), [0, 1, 0, 0]),
        (dict(top_p=0.69), [0, 4 / 7, 0, 3 / 7]),
        (dict(top_p=0.71), [0, 4 / 9, 2 / 9, 3 / 9]),
        (dict(top_k=3, top_p=0.5), [0, 4 / 7, 0, 3 / 7]),  # 4/9 alone holds less than half of what top_k left
        (dict(top_k=3, top_p=0.43), [0, 1, 0, 0]),
        (dict(temperature=0.5, top_p=0.8), [0, 16 / 25, 0, 9 / 25]),
        (dict(temperature=0, top_k=3, top_p=0.9), [0, 1, 0, 0]),
    ],
)
def test_distributions_by_hand(implementation, options, expected):
    expected = torch.tensor([expected], dtype=torch.float32)
    torch.testing.assert_close(sampling_probs(LOGITS, **options), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [8, 1000])
def test_equal_logits_are_cut_by_id(implementation, size):
    logits = torch.zeros(1, size)
    logits[0, ::2] = -0.0
    third = torch.tensor([[1 / 3] * 3 + [0] * (size - 3)])
    torch.testing.assert_close(sampling_probs(logits, top_k=3), third)
    torch.testing.assert_close(sampling_probs(logits, top_p=2.5 / size), third)
    torch.testing.assert_close(sampling_probs(logits, top_k=size - 2, top_p=2.5 / (size - 2)), third)


def test_a_cut_through_equal_logits_far_apart(implementation):
    logits = torch.zeros(1, 700)
    logits[0, [5, 200, 333, 600]], logits[0, 450] = 8.0, 9.0
    assert sampling_probs(logits, top_k=4)[0].nonzero().flatten().tolist() == [5, 200, 333, 450]
    # e of 4 + e holds 0.405 and each of the equal ones 0.149
    assert sampling_probs(logits, top_k=5, top_p=0.6)[0].nonzero().flatten().tolist() == [5, 200, 450]


def test_temperature_0_takes_the_first_of_the_largest(implementation):
    logits = random_logits(3, 1000)
    logits[1, [300, 301, 999]] = 20.0
    logits[2] = -3.0
    probs = sampling_probs(logits, 0)
    assert probs.argmax(-1).tolist() == [logits[0].argmax().item(), 300, 0]
    assert probs.count_nonzero().item() == 3 and probs.max(-1).values.tolist() == [1.0] * 3


SETTINGS = dict(
    temperature=torch.tensor([0.0, 1.0, 0.7, 1e-30, 2.0, 1.3]),
    top_k=torch.tensor([0, 0, 40, 5, 1500, 1]).int(),
    top_p=torch.tensor([1.0, 1.0, 0.9, 0.5, 0.3, 0.2]),
)


def test_a_row_depends_on_nothing_but_its_own_settings(implementation):
    logits = random_logits(6, 2000)
    together = sampling_probs(logits, **SETTINGS)
    for row in range(6):
        alone = sampling_probs(logits[row, None], **{name: value[row].item() for name, value in SETTINGS.items()})
        assert torch.equal(together[row], alone[0])


def test_the_number_of_threads_changes_no_bit(implementation):
    logits = random_logits(6, 2000)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(sampling_probs(logits, **SETTINGS))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("options", [dict(temperature=0), dict(), dict(top_k=3), dict(top_k=200, top_p=0.9)], ids=str)
def test_a_row_without_a_finite_maximum_is_all_nan_and_alone_so(implementation, options):
    logits = random_logits(7, 600)
    logits[1, 599], logits[2, 0], logits[3, 300], logits[4], logits[5] = NAN, NAN, INF, -INF, NAN
    came, clean = sampling_probs(logits, **options), sampling_probs(logits[[0, 6]], **options)
    assert came[1:6].isnan().all()
    assert torch.equal(came[[0, 6]], clean) and clean.isfinite().all()


@pytest.mark.parametrize("options", [dict(), dict(top_k=3), dict(top_k=200), dict(top_p=0.999)], ids=str)
def test_minus_infinity_has_no_probability(implementation, options):
    logits = torch.full((1, 600), -INF)
    logits[0, [7, 500]] = torch.tensor([1.0, 3.0]).log()
    expected = torch.zeros(1, 600)
    expected[0, [7, 500]] = torch.tensor([0.25, 0.75])
    torch.testing.assert_close(sampling_probs(logits, **options), expected)


@pytest.mark.parametrize(
    "name, values",
    [
        ("temperature", [-1.0, NAN, INF, -INF]),
        ("top_k", [-1, -(2**31)]),
        ("top_p", [0.0, -0.1, 1.001, NAN, INF]),
    ],
)
def test_settings_out_of_range_make_their_row_nan(implementation, name, values):
    dtype = torch.int32 if name == "top_k" else torch.float32
    logits, right = random_logits(len(values) + 1, 300), 1
    came = sampling_probs(logits, **{name: torch.tensor([*values, right], dtype=dtype)})
    assert came[:-1].isnan().all()
    assert torch.equal(came[-1:], sampling_probs(logits[-1:], **{name: right}))
    for value in values:
        assert sampling_probs(logits, **{name: value}).isnan().all()
    assert sampling_probs(logits, top_k=-(10**30)).isnan().all()


@pytest.mark.parametrize("temperature, top_k, top_p", [(0.8, 50, 0.95), (1.0, 0, 0.9), (0.6, 9000, 1.0), (1.2, 0, 1.0)])
def test_a_whole_vocabulary(implementation, temperature, top_k, top_p):
    rows = 1 if implementation == "triton" else 2  # the interpreter is slow
    for dtype in (torch.float32, torch.bfloat16):
        logits = random_logits(rows, 153376, seed=1).to(dtype)
        args = logits, torch.full((rows,), temperature), torch.full((rows,), top_k).int(), torch.full((rows,), top_p)
        came = torch.ops.pangu.sampling_probs(*args)
        wanted = torch.stack([probabilities(row, *(value[0].item() for value in args[1:])) for row in logits])
        assert not mismatch(PAGE, args, came, (wanted,)), dtype
        # a cut may fall one id away where the masses' rounding decides, and then only there
        assert ((came > 0) != (wanted > 1e-37)).sum(-1).max() <= (top_p < 1)
        assert (came.double().sum(-1) - 1).abs().max() < 1e-6


def test_few_distinct_logits(implementation):
    """Whole numbers, so that every cut goes through equal ones; one far above the rest, which then share a bin."""
    generator = torch.Generator().manual_seed(3)
    rows = 8 if implementation == "triton" else 40  # the interpreter is slow
    for size in (5, 128, 129, 700):
        logits = torch.randint(-4, 4, (rows, size), generator=generator).float()
        logits[::4, size // 2] = 60.0
        args = (
            logits,
            torch.rand(rows, generator=generator) * 2 + 0.1,
            torch.randint(0, size + 2, (rows,), generator=generator).int(),
            torch.rand(rows, generator=generator).clamp_min(0.01),
        )
        wanted = torch.stack(
            [probabilities(row, *(value.item() for value in options)) for row, *options in zip(*args, strict=True)]
        )
        assert not mismatch(PAGE, args, torch.ops.pangu.sampling_probs(*args), (wanted,))


def test_float64_stays_float64():
    with pangu_ops.use("reference"):
        probs = sampling_probs(LOGITS.double(), torch.ones(1).double(), top_p=0.69)
        meta = sampling_probs(LOGITS.double().to("meta"))
    assert probs.dtype == meta.dtype == torch.float64
    torch.testing.assert_close(probs[0], probabilities(LOGITS[0], top_p=0.69), rtol=1e-7, atol=0)


GOOD = (torch.zeros(2, 8), torch.ones(2), torch.zeros(2).int(), torch.ones(2))
BAD = [
    (0, torch.zeros(8), "logits must be [T, V], came [8]"),
    (0, torch.zeros(2, 8).int(), "logits must be float32, bfloat16 or float16, came int32"),
    (0, torch.zeros(2, 8).double(), "logits must be float32, bfloat16 or float16, came float64"),
    (0, torch.zeros(2, 0), "the vocabulary must have at least one id, came 0"),
    (1, torch.ones(3), "temperature must be [T] = [2], came [3]"),
    (1, torch.ones(2, 1), "temperature must be [T] = [2], came [2, 1]"),
    (1, torch.ones(2).bfloat16(), "temperature must be float32, came bfloat16"),
    (2, torch.zeros(()).int(), "top_k must be [T] = [2], came []"),
    (2, torch.zeros(2).long(), "top_k must be int32, came int64"),
    (3, torch.ones(1), "top_p must be [T] = [2], came [1]"),
    (3, torch.ones(2).double(), "top_p must be float32, came float64"),
]


@pytest.mark.parametrize("index, value, message", BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_refused(implementation, index, value, message):
    if implementation == "reference" and message.startswith("logits") and "came float64" in message:
        pytest.skip("reference: float64 is what it is for")
    with pytest.raises(RuntimeError) as error:
        sampling_probs(*GOOD[:index], value, *GOOD[index + 1 :])
    assert str(error.value).splitlines()[0] == f"sampling_probs: {message}"
