"""What a checkpoint's config.json says, checked once; and the error of everything that cannot be run."""

import dataclasses
import json
import reprlib
import stat
import sys
from pathlib import Path
from typing import ClassVar


class ModelError(ValueError):
    """A checkpoint or a request that cannot be run; the message is one sentence for the user."""


@dataclasses.dataclass
class DecoderConfig:
    """What both models have; the fields are those of the official config.json."""

    vocab_size: int = 153376
    hidden_size: int = 4096
    num_hidden_layers: int = 34
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    max_position_embeddings: int = 32768
    rope_theta: float = 16000000.0
    rms_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    bos_token_id: int = 1
    eos_token_id: int = 45892
    pad_token_id: int = 0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            self._check_value(field.name, field.type, getattr(self, field.name))
        heads = self.num_attention_heads
        need(self.num_hidden_layers <= 1024, "num_hidden_layers must be at most 1024", self.num_hidden_layers)
        for name in ("bos_token_id", "pad_token_id"):
            need(getattr(self, name) < self.vocab_size, f"{name} must be below vocab_size", getattr(self, name))
        need(
            self.hidden_size % (2 * heads) == 0,
            "hidden_size must be a multiple of 2 * num_attention_heads",
            f"{self.hidden_size} and {heads} heads",
        )
        need(
            heads % self.num_key_value_heads == 0,
            "num_key_value_heads must divide num_attention_heads",
            f"{self.num_key_value_heads} for {heads}",
        )

    def _check_value(self, name, kind, value):
        if kind is bool:
            need(isinstance(value, bool), f"{name} must be true or false", value)
        elif kind is float:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            need(number and 0 < value <= sys.float_info.max, f"{name} must be a positive number", value)
            setattr(self, name, float(value))
        elif value is not None or name != "num_groups":
            least = 0 if name.endswith("token_id") else 1
            whole = isinstance(value, int) and not isinstance(value, bool)
            need(whole and value >= least, f"{name} must be an integer of at least {least}", value)
            need(value < 2**31, f"{name} must be at most 2147483647", value)

    @property
    def head_dim(self):
        return self.hidden_size // self.num_attention_heads

    def official(self, dtype):
        """The fields of config.json for weights of ``dtype``, with those that only the official code reads."""
        return {
            "architectures": [self.ARCHITECTURE],
            "model_type": self.MODEL_TYPE,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            **self.OFFICIAL_ONLY,
            "torch_dtype": str(dtype).removeprefix("torch."),
            "use_cache": True,
        } | dataclasses.asdict(self)


@dataclasses.dataclass
class EmbeddedConfig(DecoderConfig):
    """Pangu Embedded; the defaults are those of the released 7B model. ``bias`` is that of q, k, v and o."""

    ARCHITECTURE: ClassVar = "PanguEmbeddedForCausalLM"
    MODEL_TYPE: ClassVar = "PanguEmbedded"
    NAME: ClassVar = "Pangu Embedded"
    OFFICIAL_ONLY: ClassVar = {}
    # the value that this arithmetic has, of fields that belong to other architectures
    FIXED: ClassVar = {"hidden_act": "silu", "mlp_bias": False}

    intermediate_size: int = 12800
    bias: bool = True


@dataclasses.dataclass
class ProMoEConfig(DecoderConfig):
    """Pangu Pro MoE; the defaults are those of the released 72B model.

    The official code has no field for the groups: it takes one expert out of each of 8. Without ``num_groups`` there
    are as many groups as experts per token; with it, ``num_experts_per_tok / num_groups`` are taken out of each.
    """

    ARCHITECTURE: ClassVar = "PanguProMoEForCausalLM"
    MODEL_TYPE: ClassVar = "PanguProMoE"
    NAME: ClassVar = "Pangu Pro MoE"
    OFFICIAL_ONLY: ClassVar = {"output_router_logits": False, "router_aux_loss_coef": 0.001}
    FIXED: ClassVar = {
        "hidden_act": "silu",
        "norm_topk_prob": False,
        "routed_scaling_factor": 1,
        "attention_bias": True,
    }

    hidden_size: int = 5120
    num_hidden_layers: int = 48
    num_attention_heads: int = 40
    max_position_embeddings: int = 131072
    num_experts: int = 64
    num_experts_per_tok: int = 8
    moe_intermediate_size: int = 1344
    shared_expert_intermediate_size: int = 5376
    num_groups: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.num_groups is None:
            self.num_groups = self.num_experts_per_tok
        groups, experts = self.num_groups, self.num_experts
        need(experts <= 1024, "num_experts must be at most 1024", experts)
        experts_in_all = self.num_hidden_layers * experts
        need(experts_in_all <= 2**16, "num_hidden_layers * num_experts must be at most 65536", experts_in_all)
        need(experts % groups == 0, "the number of groups must divide num_experts", f"{groups} for {experts}")
        need(
            self.num_experts_per_tok % groups == 0 and self.num_experts_per_tok <= experts,
            "num_experts_per_tok must be a multiple of the number of groups and at most num_experts",
            f"{self.num_experts_per_tok} with {groups} groups of {experts} experts",
        )

    @property
    def topk_per_group(self):
        return self.num_experts_per_tok // self.num_groups

    def official(self, dtype):
        fields = super().official(dtype)
        if self.num_groups == self.num_experts_per_tok:
            del fields["num_groups"]
        return fields


CONFIGS = {config.ARCHITECTURE: config for config in (EmbeddedConfig, ProMoEConfig)}

# Fields that would change the arithmetic in ways this package does not have; absent or empty in the released model.
UNSUPPORTED = ("rope_scaling", "rope_parameters", "quantization_config", "sliding_window", "mlp_only_layers")


SHOWN = reprlib.Repr()
SHOWN.maxstring = 80


def need(condition, rule, came):
    """Raise ``config.json: rule, came ...`` unless ``condition`` holds."""
    if not condition:
        raise ModelError(f"config.json: {rule}, came {SHOWN.repr(came)}")


def check_file(path):
    """Refuse what is not a regular file: a pipe would wait for ever."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        raise ModelError(f"{path.name}: must be in {path.parent}, which has no such file") from None
    except OSError as error:
        raise ModelError(f"{path.name}: must be a regular file in {path.parent}, came: {error.strerror}") from None
    if not regular:
        raise ModelError(f"{path.name}: must be a regular file, came something else")


def read_json(path):
    """The object in a JSON file."""
    check_file(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name}: must be JSON, came a file that is not: {error}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path.name}: must be a JSON object, came {type(data).__name__}")
    return data


def read_config(path):
    """The :class:`EmbeddedConfig` or :class:`ProMoEConfig` of the checkpoint directory ``path``."""
    data = read_json(Path(path) / "config.json")
    named = data.get("architectures")
    kind = CONFIGS.get(named[0]) if isinstance(named, list) and len(named) == 1 and type(named[0]) is str else None
    need(kind is not None, f"architectures must hold one of {', '.join(CONFIGS)}", named)
    for name, value in kind.FIXED.items():
        need(data.get(name, value) in (None, value), f"{name} must be {value!r}", data.get(name))
    for name in UNSUPPORTED:
        need(not data.get(name), f"{name} must be absent or empty", data.get(name))
    known = {field.name for field in dataclasses.fields(kind)}
    config = kind(**{name: value for name, value in data.items() if name in known})
    need(
        data.get("head_dim") in (None, config.head_dim),
        f"head_dim must be hidden_size / num_attention_heads = {config.head_dim}",
        data.get("head_dim"),
    )
    return config
