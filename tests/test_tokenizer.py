"""The tokenizer over a small SentencePiece model with a dummy prefix and byte fallback, as the released one has."""

import json
import random

import pytest
import sentencepiece

from pangu_ops.models import ModelError
from pangu_ops.models.tokenizer import StreamDecoder, Tokenizer, chat_text

CONTROL = [f"[unused{number}]" for number in (1, 9, 10, 16, 17)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["what is one and one ?", "系统：用户：助手：", "two words"] * 20),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=300,
        hard_vocab_limit=False,
        byte_fallback=True,
        user_defined_symbols=[*CONTROL, "<tag>", "<tag>>"],
        minloglevel=2,
        num_threads=1,
    )
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer(folder)


def test_text_is_split_at_control_tokens_and_each_part_encoded_alone(tokenizer):
    encode = tokenizer.pieces.encode
    ids = tokenizer.encode("one[unused9]two words[unused10][unused16]")
    control = [tokenizer.pieces.piece_to_id(name) for name in ("[unused9]", "[unused10]", "[unused16]")]
    assert ids == [1, *encode("one"), control[0], *encode("two words"), *control[1:]]
    assert 0 not in ids and len(set(control)) == 3


def test_the_longer_control_token_wins(folder, tmp_path):
    tokenizer = with_listed(folder, tmp_path, ["<tag>", "<tag>>"])
    assert tokenizer.encode("<tag>>")[1:] == [tokenizer.pieces.piece_to_id("<tag>>")]
    assert tokenizer.encode("<tag>one")[1] == tokenizer.pieces.piece_to_id("<tag>")


def test_what_only_looks_like_a_control_token_is_text(tokenizer):
    """[unused2] is no piece of this model: it must not become the unknown id."""
    ids = tokenizer.encode("[unused2]")
    assert len(ids) > 3 and 0 not in ids and tokenizer.decode(ids) == "[unused2]"


@pytest.mark.parametrize("text", ["one", "", "[unused9]one"])
def test_exactly_one_bos(tokenizer, text):
    assert tokenizer.encode(text).count(1) == 1 and tokenizer.encode(text)[0] == 1


def test_a_bos_in_the_text_is_not_doubled(folder, tmp_path):
    """The released model's second template begins with <s>, which its tokenizer_config.json lists."""
    tokenizer = with_listed(folder, tmp_path, ["<s>", "[unused9]"])
    assert tokenizer.encode("<s>[unused9]one") == tokenizer.encode("[unused9]one")


def test_the_listed_tokens_are_the_control_tokens(folder, tmp_path):
    tokenizer = with_listed(folder, tmp_path, ["<tag>", "[unused9]", "<|no piece|>"])
    assert set(tokenizer.control_ids) == {"<tag>", "[unused9]"}
    assert tokenizer.decode(tokenizer.encode("one<tag>two")) == "onetwo"
    assert set(Tokenizer(folder).control_ids) == set(CONTROL)


def with_listed(folder, tmp_path, names):
    (tmp_path / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes())
    listed = {str(number): {"content": name} for number, name in enumerate(names)}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}))
    return Tokenizer(tmp_path)


def test_chat_format():
    system = {"role": "system", "content": "S"}
    user = {"role": "user", "content": "Hi"}
    answer = {"role": "assistant", "content": "Ho"}
    tool = {"role": "tool", "content": "T"}
    assert chat_text([user]) == "[unused9]系统：[unused10][unused9]用户：Hi[unused10][unused9]助手："
    assert chat_text([system, user, answer, tool]) == (
        "[unused9]系统：S[unused10][unused9]用户：Hi[unused10][unused9]助手：Ho[unused10]"
        "[unused9]工具：T[unused10][unused9]助手："
    )
    with pytest.raises(ModelError, match="role must be one of system, user, assistant, tool, function, came robot"):
        chat_text([{"role": "robot", "content": ""}])


def test_a_conversation_is_encoded_as_its_text(tokenizer):
    messages = [{"role": "user", "content": "one and one"}]
    ids = tokenizer.encode_chat(messages)
    assert ids == tokenizer.encode(chat_text(messages))
    assert ids.count(tokenizer.control_ids["[unused9]"]) == 3 and ids.count(1) == 1


@pytest.mark.parametrize("text", ["what is one ?", "数学 🙂 é", "  two  spaces", "a\x00b\n"])
def test_decode_shows_the_text_without_control_tokens(tokenizer, text):
    pieces = tokenizer.pieces  # SentencePiece may normalise the text: what it gives back is what counts
    ids = tokenizer.encode(f"[unused16]{text}[unused17]one[unused10]")
    assert tokenizer.decode(ids) == pieces.decode(pieces.encode(text)) + "one"


def test_decode_leaves_out_ids_that_no_piece_has(tokenizer):
    assert tokenizer.decode([*tokenizer.encode("one"), 10**6]) == "one"


def stream(tokenizer, ids):
    decoder = StreamDecoder(tokenizer)
    return [*(decoder.push(id) for id in ids), decoder.finish()]


def test_a_stream_never_shows_half_a_character(tokenizer):
    ids = tokenizer.encode("one 🙂 数")
    parts = stream(tokenizer, ids)
    assert len(ids) > 8 and "".join(parts) == "one 🙂 数"
    assert not any("\N{REPLACEMENT CHARACTER}" in part for part in parts)
    assert "🙂" in parts


def test_a_stream_shows_an_unfinished_character_at_its_end(tokenizer):
    ids = tokenizer.encode("one🙂")[:-1]
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids) != "one"


def test_a_stream_equals_the_whole(tokenizer):
    rng = random.Random(0)
    texts = ["one", " two", "🙂", "é", "?", "数学", "[unused16]", "[unused17]", "  ", "words and "]
    for _ in range(200):
        ids = tokenizer.encode("".join(rng.choices(texts, k=8)))
        assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_stream_of_any_ids_equals_the_whole(tokenizer):
    rng = random.Random(1)
    for _ in range(500):
        ids = rng.choices(range(len(tokenizer.pieces)), k=12)
        assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids), ids


def test_a_stream_costs_the_same_for_every_id(tokenizer, monkeypatch):
    """Control tokens have no text, and yet what came before them is not decoded again and again."""
    decoded, decode = [], tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda ids: decoded.append(len(ids)) or decode(ids))
    stream(tokenizer, [*tokenizer.encode("one"), *[tokenizer.control_ids["[unused16]"]] * 500])
    assert max(decoded) < 20


def test_a_chat_needs_its_control_tokens(folder, tmp_path):
    tokenizer = with_listed(folder, tmp_path, ["[unused9]"])
    with pytest.raises(ModelError, match=r"must have the control token \[unused10\] for a chat, came without it"):
        tokenizer.encode_chat([{"role": "user", "content": "one"}])


def test_text_that_is_no_unicode_is_encoded_all_the_same(tokenizer):
    assert tokenizer.encode("one\udcff") == tokenizer.encode("one?")


def test_refusals(folder, tmp_path):
    with pytest.raises(ModelError, match="tokenizer.model: must be in .*, which has no such file"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").mkdir()
    with pytest.raises(ModelError, match="tokenizer.model: must be a regular file, came something else"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").rmdir()
    no_unicode = (folder / "tokenizer.model").read_bytes().replace(b"[unused9]", b"[unused\xff]")
    for data in (b"not a model", b"", no_unicode):
        (tmp_path / "tokenizer.model").write_bytes(data)
        with pytest.raises(ModelError, match="tokenizer.model: must be a SentencePiece model, came a file that is not"):
            Tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes())
    for text, message in (("{", "must be JSON"), ('{"added_tokens_decoder": [1]}', "added_tokens_decoder must map")):
        (tmp_path / "tokenizer_config.json").write_text(text)
        with pytest.raises(ModelError, match=f"tokenizer_config.json: {message}"):
            Tokenizer(tmp_path)
