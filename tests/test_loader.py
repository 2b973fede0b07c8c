"""Checkpoint directories: what is read, what is refused, what it costs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import pangu_ops
from pangu_ops.models import ModelError, ProMoEConfig, ProMoEForCausalLM, loader, save_pretrained
from pangu_ops.models.config import read_config
from pangu_ops.models.loader import inspect

TINY = Path(__file__).parent / "data" / "pro-moe-tiny"
INDEX = "model.safetensors.index.json"
IDS = torch.arange(20).reshape(2, 10)
SIZES = {"F32": 4, "BF16": 2}


def small(**changes):
    torch.manual_seed(0)
    sizes = dict(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=8,
        num_experts_per_tok=4,
        moe_intermediate_size=6,
        shared_expert_intermediate_size=10,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    model = ProMoEForCausalLM(ProMoEConfig(**sizes | changes))
    with torch.no_grad():
        for layer in model.layers:
            layer.moge.router_scale.uniform_(0.5, 2)
    return model.requires_grad_(False)  # as a loaded model: training takes another path, with other rounding


@pytest.fixture
def saved(tmp_path):
    """A small checkpoint in several files."""
    save_pretrained(small(), tmp_path, max_shard_bytes=15_000)
    return tmp_path


def same(model, other):
    return all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), other.parameters(), strict=True))


def edit_config(path, **fields):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | fields))


def edit_tensors(path, change):
    """Apply ``change`` to the dict of tensors of a directory with a single file."""
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")


def test_a_sharded_checkpoint_comes_back_bit_for_bit(saved):
    index = json.loads((saved / INDEX).read_text())
    shards = sorted(path.name for path in saved.glob("*.safetensors"))
    assert len(shards) > 1 and sorted(set(index["weight_map"].values())) == shards
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    assert index["metadata"]["total_size"] == sum(parameter.nbytes for parameter in small().parameters())
    assert all((saved / shard).stat().st_size < 25_000 for shard in shards)
    assert same(pangu_ops.load_model(saved), small())
    assert sorted(path.name for path in saved.iterdir()) == sorted(["config.json", INDEX, *shards])  # no left-overs


def test_a_single_file_replaces_the_shards(saved):
    model = small(num_hidden_layers=1)
    save_pretrained(model, saved)
    assert not (saved / INDEX).exists() and same(pangu_ops.load_model(saved), model)


def test_the_saver_writes_the_official_layout(tmp_path):
    """The golden checkpoint, through our model and back: the same tensors under the same names."""
    save_pretrained(pangu_ops.load_model(TINY), tmp_path)
    ours, official = load_file(tmp_path / "model.safetensors"), load_file(TINY / "model.safetensors")
    assert ours.keys() == official.keys()
    assert all(torch.equal(ours[name], official[name]) for name in official)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == json.loads((TINY / "config.json").read_text())


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_the_router_scale_keeps_its_bits(tmp_path, stored):
    """Stored in float32 or bfloat16, it is float32 in a bfloat16 model, and saved as such."""
    save_pretrained(small(), tmp_path, dtype=torch.bfloat16)
    name = "model.layers.1.mlp.router_scale"
    edit_tensors(tmp_path, lambda tensors: tensors.update({name: tensors[name].to(stored)}))
    expected = small().layers[1].moge.router_scale.to(stored).float()
    model = pangu_ops.load_model(tmp_path)
    assert model.layers[0].moge.gate_up.dtype == torch.bfloat16
    assert torch.equal(model.layers[1].moge.router_scale, expected)
    save_pretrained(model, tmp_path)
    again = load_file(tmp_path / "model.safetensors")[name]
    assert again.dtype == torch.float32 and torch.equal(again, expected)


def test_dtype_is_that_of_the_checkpoint_or_the_one_asked_for(tmp_path):
    save_pretrained(small(), tmp_path, dtype=torch.bfloat16)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert pangu_ops.load_model(tmp_path).embed.weight.dtype == torch.bfloat16
    for dtype in (torch.float32, torch.float16):
        model = pangu_ops.load_model(tmp_path, dtype=dtype)
        assert model.embed.weight.dtype == model.layers[0].input_norm.dtype == dtype
        assert torch.equal(model.norm, small().norm.to(dtype)) and model(IDS).isfinite().all()
    with pytest.raises(ModelError, match="dtype must be float32, bfloat16 or float16, came torch.int8"):
        pangu_ops.load_model(tmp_path, dtype=torch.int8)


def test_inv_freq_is_ignored(tmp_path):
    save_pretrained(small(), tmp_path)
    junk = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.full((2,), 9.0) for layer in range(2)}
    edit_tensors(tmp_path, lambda tensors: tensors.update(junk))
    assert same(pangu_ops.load_model(tmp_path), small())


@pytest.mark.parametrize("head_stored", [False, True])
def test_tied_embeddings(tmp_path, head_stored):
    model = small(tie_word_embeddings=True)
    save_pretrained(model, tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    if head_stored:
        edit_tensors(tmp_path, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(40, 16)}))
    loaded = pangu_ops.load_model(tmp_path)
    assert loaded.lm_head.weight is loaded.embed.weight and torch.equal(loaded(IDS), model(IDS))


def test_groups_have_a_field_of_their_own_only_where_they_differ(tmp_path):
    save_pretrained(small(), tmp_path / "4x1")
    save_pretrained(small(num_groups=2), tmp_path / "2x2")
    assert "num_groups" not in json.loads((tmp_path / "4x1" / "config.json").read_text())
    config = read_config(tmp_path / "2x2")
    assert (config.num_groups, config.topk_per_group) == (2, 2)
    model = pangu_ops.load_model(tmp_path / "2x2")
    assert torch.equal(model(IDS), small(num_groups=2)(IDS)) and not torch.equal(model(IDS), small()(IDS))


def test_a_failed_save_leaves_the_old_checkpoint(saved, monkeypatch):
    before, calls = sorted(saved.iterdir()), []

    def no_space(tensors, file, **options):
        calls.append(file)
        if len(calls) == 2:
            raise OSError("no space left")
        save_file(tensors, file, **options)

    monkeypatch.setattr("safetensors.torch.save_file", no_space)
    with pytest.raises(OSError, match="no space left"):
        save_pretrained(small(num_hidden_layers=1), saved, max_shard_bytes=15_000)
    monkeypatch.undo()
    assert sorted(saved.iterdir()) == before
    assert same(pangu_ops.load_model(saved), small())


def test_files_have_the_mode_of_any_other(saved):
    (saved / "other").touch()
    assert {file.stat().st_mode for file in saved.iterdir()} == {(saved / "other").stat().st_mode}


def test_whole_numbers_become_floats():
    theta = ProMoEConfig(rope_theta=10**18).rope_theta
    assert isinstance(theta, float) and theta == 1e18


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def first_shard(path):
    return min(path.glob("*.safetensors"))


def set_header(path, header):
    text = header.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)


def set_entry(path, name="model.norm.weight", **changes):
    """Make a header with one tensor of the first shard, of 16 float32, with its 64 bytes of data."""
    entry = {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} | changes
    set_header(first_shard(path), json.dumps({name: entry}))
    os.truncate(first_shard(path), first_shard(path).stat().st_size + 64)


def name_file(path, name):
    edit_index(path, lambda files: files.update({"model.norm.weight": name}))


def replace(path, make):
    path.unlink()
    make(path)


def edit_index(path, change):
    index = json.loads((path / INDEX).read_text())
    change(index["weight_map"])
    (path / INDEX).write_text(json.dumps(index))


NONE = "no weights"
REFUSALS = {
    "no config": (lambda path: (path / "config.json").unlink(), "config.json: must be in .*, which has no such file"),
    "config no JSON": (lambda path: (path / "config.json").write_text("{"), "config.json: must be JSON"),
    "config too deep": (lambda path: (path / "config.json").write_text("[" * 100_000), "config.json: must be JSON"),
    "config a list": (lambda path: (path / "config.json").write_text("[]"), "must be a JSON object, came list"),
    "R-72B": (
        lambda path: edit_config(path, architectures=["PanguProMoEV2ForCausalLM"]),
        r"architectures must hold one of PanguEmbeddedForCausalLM, PanguProMoEForCausalLM, "
        r"came \['PanguProMoEV2ForCausalLM'\]",
    ),
    "Ultra": (
        lambda path: edit_config(path, architectures=["PanguUltraMoEForCausalLM"]),
        r"came \['PanguUltraMoEForCausalLM'\]",
    ),
    "activation": (lambda path: edit_config(path, hidden_act="gelu"), "hidden_act must be 'silu', came 'gelu'"),
    "rope scaling": (
        lambda path: edit_config(path, rope_scaling={"type": "yarn"}),
        "rope_scaling must be absent or empty, came {'type': 'yarn'}",
    ),
    "head size": (lambda path: edit_config(path, head_dim=8), "head_dim must be .* = 4, came 8"),
    "text for a size": (
        lambda path: edit_config(path, hidden_size="16"),
        "hidden_size must be an integer of at least 1, came '16'",
    ),
    "no heads": (lambda path: edit_config(path, num_attention_heads=0), "num_attention_heads must be .*, came 0"),
    "uneven groups": (lambda path: edit_config(path, num_groups=3), "groups must divide num_experts, came '3 for 8'"),
    "renormalised": (lambda path: edit_config(path, norm_topk_prob=True), "norm_topk_prob must be False, came True"),
    "scaled": (lambda path: edit_config(path, routed_scaling_factor=2.5), "routed_scaling_factor must be 1, came 2.5"),
    "no bias": (lambda path: edit_config(path, attention_bias=False), "attention_bias must be True, came False"),
    "huge size": (lambda path: edit_config(path, vocab_size=2**31), "vocab_size must be at most 2147483647, came"),
    "huge theta": (lambda path: edit_config(path, rope_theta=10**400), "rope_theta must be a positive number, came 1"),
    "too many experts": (
        lambda path: edit_config(path, num_hidden_layers=1024, num_experts=128),
        r"num_hidden_layers \* num_experts must be at most 65536, came 131072",
    ),
    "BOS outside": (lambda path: edit_config(path, bos_token_id=40), "bos_token_id must be below vocab_size, came 40"),
    "PAD outside": (lambda path: edit_config(path, pad_token_id=40), "pad_token_id must be below vocab_size, came 40"),
    "long value": (lambda path: edit_config(path, hidden_act="a" * 9999), r"hidden_act must be 'silu', came .{80}$"),
    "endless layers": (lambda path: edit_config(path, num_hidden_layers=10**9), "num_hidden_layers must be at most"),
    "no theta": (lambda path: edit_config(path, rope_theta=0), "rope_theta must be a positive number, came 0"),
    NONE: (
        lambda path: [file.unlink() for file in path.glob("model*")],
        "weights: model.safetensors or model.safetensors.index.json must be in .*, which has neither",
    ),
    "missing shard": (
        lambda path: first_shard(path).unlink(),
        "model-00001-of-.*: must be in .*, which has no such file",
    ),
    "cut shard": (
        lambda path: cut(first_shard(path)),
        r"model-00001-of-.*: must have the \d+ bytes its header promises, came",
    ),
    "cut header": (
        lambda path: first_shard(path).write_bytes(b"\xff\0\0\0\0\0\0\0{"),
        "model-00001-of-.*: must be a whole",
    ),
    "empty shard": (lambda path: first_shard(path).write_bytes(b""), "model-00001-of-.*: must be a whole"),
    "broken header": (lambda path: set_header(first_shard(path), '{"a": 3}'), "came one with a broken header"),
    "header too deep": (lambda path: set_header(first_shard(path), "[" * 100_000), "came one with a broken header"),
    "header no JSON": (lambda path: set_header(first_shard(path), "{{{{"), "came one with a broken header"),
    "header of other size": (
        lambda path: set_header(
            first_shard(path),
            json.dumps({"model.embed_tokens.weight": {"dtype": "F32", "shape": [40, 16], "data_offsets": [0, 0]}}),
        ),
        r"model.embed_tokens.weight: must fill its \[40, 16\] of F32, came 0 bytes",
    ),
    "negative offsets": (lambda path: set_entry(path, data_offsets=[-64, 0]), "came one with a broken header"),
    "three offsets": (lambda path: set_entry(path, data_offsets=[0, 64, 64]), "came one with a broken header"),
    "offsets no list": (lambda path: set_entry(path, data_offsets="08"), "came one with a broken header"),
    "negative shape": (lambda path: set_entry(path, shape=[-4, -4]), "came one with a broken header"),
    "fractional shape": (lambda path: set_entry(path, shape=[16.0]), "came one with a broken header"),
    "true in a shape": (lambda path: set_entry(path, shape=[16, True]), "came one with a broken header"),
    "endless shape": (lambda path: set_entry(path, shape=[2**62] * 100), "came one with a broken header"),
    "text for a shape": (lambda path: set_entry(path, shape="4"), "came one with a broken header"),
    "list for a dtype": (lambda path: set_entry(path, dtype=["F32"]), "came one with a broken header"),
    "line in a name": (lambda path: set_entry(path, name="model\n"), "came one with a broken header"),
    "endless integer": (
        lambda path: set_header(first_shard(path), '{"a": ' + "1" * 5000 + "}"),
        "came one with a broken header",
    ),
    "endless header": (
        lambda path: set_header(first_shard(path), " " * (loader.MAX_HEADER + 1)),
        "must have a header of at most 100000000 bytes, came 100000001",
    ),
    "gap before the data": (
        lambda path: set_entry(path, shape=[8], data_offsets=[32, 64]),
        "model.norm.weight: must begin at byte 0 of the data, came bytes 32 to 64",
    ),
    "more data than promised": (
        lambda path: set_entry(path, shape=[8], data_offsets=[0, 32]),
        r"model-00001-of-.*: must have the \d+ bytes its header promises, came",
    ),
    "file outside": (lambda path: name_file(path, "../x.safetensors"), r"name .safetensors files .*, came '../x.safet"),
    "file elsewhere": (lambda path: name_file(path, "/x.safetensors"), "name .safetensors files .*, came '/x.safet"),
    "file no name": (lambda path: name_file(path, ""), "name .safetensors files beside it, came ''"),
    "file a NUL": (lambda path: name_file(path, "\0.safetensors"), r"files beside it, came '\\x00.safetensors'"),
    "file no Unicode": (lambda path: name_file(path, "\udcff.safetensors"), r"beside it, came '\\udcff.safetensors'"),
    "file of two lines": (lambda path: name_file(path, "a\n.safetensors"), r"beside it, came 'a\\n.safetensors'"),
    "file of another kind": (lambda path: name_file(path, "model.bin"), "files beside it, came 'model.bin'"),
    "file too long": (lambda path: name_file(path, "a" * 300 + ".safetensors"), "came: File name too long"),
    "config a pipe": (lambda path: replace(path / "config.json", os.mkfifo), "config.json: must be a regular file"),
    "config a folder": (lambda path: replace(path / "config.json", os.mkdir), "config.json: must be a regular file"),
    "shard a pipe": (lambda path: replace(first_shard(path), os.mkfifo), "model-00001-of-.*: must be a regular file"),
    "shard a folder": (lambda path: replace(first_shard(path), os.mkdir), "model-00001-of-.*: must be a regular file"),
    "index a folder": (lambda path: replace(path / INDEX, os.mkdir), "index.json: must be a regular file"),
    "index no map": (lambda path: (path / INDEX).write_text("{}"), "weight_map must map tensor names to file names"),
    "missing tensor": (
        lambda path: edit_index(path, lambda files: files.pop("model.layers.1.mlp.experts.3.up_proj.weight")),
        r"model.layers.1.mlp.experts.3.up_proj.weight: must be stored with shape \[6, 16\], came nothing",
    ),
    "unexpected tensor": (
        lambda path: (
            save_file({"model.layers.0.mlp.extra": torch.ones(1)}, path / "extra.safetensors")
            or edit_index(path, lambda files: files.update({"model.layers.0.mlp.extra": "extra.safetensors"}))
        ),
        "model.layers.0.mlp.extra: must be a tensor of Pangu Pro MoE, came in extra.safetensors",
    ),
    "wrong shape": (
        lambda path: edit_config(path, vocab_size=41),
        r"model.embed_tokens.weight: must have shape \[41, 16\], came \[40, 16\]",
    ),
    "wrong dtype": (
        lambda path: (
            save_file({"model.norm.weight": torch.ones(16, dtype=torch.int8)}, path / "int8.safetensors")
            or edit_index(path, lambda files: files.update({"model.norm.weight": "int8.safetensors"}))
        ),
        "model.norm.weight: must be stored as F32, BF16, F16, came I8",
    ),
}


# A directory without weights can be inspected, but not loaded.
@pytest.mark.parametrize(
    "case, read",
    [(case, read) for case in REFUSALS for read in (pangu_ops.load_model, inspect) if (case, read) != (NONE, inspect)],
)
def test_refusals(saved, case, read):
    spoil, message = REFUSALS[case]
    spoil(saved)
    with pytest.raises(ModelError, match=message) as caught:
        read(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("max_shard_bytes", [None, 15_000])
def test_every_header_is_parsed_once(tmp_path, monkeypatch, max_shard_bytes):
    """To parse it for every tensor took minutes for the thousands of a released file."""
    save_pretrained(small(), tmp_path, max_shard_bytes=max_shard_bytes)
    parsed, read_header = [], loader.read_header
    monkeypatch.setattr(loader, "read_header", lambda path: parsed.append(path) or read_header(path))
    monkeypatch.delattr("safetensors.safe_open")
    assert same(pangu_ops.load_model(tmp_path), small())
    assert sorted(parsed) == sorted(tmp_path.glob("*.safetensors"))


def test_tensors_are_read_in_parts(saved, monkeypatch):
    monkeypatch.setattr(loader, "CHUNK", 7)
    assert same(pangu_ops.load_model(saved), small())


def test_a_file_that_shrinks_while_it_is_read(saved, monkeypatch):
    monkeypatch.setattr(loader, "check_tensors", lambda *checked: cut(first_shard(saved)))
    with pytest.raises(ModelError, match="must stay as it is while it is read, came a shorter one"):
        pangu_ops.load_model(saved)


def write_sparse(path, shapes, num_files, dtype="BF16"):
    """A sharded checkpoint of zeros that takes no disk: headers, and holes where the data would be."""
    names = list(shapes)
    weight_map = {}
    for number in range(num_files):
        header, end = {}, 0
        for name in names[number::num_files]:
            size = SIZES[dtype]
            for dim in shapes[name]:
                size *= dim
            header[name] = {"dtype": dtype, "shape": shapes[name], "data_offsets": [end, end + size]}
            weight_map[name] = f"model-{number + 1:05}-of-{num_files:05}.safetensors"
            end += size
        file = path / f"model-{number + 1:05}-of-{num_files:05}.safetensors"
        set_header(file, json.dumps(header))
        os.truncate(file, file.stat().st_size + end)
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def official_shapes(vocab, hidden, layers, kv, experts, inner, shared):
    """The released checkpoint's tensors, written out once more and independently of the loader's own list."""
    shapes = {name: [vocab, hidden] for name in ("model.embed_tokens.weight", "lm_head.weight")}
    shapes["model.norm.weight"] = [hidden]
    for layer in (f"model.layers.{number}." for number in range(layers)):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}{norm}.weight"] = [hidden]
        for name, rows in (("q", hidden), ("k", kv), ("v", kv), ("o", hidden)):
            shapes[f"{layer}self_attn.{name}_proj.weight"] = [rows, hidden]
            shapes[f"{layer}self_attn.{name}_proj.bias"] = [rows]
        shapes[f"{layer}mlp.gate.weight"] = [experts, hidden]
        shapes[f"{layer}mlp.router_scale"] = [1, experts]
        mlps = {f"{layer}mlp.experts.{expert}": inner for expert in range(experts)}
        for mlp, width in (mlps | {f"{layer}mlp.shared_expert": shared}).items():
            shapes[f"{mlp}.gate_proj.weight"] = shapes[f"{mlp}.up_proj.weight"] = [width, hidden]
            shapes[f"{mlp}.down_proj.weight"] = [hidden, width]
    return shapes


def published(path, **changes):
    config = dict(
        architectures=["PanguProMoEForCausalLM"],
        model_type="PanguProMoE",
        vocab_size=153376,
        hidden_size=5120,
        num_hidden_layers=48,
        num_attention_heads=40,
        num_key_value_heads=8,
        num_experts=64,
        num_experts_per_tok=8,
        moe_intermediate_size=1344,
        shared_expert_intermediate_size=5376,
        hidden_act="silu",
        rms_norm_eps=1e-5,
        rope_theta=16000000.0,
        rope_scaling=None,
        max_position_embeddings=131072,
        tie_word_embeddings=False,
        torch_dtype="bfloat16",
        attention_dropout=0.0,
    )
    (path / "config.json").write_text(json.dumps(config | changes))


def test_the_released_model_is_checked_by_its_headers(tmp_path):
    """71.99 B parameters, 16.50 B active: the report's numbers, from a directory as large as the released one."""
    published(tmp_path)
    write_sparse(tmp_path, official_shapes(153376, 5120, 48, 1024, 64, 1344, 5376), num_files=5)
    assert sum(file.stat().st_size for file in tmp_path.glob("*.safetensors")) > 143_000_000_000
    assert sum(file.stat().st_blocks * 512 for file in tmp_path.glob("*.safetensors")) < 10_000_000
    summary = inspect(tmp_path)
    assert (summary.total, summary.active) == (71_988_781_056, 16_498_139_136)
    assert (summary.tensors, summary.files) == (9939, 5)
    assert summary.kv_values == 2 * 48 * 8 * 128


def test_a_config_alone_can_be_inspected(tmp_path):
    published(tmp_path)
    summary = inspect(tmp_path)
    assert (summary.total, summary.tensors, summary.files) == (71_988_781_056, 0, 0)
    assert summary.config == ProMoEConfig()  # whose defaults are the released model's


LOAD_AND_MEASURE = """
import re, sys
from pathlib import Path
import safetensors, tqdm, torch, pangu_ops
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
model = pangu_ops.load_model(sys.argv[1])
print(sum(parameter.nbytes for parameter in model.parameters()), peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_loading_takes_little_more_memory_than_the_model(tmp_path):
    """Two files of half the model: to hold one of them would already be too much."""
    sizes = dict(
        hidden_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        moe_intermediate_size=384,
        shared_expert_intermediate_size=512,
        vocab_size=2000,
    )
    published(tmp_path, **sizes)
    write_sparse(tmp_path, official_shapes(2000, 512, 3, 256, 64, 384, 512), num_files=2)
    done = subprocess.run([sys.executable, "-c", LOAD_AND_MEASURE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0 and re.fullmatch(r"\d+ \d+\n", done.stdout), done.stderr
    size, peak = map(int, done.stdout.split())
    assert size > 200_000_000
    assert size * 0.9 < peak < size * 1.1


def test_importing_the_package_stays_light():
    code = "import sys, torch; before = set(sys.modules); import pangu_ops; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pangu_ops.models.loader" in done.stdout
    assert not any(f"'{name}'" in done.stdout for name in ("safetensors", "sentencepiece", "tqdm", "argparse"))
