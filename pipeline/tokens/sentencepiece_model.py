"""Reads ``tokenizer.model``, a vocabulary as SentencePiece itself writes it.

The file is a protocol buffer (``sentencepiece_model.proto``, Apache-2.0), of which a few fields are wanted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from infra.errors import UserError
from infra.json_objects import JsonObject, read_object
from pipeline.tokens.chat_template import token_names
from pipeline.tokens.sentencepiece import Kind, Pieces, Prefix

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["MODEL", "read_model", "with_added"]

MODEL = "tokenizer.model"
BPE = 2
"""Its number among the kinds of models; a unigram is 1."""
# Numbers of fields: of the file, of a piece, of how it was trained, of how text is made ready.
PIECE, TRAINED, READY = 1, 2, 3
TEXT, SCORE, KIND = 1, 2, 3
MODEL_KIND, BYTE_FALLBACK = 3, 35
CHARACTERS, DUMMY_PREFIX, FEWER_BLANKS = 2, 3, 4


class _Field(NamedTuple):
    number: int
    value: int | bytes


def _fields(body: bytes) -> Iterator[_Field]:
    """The fields of a message; ValueError where it is none."""
    place = 0

    def whole() -> int:
        nonlocal place
        found = shift = 0
        while True:
            byte = body[place]
            place += 1
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found

    while place < len(body):
        key = whole()
        if key & 7 == 0:
            yield _Field(key >> 3, whole())
            continue
        size = {1: 8, 5: 4}.get(key & 7) or (whole() if key & 7 == 2 else -1)
        if size < 0 or place + size > len(body):
            raise ValueError("no protocol buffer")
        yield _Field(key >> 3, body[place : place + size])
        place += size


def _message(body: int | bytes) -> dict[int, Any]:
    """The last value of each field of a message within a message; ValueError where it is none."""
    if isinstance(body, int):
        raise ValueError("a number where a message should be")
    return {field.number: field.value for field in _fields(body)}


def read_model(folder: Path, settings: JsonObject) -> Tokenizer:
    """The tokenizer of a folder's ``tokenizer.model``, with the tokens that other files add to it.

    Args:
        settings: the folder's ``tokenizer_config.json``.

    Raises:
        UserError: it cannot be read, or is of a kind that is not.
    """
    path = folder / MODEL
    try:
        fields = list(_fields(path.read_bytes()))
        pieces = _pieces([_message(field.value) for field in fields if field.number == PIECE])
        messages = {field.number: _message(field.value) for field in fields if field.number in (TRAINED, READY)}
    except (ValueError, IndexError, KeyError, AttributeError, struct.error) as error:
        raise UserError(f"{path}: no vocabulary of SentencePiece ({error}); copy it again") from None
    if reason := _unreadable(messages.get(TRAINED, {}), messages.get(READY, {})):
        raise UserError(f"{path}: {reason}; save the folder's tokenizer.json with transformers, and adopt that")
    unknown = next((text for text, kind in zip(pieces.texts, pieces.kinds, strict=True) if kind == Kind.UNKNOWN), None)
    prefix = Prefix.EVERY if settings.get("legacy", True) else Prefix.FIRST
    if not messages.get(READY, {}).get(DUMMY_PREFIX, 1) or settings.get("add_prefix_space") is False:
        prefix = Prefix.NEVER
    try:
        return with_added(pieces.tokenizer(prefix, unknown), folder, settings)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _pieces(messages: list[dict[int, Any]]) -> Pieces:
    texts = [each[TEXT].decode() for each in messages]
    scores = [struct.unpack("<f", each.get(SCORE, bytes(4)))[0] for each in messages]
    kinds = [each.get(KIND, Kind.NORMAL) for each in messages]
    if not texts or len(set(texts)) < len(texts):
        raise ValueError("no pieces" if not texts else "a piece is there twice")
    return Pieces(texts, scores, kinds)


def _unreadable(trained: dict[int, Any], ready: dict[int, Any]) -> str | None:
    if trained.get(MODEL_KIND, 1) != BPE or not trained.get(BYTE_FALLBACK, 0):
        return "a unigram, or a BPE that does not fall back on bytes; a BPE that does is read"
    if ready.get(CHARACTERS, b""):
        return "it writes characters otherwise before it cuts them"
    return "it takes blanks away" if ready.get(FEWER_BLANKS, 1) else None


def with_added(tokenizer: Tokenizer, folder: Path, settings: JsonObject) -> Tokenizer:
    """With the tokens behind the vocabulary that it lacks: transformers keeps them in two files.

    Raises:
        ValueError: one would not get its number.
    """
    from tokenizers import AddedToken

    beside, named = folder / "added_tokens.json", token_names(settings).values()
    added = {int(number): token for number, token in settings.get("added_tokens_decoder", {}).items()}
    if not added and beside.is_file():  # older folders
        added = {number: {"content": text} for text, number in read_object(beside).items()}
    for number, token in sorted(added.items()):
        if tokenizer.token_to_id(token["content"]) is not None:
            continue
        special = bool(token.get("special", token["content"] in named))
        tokenizer.add_tokens([AddedToken(token["content"], special=special, normalized=False)])
        if tokenizer.token_to_id(token["content"]) != number:
            raise ValueError(f"the added token {token['content']!r} would not get its number {number}")
    return tokenizer
