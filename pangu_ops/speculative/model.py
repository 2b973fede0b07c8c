"""A smaller model of the same vocabulary drafts."""

from pathlib import Path

import torch

from pangu_ops.models.cache import KVCache
from pangu_ops.models.config import ModelError, check_file
from pangu_ops.models.loader import load_model
from pangu_ops.speculative.drafter import Drafter, shared_prefix


class DraftModel(Drafter):
    """Drafts with ``model``, such as Pangu Embedded 1B for Pangu Pro MoE.

    Args:
        model: as :func:`load_model` returns it; on the device of the model that it drafts for.
        most: longest draft.
    """

    cost = 0.2

    def __init__(self, model, most=6):
        if most < 1:
            raise ModelError(f"draft: most must be at least 1, came {most}")
        self.model, self.most = model, most
        self._cache, self._held = None, []  # and the ids in the cache

    @classmethod
    def load(cls, path, target_path, most=6, device="cpu", dtype=None):
        """The model in the directory ``path``; its tokens must be those of the model in ``target_path``."""
        files = [Path(folder) / "tokenizer.model" for folder in (path, target_path)]
        for file in files:
            check_file(file)
        if files[0].read_bytes() != files[1].read_bytes():
            raise ModelError(f"draft: tokenizer.model of {path} must be that of {target_path}, came another one")
        return cls(load_model(path, device, dtype), most)

    def check(self, model):
        own, wanted = self.model.config.vocab_size, model.config.vocab_size
        if own != wanted:
            raise ModelError(f"draft: the vocabulary must be the model's, of {wanted} tokens, came {own}")

    def propose(self, ids, count, sampling):
        room = self.model.config.max_position_embeddings - len(ids)
        count = min(count, room)
        if count < 1:
            return [], None
        weight = self.model.embed.weight
        if self._cache is None:
            self._cache = KVCache(self.model.config, 1, min(1024, len(ids) + room), weight.device, weight.dtype)
        if len(ids) + count > self._cache.max_length:
            self._cache.grow(min(len(ids) + room, 2 * (len(ids) + count)))
        shared = shared_prefix(self._held, ids[:-1])
        del self._held[shared:]  # what is held stays the cache's, even if the rest is interrupted
        self._cache.truncate(0, shared)
        self.caught_up = len(ids) - shared <= 1 + self.most
        drafts, probs, step = [], [], ids[shared:]
        for index in range(count):
            logits = self.model(torch.tensor([step], device=weight.device), cache=self._cache, last=1)[0]
            token, row = sampling.draft(logits, len(ids), index)
            if token is None:  # the verdict will not rest on what is no number
                break
            drafts.append(token)
            probs.append(row)
            if token in sampling.stop_ids:
                break
            step = [token]
        self._held = [*ids, *drafts][: self._cache.lengths[0]]
        return drafts, torch.cat(probs) if drafts and probs[0] is not None else None
