"""Every operator of ``torch.ops.pangu`` on one screen.

T tokens, H hidden, E experts, G groups, k experts per group, K = G*k slots per token, I expert intermediate,
B sequences, Hq and Hk query and KV heads, D head size, N draft tokens, V vocabulary.
"""

SCHEMAS = (
    # which experts: k of every group, for every token
    "moge_gating(Tensor logits, int num_groups, int topk_per_group, str score_function='softmax', "
    "Tensor? correction_bias=None, Tensor? expert_scale=None, bool renormalize=False, "
    "float scaling_factor=1.0) -> (Tensor weights, Tensor expert_ids)",
    # tokens to experts and back
    "moge_dispatch(Tensor x, Tensor expert_ids, int num_experts, int num_groups) "
    "-> (Tensor rows, Tensor slot_rows, Tensor expert_offsets)",
    "moge_combine(Tensor rows, Tensor weights, Tensor slot_rows, Tensor? addend=None) -> Tensor",
    "moge_combine_backward(Tensor grad, Tensor rows, Tensor weights, Tensor slot_rows) "
    "-> (Tensor grad_rows, Tensor grad_weights)",
    # the experts
    "moge_experts(Tensor rows, Tensor expert_offsets, Tensor gate_up, Tensor down) -> Tensor",
    "moge_experts_backward(Tensor grad, Tensor rows, Tensor expert_offsets, Tensor gate_up, Tensor down) "
    "-> (Tensor grad_rows, Tensor grad_gate_up, Tensor grad_down)",
    "moge_ffn(Tensor x, Tensor weights, Tensor expert_ids, Tensor gate_up, Tensor down, int num_groups, "
    "Tensor? addend=None) -> Tensor",
    # attention over a paged KV cache, alone and in a dense decoder block; both write the new keys and values
    "attention(Tensor q, Tensor k, Tensor v, Tensor(a!) key_cache, Tensor(b!) value_cache, Tensor block_table, "
    "Tensor context_lens, Tensor query_starts, float? scale=None) -> Tensor",
    "attention_ffn(Tensor x, Tensor input_norm, Tensor qkv_weight, Tensor? qkv_bias, Tensor o_weight, Tensor? o_bias, "
    "Tensor ffn_norm, Tensor gate_up, Tensor down, Tensor cos, Tensor sin, Tensor(a!) key_cache, "
    "Tensor(b!) value_cache, Tensor block_table, Tensor context_lens, Tensor query_starts, float eps=1e-5) -> Tensor",
    # from logits to tokens
    "sampling_probs(Tensor logits, Tensor temperature, Tensor top_k, Tensor top_p) -> Tensor",
    "spec_verify(Tensor draft_ids, Tensor parents, Tensor target, Tensor? draft_probs=None, Tensor? uniforms=None, "
    "str method='rejection', float typical_threshold=0.09, float typical_alpha=0.3) "
    "-> (Tensor token_ids, Tensor num_accepted, Tensor accepted_nodes)",
    # the small ones
    "linear(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor",
    "rms_norm(Tensor x, Tensor weight, float eps=1e-5) -> Tensor",
    "add_rms_norm(Tensor x, Tensor residual, Tensor weight, float eps=1e-5) -> (Tensor normed, Tensor sum)",
    "rotary(Tensor q, Tensor k, Tensor cos, Tensor sin) -> (Tensor q, Tensor k)",
    "silu_mul(Tensor gate_up) -> Tensor",
)

OPS = tuple(schema.split("(", 1)[0] for schema in SCHEMAS)
