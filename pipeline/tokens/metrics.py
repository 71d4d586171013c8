"""What the stages of tokens report: the tokenizer, and the accounts of shards with their rows and tokens."""

from __future__ import annotations

from pydantic import Field

from infra.facts import StageMetrics
from pipeline.tasks.ledger import Account, DocumentMetrics

__all__ = ["ShardMetrics", "SourceShards", "TokenizerMetrics"]


class SourceShards(Account):
    """What became of one source.

    Characters out are those of the tokens in rows. What is left at the end of a split, less than a row, is cut as
    `row_remainder`; a split whose documents do not fill one row rejects them as `less_than_a_row`.
    """

    train_documents: int = 0
    train_rows: int = 0
    train_tokens: int = 0
    train_characters: int = 0
    validation_documents: int = 0
    validation_rows: int = 0
    validation_tokens: int = 0
    validation_characters: int = 0

    def count(self, split: str, *, documents: int, rows: int, tokens: int, characters: int, left: int) -> None:
        """Count a split with so many documents and characters, `left` of which are in no row."""
        kept = characters - left
        for name, value in (("documents", documents), ("rows", rows), ("tokens", tokens), ("characters", kept)):
            setattr(self, f"{split}_{name}", value)
        self.documents_in += documents
        self.characters_in += characters
        self.characters_out += kept
        if rows:
            self.documents_out += documents
            self.cut_out("row_remainder", left)
        elif documents:
            self.reject("less_than_a_row", documents, left)


class ShardMetrics(DocumentMetrics):
    """Of all sources."""

    by_source: dict[str, SourceShards] = Field(default_factory=dict)  # type: ignore[assignment]  # only read
    train_documents: int = 0
    train_rows: int = 0
    train_tokens: int = 0
    train_tokens_dropped: int = 0
    validation_documents: int = 0
    validation_rows: int = 0
    validation_tokens: int = 0
    validation_tokens_dropped: int = 0
    bytes_per_token: float | None = None


class TokenizerMetrics(StageMetrics):
    """Of `tokenizer`."""

    adopted: bool | None = None
    llama_cpp: str | None = None
    """llama.cpp's name for the way that it cuts text; None where it has none."""
    vocabulary: int | None = None
    bytes_per_token: dict[str, float] | None = None
    """By source, and of the reasoning tasks."""
    train_bytes: dict[str, int] | None = None
    """Text of each source that it was trained on."""
