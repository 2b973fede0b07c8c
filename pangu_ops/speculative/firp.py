"""Future hidden states, predicted in the middle of the model, draft in its own pass (FIRP, arXiv 2410.20488)."""

import os
from pathlib import Path

import torch

from pangu_ops.models.config import ModelError
from pangu_ops.models.decoder import Cached
from pangu_ops.speculative.drafter import Drafter


class Firp(Drafter):
    """Drafts with pseudo states: guesses at what the next tokens' states will be before layer ``layer``.

    In a pass over the tokens up to position P, linear maps of the last token's state there give pseudo states of the
    positions P + 1 to P + k; they go through the remaining layers as further rows of the same pass, and the head reads
    the tokens P + 2 to P + k + 1 from them. Their keys and values are forgotten after the pass.

    A draft follows the last token of the pass that it was made in, so after a rejection one pass makes one token and
    the next draft. (Drafts after every node would need attention over a tree.)

    Args:
        weight: ``[k, H, H]``, the maps.
        bias: ``[k, H]``.
        layer: the number of layers before them.
    """

    cost, in_pass = 0.0, True
    FILE = "firp.safetensors"

    def __init__(self, weight, bias, layer):
        self.weight, self.bias, self.layer = weight, bias, layer
        self.most = len(weight)
        self._after, self._logits = -1, None  # the sequence's length that the pseudo states follow, and [k, V]

    @classmethod
    def load(cls, path, device="cpu"):
        """The maps beside the checkpoint in the directory ``path``."""
        from safetensors import SafetensorError, safe_open

        file = Path(path) / cls.FILE
        if not file.exists():
            raise ModelError(f"draft: {cls.FILE} must be in {path}, came without it")
        try:
            with safe_open(file, "pt", device=str(device)) as stored:
                tensors = {name: stored.get_tensor(name) for name in ("weight", "bias")}
                return cls(**tensors, layer=int(stored.metadata()["layer"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{cls.FILE}: must hold weight, bias and the layer, came others: {error}") from None

    def save(self, path):
        from safetensors.torch import save

        file = Path(path) / self.FILE
        scratch = file.with_suffix(".tmp")
        scratch.write_bytes(save({"weight": self.weight, "bias": self.bias}, {"layer": str(self.layer)}))
        os.replace(scratch, file)

    def check(self, model):
        self._after = -1  # of an earlier text
        hidden, layers = model.config.hidden_size, model.config.num_hidden_layers
        shape = (len(self.weight), hidden, hidden)
        if self.weight.shape != shape or self.bias.shape != shape[:2] or not 0 < self.layer < layers:
            came = f"maps {list(self.weight.shape)} before layer {self.layer}"
            raise ModelError(
                f"draft: maps must be [k, {hidden}, {hidden}] before a layer from 1 to {layers - 1}, came {came}"
            )

    def states(self, x):
        """``[T, k, H]``, the pseudo states after ``x [T, H]``."""
        x = x.to(self.weight.dtype)
        return torch.einsum("khi,ti->tkh", self.weight, x) + self.bias

    def propose(self, ids, count, sampling):
        if len(ids) != self._after:
            return [], None
        drafts, probs = [], []
        for index in range(min(count, len(self._logits))):
            token, row = sampling.draft(self._logits[index : index + 1], len(ids), index)
            if token is None:
                break
            drafts.append(token)
            probs.append(row)
            if token in sampling.stop_ids:
                break
        return drafts, torch.cat(probs) if drafts and probs[0] is not None else None

    def forward(self, model, ids, cache, last, count):
        before, new = cache.lengths[0], ids.shape[1]
        room = min(cache.room(0), model.config.max_position_embeddings - before) - new
        count = min(count, room, self.most)
        self._after = -1
        if count < 1:
            return model(ids, cache=cache, last=last)
        try:
            batch = cache.extend([new + count])
            cos, sin = model.rotary(batch)
            real = batch._replace(
                context_lens=batch.context_lens - count, query_starts=batch.query_starts.clamp(max=new)
            )
            x, _ = model.run(model.embed(ids[0]), cos[:new], sin[:new], Cached(cache, real), last=self.layer)
            x = torch.cat([x, self.states(x[-1:])[0, :count].to(x.dtype)])
            _, hidden = model.run(x, cos, sin, Cached(cache, batch), first=self.layer)
            logits = model.lm_head(hidden[-(last + count) :]).float()
        except BaseException:
            cache.truncate(0, before)
            raise
        cache.truncate(0, before + new)
        self._after, self._logits = before + new + 1, logits[-count:]
        return logits[None, :last]
