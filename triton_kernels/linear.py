"""linear: one dense layer, as attention_ffn has several."""

from pangu_ops import backends
from pangu_ops.ops.linear import outputs
from pangu_ops.triton_kernels.dense import dense
from pangu_ops.triton_kernels.launch import contiguous


def linear(x, weight, bias=None):
    out = outputs(x, weight, bias)
    invariant = x.element_size() == 4 or backends.is_batch_invariant()
    return dense(x.contiguous(), weight.contiguous(), out, bias=contiguous(bias), invariant=invariant)
