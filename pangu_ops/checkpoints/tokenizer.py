"""Train the checkpoint's tokenizer: ``python -m pangu_ops.checkpoints.tokenizer DIR``.

A SentencePiece model with the control tokens of the released one, digits one by one, and bytes for whatever the
questions do not hold.
"""

import io
import json
import random
import string
import sys
from pathlib import Path

import sentencepiece

from pangu_ops.checkpoints.questions import KINDS, ask

CONTROL = [f"[unused{i}]" for i in range(34)]
ROLES = ("系统：", "用户：", "助手：", "工具：", "方法：")
VOCAB_SIZE = 720


def train(folder, max_length=256):
    """Write tokenizer.model, tokenizer_config.json and special_tokens_map.json into ``folder``."""
    folder = Path(folder)
    rng = random.Random(0)
    lines = [*ROLES] * 500
    for kind in KINDS:
        for _ in range(1000):
            question = ask(kind, rng, held_out=False)
            lines += [question.text, question.answer]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        user_defined_symbols=CONTROL,
        required_chars=string.ascii_letters + string.digits + string.punctuation,
        character_coverage=1.0,
        split_digits=True,
        split_by_unicode_script=False,
        byte_fallback=True,
        normalization_rule_name="identity",  # the format's colon is the full-width one, which NFKC would replace
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    special = {"bos_token": "<s>", "eos_token": "[unused10]", "pad_token": "<unk>", "unk_token": "<unk>"}
    added = {
        str(pieces.piece_to_id(piece)): {
            "content": piece,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for piece in ("<unk>", "<s>", "</s>", *CONTROL)
    }
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
        "legacy": True,
        "model_max_length": max_length,
        **special,
        "tokenizer_class": "PanguTokenizer",
    }
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", special)


def write_json(path, content):
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    train(sys.argv[1])
