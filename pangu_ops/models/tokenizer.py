"""The checkpoint's SentencePiece model, its control tokens, and the chat format."""

import re
from pathlib import Path

from pangu_ops.models.config import ModelError, check_file, read_json

ROLES = {"system": "系统", "user": "用户", "assistant": "助手", "tool": "工具", "function": "方法"}


class Tokenizer:
    """Text to ids and back.

    Control tokens such as ``[unused9]`` are pieces of the SentencePiece model that it would not find in a text by
    itself: the text is split at them first, and each part between them is encoded on its own.
    """

    def __init__(self, path, bos_token_id=1):
        """The tokenizer of the checkpoint directory ``path``; :class:`ModelError` when it has none that can be read."""
        from sentencepiece import SentencePieceProcessor

        path = Path(path)
        check_file(path / "tokenizer.model")
        self.bos_token_id = bos_token_id
        self.pieces = SentencePieceProcessor()
        try:
            self.pieces.LoadFromSerializedProto((path / "tokenizer.model").read_bytes())
            pieces = [self.pieces.id_to_piece(id) for id in range(len(self.pieces))]
        except (RuntimeError, UnicodeDecodeError):
            raise ModelError("tokenizer.model: must be a SentencePiece model, came a file that is not") from None
        self.control_ids = {name: self.pieces.piece_to_id(name) for name in self._control_tokens(path, pieces)}
        # The longest first, so that no token hides one that begins with it.
        names = sorted(self.control_ids, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, names))})" if names else "(?!)")
        self._names = {id: name for name, id in self.control_ids.items()}
        self._hidden = {*self.control_ids.values(), bos_token_id}

    def _control_tokens(self, path, pieces):
        """The names that tokenizer_config.json lists, or else every ``[unusedN]``; only those that are pieces."""
        if (path / "tokenizer_config.json").exists():
            listed = read_json(path / "tokenizer_config.json").get("added_tokens_decoder")
            if listed:
                try:
                    names = {token["content"] for token in listed.values()}
                except (AttributeError, KeyError, TypeError):
                    raise ModelError(
                        "tokenizer_config.json: added_tokens_decoder must map ids to tokens with a content, came others"
                    ) from None
                return [piece for piece in pieces if piece in names]
        return [piece for piece in pieces if re.fullmatch(r"\[unused\d+\]", piece)]

    def encode(self, text):
        """Ids of ``text``, with exactly one BOS in front."""
        text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates, as an undecodable argument has
        ids = []
        for part in self._split.split(text):
            if part in self.control_ids:
                ids.append(self.control_ids[part])
            elif part:
                ids.extend(self.pieces.encode(part))
        return ids if ids[:1] == [self.bos_token_id] else [self.bos_token_id, *ids]

    def encode_chat(self, messages):
        """Ids of a conversation, up to where the assistant's next turn begins."""
        for name in ("[unused9]", "[unused10]"):
            if name not in self.control_ids:
                raise ModelError(f"tokenizer.model: must have the control token {name} for a chat, came without it")
        return self.encode(chat_text(messages))

    def hides(self, id):
        """Whether ``id`` has no text; a model's vocabulary may have room to spare."""
        return id in self._hidden or id >= len(self.pieces)

    def decode(self, ids, control=False):
        """The text of ``ids``; the parts between control tokens are decoded each on its own.

        ``control`` writes the names of control tokens too, which are left out otherwise.
        """
        texts, part = [], []
        for id in [*ids, None]:
            if id is not None and not self.hides(id):
                part.append(id)
                continue
            texts.append(self.pieces.decode(part) if part else "")
            part = []
            if control and id in self._names:
                texts.append(self._names[id])
        return "".join(texts)


class StreamDecoder:
    """Turns ids that come one by one into text, holding back bytes that are not yet a whole character."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        # Decoding starts a few ids back, because a piece loses its leading space when nothing stands before it.
        self.ids, self.start, self.shown = [], 0, 0

    def push(self, id):
        """The text that ``id`` completes, often its own and at times none."""
        self.ids.append(id)
        text = self._pending()
        if self.tokenizer.hides(id):
            self.start = len(self.ids)  # what follows is decoded on its own
        elif text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        elif self.tokenizer.decode(self.ids[self.shown :]).strip():
            self.start = self.shown
        self.shown = len(self.ids)
        return text

    def finish(self):
        """The text still held back, which now will not become whole."""
        return self._pending()

    def _pending(self):
        before = self.tokenizer.decode(self.ids[self.start : self.shown])
        return self.tokenizer.decode(self.ids[self.start :])[len(before) :]


def chat_text(messages):
    """The official chat format of ``messages``: dicts with ``role`` (one of ROLES) and ``content``.

    An empty system turn comes first when none is given; the text ends where the assistant's answer begins.
    """
    if not messages or messages[0]["role"] != "system":
        messages = [{"role": "system", "content": ""}, *messages]
    turns = []
    for message in messages:
        if message["role"] not in ROLES:
            raise ModelError(f"chat: role must be one of {', '.join(ROLES)}, came {message['role']}")
        turns.append(f"[unused9]{ROLES[message['role']]}：{message['content']}[unused10]")
    return "".join(turns) + f"[unused9]{ROLES['assistant']}："
