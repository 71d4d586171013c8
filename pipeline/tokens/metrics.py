"""What the stage that packs token shards reports: its accounts, with rows and tokens."""

from __future__ import annotations

from pipeline.tasks.ledger import Account, DocumentMetrics

__all__ = ["ShardMetrics", "SourceShards"]


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

    by_source: dict[str, SourceShards]  # type: ignore[assignment]  # narrower than the base's, and only read
    train_documents: int
    train_rows: int
    train_tokens: int
    train_tokens_dropped: int
    validation_documents: int
    validation_rows: int
    validation_tokens: int
    validation_tokens_dropped: int
    bytes_per_token: float
