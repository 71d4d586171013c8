"""Where removed documents are, or still are: among the documents of an artifact, and in token shards, out of the tokens
themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.removal.asks import REMOVED, Match, Removals
from pipeline.tasks.documents import Document, document_files, read_file
from pipeline.tasks.set_aside import KINDS
from pipeline.tokens.card import ShardsCard
from pipeline.tokens.encoder import Encoder
from pipeline.tokens.names import DocumentNames, card_of

__all__ = ["PLACES", "documents_in_shards", "named_in", "search_documents", "search_shards"]

PLACES = ("documents", *KINDS)
"""Folders of an artifact with text of documents: those that stay, and what rules took away."""
INDEX = "index"
"""Folder of shards that names their documents."""

Found = tuple[Document, Match]


def search_documents(artifact: Path, removals: Removals) -> Iterator[Found]:
    """The documents of an artifact, and its rejects, that are to go."""
    for kind in ("documents", "rejects"):
        for file in document_files(artifact, kind):
            for document in read_file(file):
                if document.metadata.get("rule") != REMOVED and (match := removals.match(document)):
                    yield document, match


def named_in(artifact: Path, ids: set[str]) -> dict[str, int]:
    """How many rows of documents with these ids each file has in the folders of `PLACES`, or of the index of shards."""
    wanted = sorted(ids)
    files = [file for kind in (*PLACES, INDEX) for file in document_files(artifact, kind)]
    counts = {file.relative_to(artifact).as_posix(): _count(file, wanted) for file in files}
    return {path: rows for path, rows in counts.items() if rows}


def _count(file: Path, wanted: list[str]) -> int:
    schema = pq.read_schema(file)
    if "id" not in schema.names:
        return 0
    columns = ["id", *(["rule"] if "rule" in schema.names else [])]
    table = pq.read_table(file, columns=columns)
    is_there = pc.is_in(table["id"], value_set=_strings(wanted))
    if "rule" in columns:  # a reject by this rule holds no text
        is_there = pc.and_(is_there, pc.not_equal(table["rule"], REMOVED))
    return int(pc.sum(is_there).as_py() or 0)


def _strings(values: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.string())


def documents_in_shards(shards: Path, tokenizer: Path) -> Iterator[Document]:
    """Every document of both splits, its text out of the tokens of its rows."""
    card = card_of(str(shards))
    names = DocumentNames(str(shards), card.documents.files)
    decode = Encoder(tokenizer, plain=True).tokenizer.decode
    for index, tokens in _tokens(shards, card):
        named = names[index]
        yield Document(text=decode(tokens), id=named["id"], metadata={"url": named["url"], "source": named["source"]})


def search_shards(shards: Path, tokenizer: Path, removals: Removals) -> tuple[int, list[Found]]:
    """How many documents the shards have, and which of them are to go."""
    looked_at, found = 0, []
    for document in documents_in_shards(shards, tokenizer):
        looked_at += 1
        if match := removals.match(document):
            found.append((document, match))
    return looked_at, found


def _tokens(shards: Path, card: ShardsCard) -> Iterator[tuple[int, list[int]]]:
    """The index of each document and its tokens: the pieces of one stand one after the other, as its rows do."""
    dtype = np.dtype(card.dtype).newbyteorder("<")
    for sources in card.splits.values():
        for share in sources.values():
            begun: int | None = None
            tokens: list[int] = []
            for index, piece in _pieces([shards / file.name for file in share.files], dtype):
                if begun is not None and index != begun:
                    yield begun, tokens
                    tokens = []
                begun = index
                tokens += piece
            if begun is not None:
                yield begun, tokens


def _pieces(files: list[Path], dtype: np.dtype) -> Iterator[tuple[int, list[int]]]:
    for file in files:
        with pq.ParquetFile(file) as handle:
            for batch in handle.iter_batches(256, columns=["tokens", "documents", "offsets"]):
                for row in batch.to_pylist():
                    tokens = np.frombuffer(row["tokens"], dtype)
                    ends = [*row["offsets"][1:], len(tokens)]
                    for index, begin, end in zip(row["documents"], row["offsets"], ends, strict=True):
                        yield index, tokens[begin:end].tolist()
