"""bfloat16 in Triton's interpreter as the hardware has it, and the rest of it in half the time.

The interpreter keeps bfloat16 as 16-bit integers. It multiplies them as integers in a dot, cuts float32 off instead of
rounding it, and mistakes subnormal numbers. At every call of a function it puts its own language in the place of
Triton's, which is there since the kernel began; and it looks for overflows of integers without telling of any.
"""

import dataclasses

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

_convert_float = interpreter._convert_float
_create_dot = interpreter.InterpreterBuilder.create_dot
_call_function = interpreter.InterpretedFunction.__call__


def widened(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def convert_float(data, from_dtype, to_dtype, rounding_mode):
    if (from_dtype, to_dtype) == (tl.bfloat16, tl.float32):
        return widened(data).view(np.uint32)
    if (from_dtype, to_dtype) == (tl.float32, tl.bfloat16):
        bits = np.ascontiguousarray(data).view(np.uint32)
        nearest = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # ties to even
        return np.where(np.isnan(data), np.uint16(0x7FC0), nearest)
    return _convert_float(data, from_dtype, to_dtype, rounding_mode)


def create_dot(self, a, b, *args):
    a, b = (
        interpreter.TensorHandle(widened(x.data), tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b)
    )
    return _create_dot(self, a, b, *args)


def call_function(self, *args, **kwargs):
    if tl.core.is_builtin(tl.load) or tl.core.is_builtin(tl.core.load):
        return _call_function(self, *args, **kwargs)
    return self.rewrite()(*args, **kwargs)


def mend():
    interpreter._convert_float = convert_float
    interpreter.InterpreterBuilder.create_dot = create_dot
    interpreter.InterpretedFunction.__call__ = call_function
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
