"""Checkpoint directories in the official layout: check, load, save."""

import collections
import json
import math
import os
import reprlib
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from pangu_ops.models.config import EmbeddedConfig, ModelError, ProMoEConfig, check_file, read_config, read_json
from pangu_ops.models.embedded import EmbeddedForCausalLM
from pangu_ops.models.layout import checkpoint_layout
from pangu_ops.models.pro_moe import ProMoEForCausalLM

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
MODELS = {EmbeddedConfig: EmbeddedForCausalLM, ProMoEConfig: ProMoEForCausalLM}
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}

MAX_HEADER = 100_000_000  # bytes, as the safetensors library has it
CHUNK = 2**20  # values read at once: whole tensors would take memory beside the model

Stored = collections.namedtuple("Stored", "file dtype shape offset")
Summary = collections.namedtuple("Summary", "config total active kv_values tensors files")


def load_model(path, device="cpu", dtype=None):
    """The model of the checkpoint directory ``path``, in eval mode and without gradients.

    Weights are read a few MB at a time, straight into the parameters. ``dtype`` is float32, bfloat16 or float16;
    None keeps that of the checkpoint's embedding. Raises :class:`ModelError` for what cannot be loaded.
    """
    from tqdm import tqdm

    path = Path(path)
    config = read_config(path)
    stored = stored_tensors(path)
    layout = checkpoint_layout(config)
    check_tensors(config, layout, stored)
    if dtype is None:
        dtype = DTYPES[stored["model.embed_tokens.weight"].dtype]
    if dtype not in DTYPES.values():
        raise ModelError(f"load_model: dtype must be float32, bfloat16 or float16, came {dtype}")
    with torch.device(device):
        model = MODELS[type(config)](config, dtype, initialize=False)
    model.eval().requires_grad_(False)
    parameters = dict(model.named_parameters())
    for name, slot in tqdm(layout.items(), "loading", unit=" tensors", disable=not sys.stderr.isatty(), leave=False):
        read_tensor(stored[name], parameters[slot.parameter][slot.index])
    return model


def inspect(path):
    """Check the directory ``path`` without reading a weight: every tensor's name, shape and dtype.

    Returns a ``Summary``: parameters in ``total`` and ``active`` for one token, ``kv_values`` (numbers that a token
    leaves in the KV cache), and the ``tensors`` and ``files`` checked, none for a directory that holds no weights.
    Raises what :func:`load_model` would raise.
    """
    path = Path(path)
    config = read_config(path)
    layout, stored = checkpoint_layout(config), {}
    if (path / INDEX).exists() or any(path.glob("*.safetensors")):
        stored = stored_tensors(path)
        check_tensors(config, layout, stored)
    routed = sum(math.prod(slot.shape) for name, slot in layout.items() if ".experts." in name)
    total = sum(math.prod(slot.shape) for slot in layout.values())
    active = total
    if routed:  # no rounding: every expert has the same size
        active -= routed // config.num_experts * (config.num_experts - config.num_experts_per_tok)
    kv_values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return Summary(config, total, active, kv_values, len(stored), len({tensor.file for tensor in stored.values()}))


def read_tensor(stored, parameter):
    """Read the :class:`Stored` tensor into ``parameter``, contiguous and of any dtype and device."""
    with open(stored.file, "rb") as file:
        file.seek(stored.offset)
        for part in parameter.view(-1).split(CHUNK):
            values = torch.empty(part.shape, dtype=DTYPES[stored.dtype])
            if file.readinto(values.view(torch.uint8).numpy()) != values.nbytes:
                raise ModelError(f"{stored.file.name}: must stay as it is while it is read, came a shorter one")
            part.copy_(values)


def stored_tensors(path):
    """Tensor name to :class:`Stored`, from the headers of the directory's safetensors files."""
    if not (path / INDEX).exists():
        if not (path / SINGLE).exists():
            raise ModelError(f"weights: {SINGLE} or {INDEX} must be in {path}, which has neither")
        return read_header(path / SINGLE)
    files = read_json(path / INDEX).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise ModelError(f"{INDEX}: weight_map must map tensor names to file names, came something else")
    headers = {}
    for file in dict.fromkeys(files.values()):
        if not file.isprintable() or file != os.path.basename(file) or not file.endswith(".safetensors"):
            raise ModelError(f"{INDEX}: weight_map must name .safetensors files beside it, came {reprlib.repr(file)}")
        headers[file] = read_header(path / file)
    return {name: headers[file][name] for name, file in files.items() if name in headers[file]}


def read_header(path):
    """Tensor name to :class:`Stored`, for a safetensors file whose data is all there."""
    check_file(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ModelError(f"{path.name}: must be a whole safetensors file, came one cut off in its header")
        if length > MAX_HEADER:
            raise ModelError(f"{path.name}: must have a header of at most {MAX_HEADER} bytes, came {length}")
        text = file.read(length)
    broken = ModelError(f"{path.name}: must be a safetensors file, came one with a broken header")
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        entries = [(name, entry["dtype"], entry["shape"], entry["data_offsets"]) for name, entry in header.items()]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise broken from None
    for name, dtype, shape, offsets in entries:
        names = name.isprintable() and isinstance(dtype, str) and dtype.isprintable()
        if not names or not are_sizes(shape) or not are_sizes(offsets) or len(offsets) != 2:
            raise broken
    tensors, filled = {}, 0
    for name, dtype, shape, (begin, end) in sorted(entries, key=lambda entry: entry[3]):
        if begin != filled or end < begin:
            raise ModelError(f"{name}: must begin at byte {filled} of the data, came bytes {begin} to {end}")
        if dtype in DTYPES and end - begin != math.prod(shape) * DTYPES[dtype].itemsize:
            raise ModelError(f"{name}: must fill its {shape} of {dtype}, came {end - begin} bytes")
        tensors[name] = Stored(path, dtype, tuple(shape), 8 + length + begin)
        filled = end
    if size != 8 + length + filled:
        raise ModelError(f"{path.name}: must have the {8 + length + filled} bytes its header promises, came {size}")
    return tensors


def are_sizes(value):
    """Whether ``value`` is a list of a few sizes; without the bounds their product could take hours."""
    return isinstance(value, list) and len(value) <= 8 and all(type(n) is int and 0 <= n < 2**63 for n in value)


def check_tensors(config, layout, stored):
    """Refuse tensors that are not in the layout, and those of the layout that are not stored as it says."""
    for name in stored:
        unused = name.endswith("rotary_emb.inv_freq") or (config.tie_word_embeddings and name == "lm_head.weight")
        if name not in layout and not unused:
            raise ModelError(f"{name}: must be a tensor of {config.NAME}, came in {stored[name].file.name}")
    for name, slot in layout.items():
        if name not in stored:
            raise ModelError(f"{name}: must be stored with shape {list(slot.shape)}, came nothing")
        if stored[name].shape != slot.shape:
            raise ModelError(f"{name}: must have shape {list(slot.shape)}, came {list(stored[name].shape)}")
        if stored[name].dtype not in DTYPES:
            raise ModelError(f"{name}: must be stored as {', '.join(DTYPES)}, came {stored[name].dtype}")


def save_pretrained(model, path, dtype=None, max_shard_bytes=None):
    """Write ``model`` to the directory ``path`` in the official layout: config.json and safetensors files.

    ``dtype`` converts the weights (``router_scale`` stays float32), None keeps them. With ``max_shard_bytes`` there are
    as many files as that takes, and an index. Every file gets its name only once all are written.
    """
    from safetensors.torch import save_file

    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    dtype = dtype or model.embed.weight.dtype
    kinds = {name: torch.float32 if name.endswith("router_scale") else dtype for name in parameters}
    layout = checkpoint_layout(model.config)
    sizes = {name: math.prod(slot.shape) * kinds[slot.parameter].itemsize for name, slot in layout.items()}

    shards, filled = [[]], 0
    for name in layout:
        if max_shard_bytes is not None and shards[-1] and filled + sizes[name] > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += sizes[name]
    names = (
        [SINGLE]
        if max_shard_bytes is None
        else [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    )
    texts = {"config.json": model.config.official(dtype)}
    if max_shard_bytes is not None:
        weight_map = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        texts[INDEX] = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=path) as staging:
        staging = Path(staging)
        for file, data in texts.items():
            (staging / file).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        for file, shard in zip(names, shards, strict=True):
            slots = {name: layout[name] for name in shard}
            tensors = {
                name: parameters[slot.parameter][slot.index].to(kinds[slot.parameter], copy=True).cpu()
                for name, slot in slots.items()
            }
            save_file(tensors, staging / file, metadata={"format": "pt"})
            shutil.copymode(staging / "config.json", staging / file)  # save_file's is for the owner alone
        if max_shard_bytes is None:
            (path / INDEX).unlink(missing_ok=True)  # of an earlier save: it would go before the single file
        for file in (*names, *texts):
            os.replace(staging / file, path / file)
