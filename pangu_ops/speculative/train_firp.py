"""Train the maps of :class:`Firp` for a model, which stays as it is."""

import torch
import torch.nn.functional as F
from tqdm import tqdm

from pangu_ops.ops.rotary import rotary_table
from pangu_ops.speculative.firp import Firp

RIDGE = 1e-2  # of the mean square of the states, for the least squares


class Rows:
    """Several texts as rows of one pass: their tokens first, then k pseudo states after each of some tokens.

    ``texts`` are ``(ids, start)``: the tokens from ``start`` on are to be guessed. A pseudo state sees the tokens up to
    the one that it follows, and its fellows before it.
    """

    def __init__(self, texts, count):
        tokens = [(text, at) for text, (ids, _) in enumerate(texts) for at in range(len(ids))]
        rows = {token: row for row, token in enumerate(tokens)}
        # Pseudo state i + 1 after token `at` tells token at + i + 2.
        anchors = [
            (text, at) for text, (ids, start) in enumerate(texts) for at in range(max(start - 1, 0), len(ids) - 2)
        ]
        self.ids = torch.tensor([texts[text][0][at] for text, at in tokens])
        self.anchors = torch.tensor([rows[anchor] for anchor in anchors])
        self.labels = torch.tensor(
            [
                [ids[at + i + 2] if at + i + 2 < len(ids) else -100 for i in range(count)]
                for ids, at in ((texts[text][0], at) for text, at in anchors)
            ]
        )
        every = tokens + [anchor for anchor in anchors for _ in range(count)]
        text, at = torch.tensor(every).T
        order = torch.cat([torch.zeros(len(tokens)), torch.arange(1, count + 1).repeat(len(anchors))])
        self.positions = at + order.long()
        real = order == 0
        # of row r (down) and column c (across)
        sees_tokens = real & (at[None, :] <= at[:, None])
        sees_fellows = ~real & (at[None, :] == at[:, None]) & (order[None, :] <= order[:, None])
        self.mask = (text[None, :] == text[:, None]) & (sees_tokens | sees_fellows)

    def attend(self, layer, q, k, v):
        mask = self.mask[: len(q), : len(q)]
        q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))  # [1, heads, T, D]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1)


def stream(model, rows, layer):
    """The tokens' states before ``layer``."""
    config, new = model.config, len(rows.ids)
    table = rotary_table(rows.positions[:new], config.head_dim, config.rope_theta)
    return model.run(model.embed(rows.ids), *table, rows, last=layer)[0]


def least_squares(model, batches, layer, count):
    """Maps that come closest to the future states themselves."""
    hidden = model.config.hidden_size
    gram, moment = torch.zeros(count, hidden + 1, hidden + 1), torch.zeros(count, hidden + 1, hidden)
    for texts in batches:
        rows = Rows(texts, count)
        x = F.pad(stream(model, rows, layer), (0, 1), value=1.0)
        for i in range(count):
            known = rows.labels[:, i] >= 0  # the token whose state it is comes one before
            now, then = x[rows.anchors[known]], x[rows.anchors[known] + i + 1, :-1]
            gram[i] += now.T @ now
            moment[i] += now.T @ then
    scale = gram.diagonal(dim1=1, dim2=2).mean(1)
    solved = torch.linalg.solve(gram + RIDGE * scale[:, None, None] * torch.eye(hidden + 1), moment)  # [k, H + 1, H]
    return solved[:, :-1].transpose(1, 2).contiguous(), solved[:, -1].contiguous()


def train_firp(model, batches, layer=None, count=4, lr=1e-3):
    """A :class:`Firp` for ``model``, in float32.

    Args:
        model: with float32 weights; they stay as they are.
        batches: a list of lists of ``(ids, start)``, texts such as the model itself makes, of which the tokens from
            ``start`` on are learnt. The first tenth gives the maps by least squares, then each batch is a step of Adam
            on the cross entropy of the tokens that the pseudo states tell.
        layer: the number of layers before the pseudo states; half of them by default.
        count: pseudo states k.
        lr: of Adam, at its height.
    """
    config = model.config
    layer = config.num_hidden_layers // 2 if layer is None else layer
    with torch.no_grad():
        weight, bias = least_squares(model, batches[: max(1, len(batches) // 10)], layer, count)
    firp = Firp(weight.requires_grad_(), bias.requires_grad_(), layer)
    firp.check(model)
    optimizer = torch.optim.Adam([firp.weight, firp.bias], lr)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for texts in (progress := tqdm(batches, "firp", disable=None)):
        loss = loss_of(model, firp, Rows(texts, count))
        firp.weight.grad, firp.bias.grad = torch.autograd.grad(loss, [firp.weight, firp.bias])
        optimizer.step()
        rates.step()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return Firp(weight.detach(), bias.detach(), layer)


def guesses(model, firp, rows):
    """Logits ``[A, k, V]`` of the pseudo states after the A anchors."""
    config, new, count = model.config, len(rows.ids), firp.most
    with torch.no_grad():
        x = stream(model, rows, firp.layer)
    x = torch.cat([x, firp.states(x[rows.anchors]).flatten(0, 1)])
    table = rotary_table(rows.positions, config.head_dim, config.rope_theta)
    _, hidden = model.run(x, *table, rows, first=firp.layer)
    return model.lm_head(hidden[new:]).unflatten(0, (-1, count))


def loss_of(model, firp, rows):
    return F.cross_entropy(guesses(model, firp, rows).flatten(0, 1), rows.labels.flatten())
