"""Where each tensor of a Pangu Pro MoE checkpoint lives in the model."""

import collections

Slot = collections.namedtuple("Slot", "parameter index shape")
Slot.__doc__ = "Where a checkpoint's tensor lives: ``parameter[index]`` of the model, which has ``shape``."


def checkpoint_layout(config):
    """Official tensor name to :class:`Slot`, for every tensor of a checkpoint.

    The checkpoint splits q/k/v, gate/up and the experts; the model holds each of these as one parameter.
    """
    hidden, head_dim = config.hidden_size, config.head_dim
    inner, shared, experts = config.moe_intermediate_size, config.shared_expert_intermediate_size, config.num_experts
    layout = {"model.embed_tokens.weight": Slot("embed.weight", ..., (config.vocab_size, hidden))}
    for layer in range(config.num_hidden_layers):
        official, ours = f"model.layers.{layer}", f"layers.{layer}"
        layout[f"{official}.input_layernorm.weight"] = Slot(f"{ours}.input_norm", ..., (hidden,))
        layout[f"{official}.post_attention_layernorm.weight"] = Slot(f"{ours}.ffn_norm", ..., (hidden,))

        start = 0
        for name, heads in (
            ("q_proj", config.num_attention_heads),
            ("k_proj", config.num_key_value_heads),
            ("v_proj", config.num_key_value_heads),
        ):
            rows = heads * head_dim
            part = slice(start, start + rows)
            layout[f"{official}.self_attn.{name}.weight"] = Slot(f"{ours}.attention.qkv.weight", part, (rows, hidden))
            layout[f"{official}.self_attn.{name}.bias"] = Slot(f"{ours}.attention.qkv.bias", part, (rows,))
            start += rows
        layout[f"{official}.self_attn.o_proj.weight"] = Slot(f"{ours}.attention.o_proj.weight", ..., (hidden, hidden))
        layout[f"{official}.self_attn.o_proj.bias"] = Slot(f"{ours}.attention.o_proj.bias", ..., (hidden,))

        mlp, moge = f"{official}.mlp", f"{ours}.moge"
        layout[f"{mlp}.gate.weight"] = Slot(f"{moge}.gate.weight", ..., (experts, hidden))
        layout[f"{mlp}.router_scale"] = Slot(f"{moge}.router_scale", ..., (1, experts))
        for half, name in enumerate(("gate_proj", "up_proj")):
            part = slice(half * shared, (half + 1) * shared)
            layout[f"{mlp}.shared_expert.{name}.weight"] = Slot(f"{moge}.shared_gate_up.weight", part, (shared, hidden))
            part = slice(half * inner, (half + 1) * inner)
            for expert in range(experts):
                layout[f"{mlp}.experts.{expert}.{name}.weight"] = Slot(
                    f"{moge}.gate_up", (expert, part), (inner, hidden)
                )
        layout[f"{mlp}.shared_expert.down_proj.weight"] = Slot(f"{moge}.shared_down.weight", ..., (hidden, shared))
        for expert in range(experts):
            layout[f"{mlp}.experts.{expert}.down_proj.weight"] = Slot(f"{moge}.down", expert, (hidden, inner))
    layout["model.norm.weight"] = Slot("norm", ..., (hidden,))
    if not config.tie_word_embeddings:
        layout["lm_head.weight"] = Slot("lm_head.weight", ..., (config.vocab_size, hidden))
    return layout
