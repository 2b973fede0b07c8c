"""The trainer of the pseudo states: its rows, its least squares, and that it learns."""

import random

import pytest
import torch
import torch.nn.functional as F

from pangu_ops import load_model
from pangu_ops.checkpoints import EMBEDDED, PRO_MOE
from pangu_ops.checkpoints.lessons import LESSONS
from pangu_ops.checkpoints.train_firp import accuracy, main, texts
from pangu_ops.models.cache import KVCache
from pangu_ops.models.tokenizer import Tokenizer
from pangu_ops.speculative import Firp
from pangu_ops.speculative.sampling import Sampling
from pangu_ops.speculative.train_firp import Rows, guesses, loss_of, stream, train_firp


def examples(path, family, number, seed=0):
    return texts(Tokenizer(path).pieces, LESSONS[family], random.Random(seed), number)


def test_rows_by_hand():
    rows = Rows([([5, 6, 7, 8], 2), ([9, 10, 11], 1)], 2)
    assert rows.ids.tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert rows.anchors.tolist() == [1, 4]  # the tokens before which the guessing begins, and which two more follow
    assert rows.labels.tolist() == [[8, -100], [11, -100]]
    assert rows.positions.tolist() == [0, 1, 2, 3, 0, 1, 2, 2, 3, 1, 2]
    sees = [row.nonzero().flatten().tolist() for row in rows.mask]
    assert sees[:7] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [4], [4, 5], [4, 5, 6]]
    assert sees[7:] == [[0, 1, 7], [0, 1, 7, 8], [4, 9], [4, 9, 10]]


@pytest.mark.parametrize("path, family", [(PRO_MOE, "pro-moe"), (EMBEDDED, "embedded")])
def test_training_sees_what_drafting_does(path, family):
    """The logits of the pseudo states in many rows at once are those of the pass that decodes."""
    model = load_model(path, dtype=torch.float32)
    batch, firp = examples(path, family, 3), Firp.load(path)
    rows = Rows(batch, firp.most)
    with torch.no_grad():
        wanted, anchor = guesses(model, firp, rows), 0
        for ids, start in batch:
            for at in range(max(start - 1, 0), len(ids) - 2):
                cache = KVCache(model.config, 1, len(ids) + firp.most)
                firp.forward(model, torch.tensor([ids[: at + 1]]), cache, 1, firp.most)
                torch.testing.assert_close(firp._logits, wanted[anchor], atol=2e-3, rtol=1e-3)
                assert cache.lengths == [at + 1]
                drafts, _ = firp.propose([*ids[: at + 1], 7], 9, Sampling())
                assert drafts == wanted[anchor].argmax(-1).tolist()
                anchor += 1
    assert anchor == len(wanted) > 6


def test_least_squares_find_the_map_there_is():
    """Of a model whose stream is the embedding, where each token follows one other, the maps are known."""
    model = load_model(PRO_MOE, dtype=torch.float32)
    batch = [([5, 9, 6, 8, 5, 9, 6, 8, 5, 9, 6, 8], 1)] * 2
    for layer in model.layers:
        for parameter in (layer.attention.o_proj.weight, layer.attention.o_proj.bias, layer.moge.down):
            parameter.data.zero_()
        layer.moge.shared_down.weight.data.zero_()
    firp = train_firp(model, [batch], layer=1, count=2, lr=0.0)
    x = stream(model, Rows(batch, 2), 1)
    states = firp.states(x[:6])
    for i in range(2):
        assert F.cosine_similarity(states[:, i], x[1 + i : 7 + i]).min() > 0.99


def test_training_brings_the_loss_down():
    model = load_model(PRO_MOE, dtype=torch.float32)
    batches = [examples(PRO_MOE, "pro-moe", 19, seed) for seed in range(25)]
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    start = train_firp(model, batches, count=2, lr=0.0)
    firp = train_firp(model, batches, count=2, lr=1e-2)
    unseen = Rows(examples(PRO_MOE, "pro-moe", 57, seed=99), 2)
    with torch.no_grad():
        assert loss_of(model, firp, unseen) < 0.8 * loss_of(model, start, unseen)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("path, family", [(PRO_MOE, "pro-moe"), (EMBEDDED, "embedded")])
def test_the_shipped_maps_guess_well(path, family):
    model, batch = load_model(path, dtype=torch.float32), examples(path, family, 60, seed=7)
    shares = accuracy(model, Firp.load(path), batch)
    assert shares[0] > 0.6 and shares[-1] > 0.3


def test_the_command(tmp_path, capsys):
    for name in ("config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((PRO_MOE / name).read_bytes())
    main(["pro-moe", str(tmp_path), "--steps", "2", "--count", "2"])
    assert "told by the pseudo states: " in capsys.readouterr().out
    assert Firp.load(tmp_path).weight.shape[0] == 2
