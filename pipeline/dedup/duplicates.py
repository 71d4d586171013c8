"""What deduplication matched with what: clusters as a person can judge them.

Read from the artifact alone: each reject names the document that stays, whose text is among the documents. The
likeness is the exact Jaccard similarity of word shingles, the quantity that MinHash estimates. A member that is unlike
the one that stays came in through another of the cluster, which is named.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds
from datatrove.data import Document

from infra.errors import UserError
from pipeline.tasks.documents import document_files, read_file
from pipeline.text.words import WORDS

__all__ = ["Cluster", "Member", "changes", "find_clusters", "jaccard", "shingles_of", "sizes"]

SHINGLE = 5
"""Words (FineWeb's n-grams)."""
CHAINED = 0.5
"""Likeness to the one that stays below which another member is looked for."""
MOST_COMPARED = 50
"""Members of a cluster among which it is looked for."""


@dataclass(frozen=True)
class Member:
    """A document that went."""

    document: Document
    rule: str
    likeness: float
    """To the one that stays, 0 to 1."""
    through: str = ""
    """Id of the member that it is more like, where it is unlike the one that stays."""


@dataclass(frozen=True)
class Cluster:
    """A document that stays, and its copies that went, likest first."""

    kept: Document
    members: tuple[Member, ...]


def sizes(artifact: Path) -> dict[str, int]:
    """How many copies of each document went, by its id; most first, then by id."""
    counts: dict[str, int] = {}
    for file in document_files(artifact, "rejects"):
        for document in read_file(file):
            if kept := document.metadata.get("kept"):
                counts[kept] = counts.get(kept, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def find_clusters(artifact: Path, wanted: Iterable[str]) -> list[Cluster]:
    """The clusters of the documents with these ids, which may be of any of their members, in that order.

    Raises:
        UserError: no document of a cluster has such an id.
    """
    ids = list(wanted)
    asked = set(ids)
    rejects = [document for file in document_files(artifact, "rejects") for document in _copies(file)]
    stays = {document.id: document.metadata["kept"] for document in rejects if document.id in asked}
    heads = list(dict.fromkeys(stays.get(name, name) for name in ids))
    members: Mapping[str, list[Document]] = {head: [] for head in heads}
    for document in rejects:
        if document.metadata["kept"] in members:
            members[document.metadata["kept"]].append(document)
    if missing := [head for head in heads if not members[head]]:
        raise UserError(f"{artifact}: {missing[0]} has no copies; deepmill duplicates without --id lists what has")
    kept = _by_id(artifact, heads)
    return [Cluster(kept[head], _judge(kept[head], members[head])) for head in heads]


def _copies(file: Path) -> Iterable[Document]:
    return (document for document in read_file(file) if document.metadata.get("kept"))


def _by_id(artifact: Path, ids: list[str]) -> dict[str, Document]:
    files = [str(file) for file in document_files(artifact)]
    table = ds.dataset(files, format="parquet").to_table(filter=ds.field("id").isin(ids))
    found = {
        row["id"]: Document(text=row["text"], id=row["id"], metadata={"source": row["source"], "url": row["url"]})
        for row in table.to_pylist()
    }
    if lost := [name for name in ids if name not in found]:
        raise UserError(f"{artifact}: {lost[0]} is not among the documents: it lost too many sentences, or is damaged")
    return found


def _judge(kept: Document, documents: list[Document]) -> tuple[Member, ...]:
    own = shingles_of(kept.text)
    others = [(document, shingles_of(document.text)) for document in documents]
    members = []
    for document, shingles in others:
        likeness, through = jaccard(own, shingles), ""
        if likeness < CHAINED:
            near = [
                (jaccard(shingles, each), other.id) for other, each in others[:MOST_COMPARED] if other.id != document.id
            ]
            best = max(near, default=(0.0, ""))
            through = best[1] if best[0] > likeness else ""
        members.append(Member(document, document.metadata["rule"], likeness, through))
    return tuple(sorted(members, key=lambda member: (-member.likeness, member.document.id)))


def shingles_of(text: str) -> frozenset[str]:
    """Runs of `SHINGLE` words, or all words where there are fewer; lower case, no punctuation."""
    words = [word for word in WORDS.word_tokenize(text.lower()) if any(map(str.isalnum, word))]
    return frozenset(" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1)))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Size of the intersection over that of the union; 1 for two empty sets."""
    return len(left & right) / len(left | right) if left or right else 1.0


def changes(kept: str, gone: str, most: int = 20) -> list[str]:
    """The lines in which two texts differ, as a unified diff without its head; at most `most` of them."""
    lines = difflib.unified_diff(kept.splitlines(), gone.splitlines(), n=0, lineterm="")
    found = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    return found[:most] + ([f"... {len(found) - most} more"] if len(found) > most else [])
