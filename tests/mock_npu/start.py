"""Gives torch the device "npu" that is built of this folder's sources, as import torch does where torch_npu is."""

import ctypes
import importlib.machinery
import os
import sys
import types

import operators
import torch

for library in os.environ["MOCK_LIBRARIES"].split(os.pathsep):
    loaded = ctypes.CDLL(library)
loaded.npu_calls.restype = ctypes.c_char_p


def calls():
    """The calls of torch_npu since the last time, a line each."""
    return loaded.npu_calls().decode().splitlines()


def module(name, **attributes):
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(made).update(attributes)
    return made


sys.modules["torch_npu"] = module("torch_npu")
torch.utils.rename_privateuse1_backend("npu")
torch._register_device_module(
    "npu",
    module(
        "torch.npu",
        is_available=lambda: True,
        device_count=lambda: 8,
        current_device=lambda: 0,
        get_device_name=lambda device=None: os.environ["MOCK_SOC"],
    ),
)
library = operators.register()
