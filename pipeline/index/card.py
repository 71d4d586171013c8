"""What ``index.json`` says of a suffix array over token shards, and what the stage reports."""

from __future__ import annotations

import json

from infra.errors import UserError
from infra.facts import Facts, StageMetrics

__all__ = [
    "CARD",
    "FANOUT",
    "KEY_TOKENS",
    "IndexCard",
    "IndexMetrics",
    "PieceEntry",
    "key_levels",
    "read_index_card",
]

CARD = "index.json"
FORMAT = 2
KEY_TOKENS = 6
"""First tokens of a suffix that are its key."""
KEY_EVERY = 16
"""Suffixes to a key."""
FANOUT = 256
"""Keys of a level to one of the level above it, up to a level of no more."""


class PieceEntry(Facts):
    """One piece: whole documents of one source, in the order of the shards."""

    name: str
    """Of its files, without the ending."""
    source: str
    tokens: int
    documents: int


class IndexCard(Facts):
    """All of it."""

    format: int = FORMAT
    dtype: str
    """Of a token, little-endian."""
    eos: int
    """The token that ends every document."""
    pieces: list[PieceEntry]


class IndexMetrics(StageMetrics):
    """Of `index`."""

    tokens: int | None = None
    documents: int | None = None
    """Of which there are tokens in the rows of training."""
    pieces: int | None = None
    index_bytes: int | None = None


def key_levels(tokens: int) -> list[tuple[int, int, int]]:
    """The levels of the keys of so many suffixes, all of them first: where in the file one begins, how many keys it
    has, and how many suffixes these are apart."""
    levels, first, apart = [], 0, KEY_EVERY
    while True:
        count = -(-tokens // apart)
        levels.append((first, count, apart))
        if count <= FANOUT:
            return levels
        first, apart = first + count, apart * FANOUT


def read_index_card(body: bytes, folder: str) -> IndexCard:
    """The card of an `index` artifact, out of the bytes of its file.

    Raises:
        UserError: it is damaged, or of another format.
    """
    try:
        if (form := json.loads(body)["format"]) != FORMAT:
            raise UserError(f"{folder}/{CARD}: format {form}, {FORMAT} is wanted; make the index again")
        return IndexCard.model_validate_json(body)
    except (ValueError, KeyError, TypeError):  # pydantic's error is a ValueError
        raise UserError(f"{folder}/{CARD}: damaged; make the index again") from None
