"""Triton kernels for NVIDIA GPUs, one module per op; installed as ``pangu_ops.triton_kernels``."""
