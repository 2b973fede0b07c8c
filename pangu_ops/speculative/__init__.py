"""Speculative decoding: what drafts tokens for a model to verify, many of them in one pass."""

from pangu_ops.speculative.drafter import Drafter
from pangu_ops.speculative.firp import Firp
from pangu_ops.speculative.model import DraftModel
from pangu_ops.speculative.ngram import NGram
from pangu_ops.speculative.sampling import uniforms

__all__ = ["DraftModel", "Drafter", "Firp", "NGram", "uniforms"]
