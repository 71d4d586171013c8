"""Where removed documents are, or still are: among the documents of an artifact, and in token shards, out of the tokens
themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.removal.asks import REMOVED, Match, Removals
from pipeline.tasks.documents import Document, document_files, read_file
from pipeline.tasks.set_aside import KINDS
from pipeline.tokens.encoder import Encoder
from pipeline.tokens.names import DocumentNames, card_of
from pipeline.tokens.stream import TokenStream

__all__ = ["documents_in_shards", "named_in", "search_documents", "search_shards"]

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
    is_there = pc.is_in(table["id"], value_set=pa.array(wanted, pa.string()))
    if "rule" in columns:  # a reject by this rule holds no text
        is_there = pc.and_(is_there, pc.not_equal(table["rule"], REMOVED))
    return int(pc.sum(is_there).as_py() or 0)


def documents_in_shards(shards: Path, tokenizer: Path) -> Iterator[Document]:
    """Every document of both splits, its text out of the tokens of its rows."""
    card = card_of(str(shards))
    names = DocumentNames(str(shards), card.documents.files)
    decode = Encoder(tokenizer, plain=True).tokenizer.decode
    for split, sources in card.splits.items():
        for source in sources:
            for index, tokens in TokenStream(shards, split, source):
                place = {"url": names[index]["url"], "source": names[index]["source"]}
                yield Document(text=decode(tokens.tolist()), id=names[index]["id"], metadata=place)


def search_shards(shards: Path, tokenizer: Path, removals: Removals) -> tuple[int, list[Found]]:
    """How many documents the shards have, and which of them are to go."""
    looked_at, found = 0, []
    for document in documents_in_shards(shards, tokenizer):
        looked_at += 1
        if match := removals.match(document):
            found.append((document, match))
    return looked_at, found
