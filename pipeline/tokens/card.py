"""What ``shards.json`` says of token shards: every file, where in it the rows begin, and how to read them."""

from __future__ import annotations

import json

from pydantic import Field, ValidationError

from infra.errors import UserError, first_problem
from infra.facts import Facts

__all__ = ["CARD", "DocumentIndex", "IndexFile", "ShardFile", "ShardsCard", "SourceShare", "read_card"]

CARD = "shards.json"
FORMAT = 2


class IndexFile(Facts):
    """One file of the index of documents."""

    name: str
    rows: int
    bytes: int
    sha256: str
    first: int | None = None
    """Index of its first document; left out where documents are counted through the files."""


class ShardFile(IndexFile):
    """One file of rows."""

    tokens_at: list[int]
    """Where the tokens of each row group begin,"""
    checksums_at: list[int]
    """and the checksums of its rows."""


class SourceShare(Facts):
    """The rows of one source in one split."""

    documents: int
    files: list[ShardFile]
    rows: int
    tokens: int
    tokens_dropped: int
    """Left at the end, less than a row."""


class DocumentIndex(Facts):
    """Ids, addresses and sources of all documents."""

    documents: int
    files: list[IndexFile]


class ShardsCard(Facts):
    """All of it."""

    format: int = FORMAT
    sequence_length: int
    vocabulary: int
    eos: int
    """The token that ends every document."""
    dtype: str
    """Of a token, little-endian."""
    rows_per_group: int
    splits: dict[str, dict[str, SourceShare]]
    """By split and source."""
    documents: DocumentIndex
    text_bytes: int = Field(ge=0)

    def written(self) -> bytes:
        """For the file."""
        return (json.dumps(self.model_dump(mode="json", exclude_none=True), indent=1, sort_keys=True) + "\n").encode()


def read_card(body: bytes, place: str) -> ShardsCard:
    """The card in `body`, which lies at `place`.

    Raises:
        UserError: it is damaged, or of another format.
    """
    try:
        found = json.loads(body)
        form = found["format"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{place}: damaged; make the shards again") from None
    if form != FORMAT:
        raise UserError(f"{place}: format {form}, {FORMAT} is wanted; make the shards again")
    try:
        return ShardsCard.model_validate(found)
    except ValidationError as error:
        raise UserError(f"{place}: damaged ({first_problem(error)}); make the shards again") from None
