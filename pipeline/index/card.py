"""What ``index.json`` says of a suffix array over token shards, and what the stage reports."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from infra.errors import UserError
from infra.facts import Facts, StageMetrics

__all__ = ["CARD", "IndexCard", "IndexMetrics", "PieceEntry", "read_index_card"]

CARD = "index.json"


class PieceEntry(Facts):
    """One piece: whole documents of one source, in the order of the shards."""

    name: str
    """Of its files, without the ending."""
    source: str
    tokens: int
    documents: int


class IndexCard(Facts):
    """All of it."""

    format: int = 1
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


def read_index_card(folder: Path) -> IndexCard:
    """The card of an `index` artifact.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        return IndexCard.model_validate_json((folder / CARD).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{folder}: no {CARD}; this is not an index artifact") from None
    except ValidationError:
        raise UserError(f"{folder / CARD}: damaged; make the index again") from None
