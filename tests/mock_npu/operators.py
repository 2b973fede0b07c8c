"""The operators of torch_npu that pangu_ops calls, in plain torch, as torch_npu's documentation has them.

They refuse what the documentation says that an Atlas A2 (910B) does not take.
"""

import torch
import torch.nn.functional as F

# as torch_npu 2.13.0 registers them; tests/test_npu.py compares
SCHEMAS = (
    "npu_grouped_matmul(Tensor[] x, Tensor[] weight, *, Tensor[]? bias=None, Tensor[]? scale=None, "
    "Tensor[]? offset=None, Tensor[]? antiquant_scale=None, Tensor[]? antiquant_offset=None, "
    "Tensor[]? per_token_scale=None, Tensor? group_list=None, Tensor[]? activation_input=None, "
    "Tensor[]? activation_quant_scale=None, Tensor[]? activation_quant_offset=None, int? split_item=0, "
    "int? group_type=None, int? group_list_type=0, int? act_type=0, int[]? tuning_config=None, int? output_dtype=None, "
    "int? x_dtype=None, int? weight_dtype=None, int? scale_dtype=None, int? per_token_scale_dtype=None) -> Tensor[]",
    "npu_swiglu(Tensor input, int dim=-1) -> Tensor",
    "npu_scatter_nd_update_(Tensor(a!) input, Tensor indices, Tensor updates) -> Tensor(a!)",
    "npu_fused_infer_attention_score(Tensor query, Tensor key, Tensor value, *, Tensor? pse_shift=None, "
    "Tensor? atten_mask=None, SymInt[]? actual_seq_lengths=None, SymInt[]? actual_seq_lengths_kv=None, "
    "Tensor? dequant_scale1=None, Tensor? quant_scale1=None, Tensor? dequant_scale2=None, Tensor? quant_scale2=None, "
    "Tensor? quant_offset2=None, Tensor? antiquant_scale=None, Tensor? antiquant_offset=None, "
    "Tensor? key_antiquant_scale=None, Tensor? key_antiquant_offset=None, Tensor? value_antiquant_scale=None, "
    "Tensor? value_antiquant_offset=None, Tensor? block_table=None, Tensor? query_padding_size=None, "
    "Tensor? kv_padding_size=None, Tensor? key_shared_prefix=None, Tensor? value_shared_prefix=None, "
    "SymInt[]? actual_shared_prefix_len=None, Tensor? query_rope=None, Tensor? key_rope=None, "
    "Tensor? key_rope_antiquant_scale=None, int num_heads=1, float scale=1.0, int pre_tokens=2147483647, "
    'int next_tokens=2147483647, str input_layout="BSH", int num_key_value_heads=0, int sparse_mode=0, '
    "int inner_precise=0, int block_size=0, int antiquant_mode=0, int key_antiquant_mode=0, "
    "int value_antiquant_mode=0, bool softmax_lse_flag=False) -> (Tensor, Tensor)",
)


def is_transposed(tensor):
    return tensor.stride(-2) == 1 and tensor.stride(-1) == tensor.shape[-2]


def npu_grouped_matmul(x, weight, *, group_list, split_item, group_type, group_list_type=0):
    """One x ``[M, K]``, one weight ``[E, K, N]``, one result; groups of rows that end where ``group_list`` says."""
    (x,), (weight,) = x, weight
    assert (split_item, group_type, group_list_type) == (2, 0, 0)
    assert x.dim() == 2 and x.is_contiguous() and weight.dim() == 3 and x.dtype == weight.dtype
    assert weight.is_contiguous() or is_transposed(weight) and weight[0].numel() == weight.stride(0)
    assert x.dtype in (torch.float16, torch.bfloat16, torch.float32)
    assert group_list.dtype == torch.int64 and group_list.shape == weight.shape[:1] and len(weight) <= 1024
    assert x.shape[1] < 65536 and weight.shape[1 if is_transposed(weight) else 2] < 65536
    ends = group_list.tolist()
    assert ends == sorted(ends) and ends[0] >= 0 and ends[-1] == len(x)
    parts = [x[begin:end].float() @ own.float() for begin, end, own in zip([0, *ends], ends, weight)]
    return [torch.cat(parts).to(x.dtype)]


def npu_swiglu(input, dim=-1):
    assert input.is_contiguous() and input.numel()
    first, second = input.float().chunk(2, dim)
    return (F.silu(first) * second).to(input.dtype)


def npu_scatter_nd_update_(input, indices, updates):
    assert input.dtype == updates.dtype and indices.dtype in (torch.int32, torch.int64)
    depth = indices.shape[-1]
    assert indices.dim() >= 2 and updates.shape == (*indices.shape[:-1], *input.shape[depth:])
    input[indices.long().unbind(-1)] = updates
    return input


def npu_fused_infer_attention_score(
    query,
    key,
    value,
    *,
    atten_mask,
    actual_seq_lengths,
    actual_seq_lengths_kv,
    block_table,
    num_heads,
    scale,
    input_layout,
    num_key_value_heads,
    sparse_mode,
    block_size,
):
    """Queries ``[T, N, D]`` one sequence after the other, keys and values ``[blocks, Nkv, block, D]``, causal."""
    assert (input_layout, sparse_mode) == ("TND", 3)
    assert query.dtype in (torch.float16, torch.bfloat16) and query.dtype == key.dtype == value.dtype
    assert query.is_contiguous() and key.is_contiguous() and value.is_contiguous() and key.shape == value.shape
    assert query.shape[1:] == (num_heads, 128) and key.shape[1:] == (num_key_value_heads, block_size, 128)
    assert num_heads % num_key_value_heads == 0 and num_heads <= min(256, 64 * num_key_value_heads)
    assert block_size % 128 == 0 and block_size <= 512
    assert torch.equal(atten_mask.cpu(), torch.ones(2048, 2048, dtype=torch.bool).triu(1))
    batch = len(actual_seq_lengths)
    assert block_table.dtype == torch.int32 and block_table.shape[0] == len(actual_seq_lengths_kv) == batch <= 4096
    assert 0 <= int(block_table.min()) and int(block_table.max()) < len(key)
    assert actual_seq_lengths == sorted(actual_seq_lengths) and actual_seq_lengths[-1] == len(query)
    out = torch.empty_like(query)
    for row, (begin, end, length) in enumerate(
        zip([0, *actual_seq_lengths], actual_seq_lengths, actual_seq_lengths_kv)
    ):
        assert end - begin <= length <= block_table.shape[1] * block_size
        held = block_table[row].long()
        keys, values = (cache[held].transpose(0, 1).flatten(1, 2)[:, :length].float() for cache in (key, value))
        seen = torch.ones(end - begin, length, dtype=torch.bool, device=query.device).tril(length - end + begin)
        queries = query[begin:end].transpose(0, 1).float()
        got = F.scaled_dot_product_attention(queries, keys, values, seen, scale=scale, enable_gqa=True)
        out[begin:end] = got.transpose(0, 1).to(query.dtype)
    return out, query.new_zeros(1, dtype=torch.float32)


def register():
    """Make them ``torch.ops.npu``'s, on every device; what is returned keeps them so."""
    library = torch.library.Library("npu", "DEF")
    for schema in SCHEMAS:
        name = library.define(schema)
        library.impl(name, globals()[name], "CompositeExplicitAutograd")
    return library
