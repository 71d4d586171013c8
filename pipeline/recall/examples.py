"""Examples that a classifier learns from: texts of files and of the corpus, as many as are wanted, chosen by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.storage import resolve
from pipeline.recall.classifier import line_of
from pipeline.sources.jsonl import records
from pipeline.sources.stream import Damaged, Limits, Part

__all__ = ["EXAMPLES", "Sample", "key_of", "lines_of_files", "of_task", "write_table"]

EXAMPLES = pa.schema([("key", pa.binary(16)), ("kind", pa.string()), ("line", pa.string())])


class Example(TypedDict):
    """A row of `EXAMPLES`."""

    key: bytes
    kind: str
    line: str


def key_of(line: str, seed: int) -> bytes:
    """What decides whether a line is among the examples."""
    return hashlib.blake2b(
        line.encode(errors="surrogatepass"), digest_size=16, salt=seed.to_bytes(8, "little")
    ).digest()


class Sample:
    """Examples of each kind, as many as are wanted: those with the least hashes, each line once."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = dict(limits)
        self.kept: dict[str, dict[bytes, str]] = {kind: {} for kind in self.limits}

    def add(self, kind: str, key: bytes, line: str) -> None:
        """Take a line into account."""
        found = self.kept[kind]
        found[key] = line
        if len(found) > 2 * self.limits[kind]:
            self.kept[kind] = dict(sorted(found.items())[: self.limits[kind]])

    def take(self, folder: Path) -> None:
        """Take the rows of all files of a folder into account."""
        for file in sorted(folder.glob("*.parquet")):
            for row in pq.read_table(file).to_pylist():
                self.add(row["kind"], row["key"], row["line"])

    def labelled(self) -> list[tuple[str, bool]]:
        """Lines, and whether they are of the kind ``in``, for a classifier: by their hashes, which mixes the kinds."""
        rows = sorted((row["key"], row["line"], row["kind"] == "in") for row in self.rows())
        return [(line, is_in) for _, line, is_in in rows]

    def rows(self) -> Iterator[Example]:
        """Rows of `EXAMPLES`."""
        for kind, found in self.kept.items():
            for key, line in sorted(found.items())[: self.limits[kind]]:
                yield {"key": key, "kind": kind, "line": line}


def lines_of_files(paths: tuple[str, ...], characters: int, seed: int, what: str) -> Iterator[tuple[bytes, str]]:
    """Key and line of each text of JSONL files, compressed or not.

    Raises:
        UserError: a record has no text, a file is damaged; `what` says what the files are.
    """
    for file in resolve(paths) if paths else ():
        try:
            for number, (_, record) in enumerate(records(Part(file), Limits()), 1):
                if not isinstance(text := record.get("text") if isinstance(record, dict) else None, str):
                    raise UserError(
                        f"{file.path}: record {number}: not a JSON object with a text; {what} are JSONL files"
                    )
                line = line_of(text, characters)
                yield key_of(line, seed), line
        except Damaged as damage:
            raise UserError(f"{file.path}: {damage}; {damage.remedy}") from None


def of_task(folder: Path, rank: int) -> Path:
    """The file of a task."""
    return folder / f"{rank:05d}.parquet"


def write_table(table: pa.Table, path: Path) -> None:
    """Write a file that has its name once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    pq.write_table(table, unfinished)
    unfinished.replace(path)
