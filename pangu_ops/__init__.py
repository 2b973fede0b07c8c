"""Operators of Huawei's Pangu models for PyTorch: CPU, NVIDIA and Ascend behind ``torch.ops.pangu.*``."""

from pangu_ops.backends import batch_invariant, implementations, use
from pangu_ops.balance import imbalance_score, load_balance_loss
from pangu_ops.chat import Chat
from pangu_ops.generate import generate
from pangu_ops.models.loader import load_model
from pangu_ops.ops import (
    add_rms_norm,
    attention,
    attention_ffn,
    linear,
    moge_combine,
    moge_dispatch,
    moge_experts,
    moge_ffn,
    moge_gating,
    rms_norm,
    rotary,
    sampling_probs,
    silu_mul,
    spec_verify,
    topk_gating,
)

__version__ = "0.1.0"

__all__ = [
    "Chat",
    "add_rms_norm",
    "attention",
    "attention_ffn",
    "batch_invariant",
    "generate",
    "imbalance_score",
    "implementations",
    "linear",
    "load_balance_loss",
    "load_model",
    "moge_combine",
    "moge_dispatch",
    "moge_experts",
    "moge_ffn",
    "moge_gating",
    "rms_norm",
    "rotary",
    "sampling_probs",
    "silu_mul",
    "spec_verify",
    "topk_gating",
    "use",
]
