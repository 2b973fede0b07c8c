"""The released models: thin wrappers over the ops that read and write the official checkpoint layout."""

from pangu_ops.models.cache import KVCache
from pangu_ops.models.config import EmbeddedConfig, ModelError, ProMoEConfig
from pangu_ops.models.embedded import EmbeddedForCausalLM
from pangu_ops.models.loader import load_model, save_pretrained
from pangu_ops.models.pro_moe import ProMoEForCausalLM

__all__ = [
    "EmbeddedConfig",
    "EmbeddedForCausalLM",
    "KVCache",
    "ModelError",
    "ProMoEConfig",
    "ProMoEForCausalLM",
    "load_model",
    "save_pretrained",
]
