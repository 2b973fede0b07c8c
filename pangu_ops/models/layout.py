"""Where each tensor of a checkpoint lives in the model."""

import collections

from pangu_ops.models.config import ProMoEConfig

Slot = collections.namedtuple("Slot", "parameter index shape")
Slot.__doc__ = "Where a checkpoint's tensor lives: ``parameter[index]`` of the model, which has ``shape``."


def checkpoint_layout(config):
    """Official tensor name to :class:`Slot`, for every tensor of a checkpoint.

    The checkpoint splits q/k/v, gate/up and the experts; the model holds each of these as one parameter.
    """
    hidden = config.hidden_size
    feed_forward = moge_layout if isinstance(config, ProMoEConfig) else dense_layout
    layout = {"model.embed_tokens.weight": Slot("embed.weight", ..., (config.vocab_size, hidden))}
    for layer in range(config.num_hidden_layers):
        official, ours = f"model.layers.{layer}", f"layers.{layer}"
        layout[f"{official}.input_layernorm.weight"] = Slot(f"{ours}.input_norm", ..., (hidden,))
        layout[f"{official}.post_attention_layernorm.weight"] = Slot(f"{ours}.ffn_norm", ..., (hidden,))
        layout |= attention_layout(config, f"{official}.self_attn", f"{ours}.attention")
        layout |= feed_forward(config, f"{official}.mlp", ours)
    layout["model.norm.weight"] = Slot("norm", ..., (hidden,))
    if not config.tie_word_embeddings:
        layout["lm_head.weight"] = Slot("lm_head.weight", ..., (config.vocab_size, hidden))
    return layout


def attention_layout(config, official, ours):
    hidden, bias = config.hidden_size, getattr(config, "bias", True)
    start, layout = 0, {}
    for name, heads in (
        ("q_proj", config.num_attention_heads),
        ("k_proj", config.num_key_value_heads),
        ("v_proj", config.num_key_value_heads),
    ):
        rows = heads * config.head_dim
        part = slice(start, start + rows)
        layout[f"{official}.{name}.weight"] = Slot(f"{ours}.qkv.weight", part, (rows, hidden))
        if bias:
            layout[f"{official}.{name}.bias"] = Slot(f"{ours}.qkv.bias", part, (rows,))
        start += rows
    layout[f"{official}.o_proj.weight"] = Slot(f"{ours}.o_proj.weight", ..., (hidden, hidden))
    if bias:
        layout[f"{official}.o_proj.bias"] = Slot(f"{ours}.o_proj.bias", ..., (hidden,))
    return layout


def dense_layout(config, official, ours):
    return swiglu_layout(official, f"{ours}.gate_up", f"{ours}.down", config.hidden_size, config.intermediate_size)


def swiglu_layout(official, gate_up, down, hidden, inner):
    return {
        f"{official}.gate_proj.weight": Slot(f"{gate_up}.weight", slice(0, inner), (inner, hidden)),
        f"{official}.up_proj.weight": Slot(f"{gate_up}.weight", slice(inner, 2 * inner), (inner, hidden)),
        f"{official}.down_proj.weight": Slot(f"{down}.weight", ..., (hidden, inner)),
    }


def moge_layout(config, official, ours):
    moge, hidden, experts = f"{ours}.moge", config.hidden_size, config.num_experts
    inner, shared = config.moe_intermediate_size, config.shared_expert_intermediate_size
    layout = {
        f"{official}.gate.weight": Slot(f"{moge}.gate.weight", ..., (experts, hidden)),
        f"{official}.router_scale": Slot(f"{moge}.router_scale", ..., (1, experts)),
    }
    layout |= swiglu_layout(
        f"{official}.shared_expert", f"{moge}.shared_gate_up", f"{moge}.shared_down", hidden, shared
    )
    for half, name in enumerate(("gate_proj", "up_proj")):
        part = slice(half * inner, (half + 1) * inner)
        for expert in range(experts):
            layout[f"{official}.experts.{expert}.{name}.weight"] = Slot(
                f"{moge}.gate_up", (expert, part), (inner, hidden)
            )
    for expert in range(experts):
        layout[f"{official}.experts.{expert}.down_proj.weight"] = Slot(f"{moge}.down", expert, (hidden, inner))
    return layout
