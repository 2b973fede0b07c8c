"""One page per op; importing a page registers its op."""

from pangu_ops.ops.add_rms_norm import add_rms_norm
from pangu_ops.ops.attention import attention
from pangu_ops.ops.attention_ffn import attention_ffn
from pangu_ops.ops.linear import linear
from pangu_ops.ops.moge_combine import moge_combine
from pangu_ops.ops.moge_dispatch import moge_dispatch
from pangu_ops.ops.moge_experts import moge_experts
from pangu_ops.ops.moge_ffn import moge_ffn
from pangu_ops.ops.moge_gating import moge_gating, topk_gating
from pangu_ops.ops.rms_norm import rms_norm
from pangu_ops.ops.rotary import rotary
from pangu_ops.ops.sampling_probs import sampling_probs
from pangu_ops.ops.silu_mul import silu_mul
from pangu_ops.ops.spec_verify import spec_verify

__all__ = [
    "add_rms_norm",
    "attention",
    "attention_ffn",
    "linear",
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
]
