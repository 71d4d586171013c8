"""The ids, addresses and sources of the documents in token shards, from the files of their index.

Apart from the reader, which needs torch: who only asks where a document came from should not wait for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from infra.errors import UserError
from pipeline.tokens.card import CARD, IndexFile, ShardsCard, read_card

__all__ = ["DocumentName", "DocumentNames", "card_of", "open_file"]


class DocumentName(TypedDict):
    """Of one document."""

    id: str
    url: str
    source: str


class DocumentNames:
    """Documents by their index; the files that were asked for are kept."""

    def __init__(self, folder: str, files: Sequence[IndexFile]) -> None:
        counted = np.concatenate(([0], np.cumsum([file.rows for file in files], dtype=np.int64))).tolist()
        firsts = [count if file.first is None else file.first for count, file in zip(counted, files, strict=False)]
        order = [place for place in np.argsort(firsts, kind="stable").tolist() if files[place].rows]
        self.folder, self.files = folder, [files[place] for place in order]
        self.first = np.array([firsts[place] for place in order], dtype=np.int64)
        self.tables: dict[int, Any] = {}

    def find(self, text_id: str) -> list[int]:
        """The indices of the documents with an id; more than one where sources use the same."""
        found: list[int] = []
        for first, file in zip(self.first.tolist(), self.files, strict=False):
            with open_file(self.folder, file.name) as handle:
                ids = pq.ParquetFile(handle).read(["id"])["id"]
            found += (first + np.flatnonzero(pc.equal(ids, text_id).to_numpy())).tolist()
        return found

    def __getitem__(self, index: int) -> DocumentName:
        file = int(np.searchsorted(self.first, index, side="right")) - 1
        if file not in self.tables:
            with open_file(self.folder, self.files[file].name) as handle:
                found = hashlib.file_digest(handle, "sha256").hexdigest()
                if found != self.files[file].sha256:
                    raise UserError(
                        f"{self.folder}/{self.files[file].name}: damaged (its checksum differs from shards.json); "
                        "make the shards again"
                    )
                handle.seek(0)
                self.tables[file] = pq.ParquetFile(handle).read(["id", "url", "source"])
        entry: DocumentName = self.tables[file].slice(index - int(self.first[file]), 1).to_pylist()[0]
        return entry


def open_file(folder: str, name: str) -> Any:
    """A file of a shards artifact, a local folder or an address that fsspec knows, for reading.

    Raises:
        UserError: it is missing.
    """
    try:
        if "://" in folder:
            import fsspec

            return fsspec.open(f"{folder.rstrip('/')}/{name}", "rb").open()
        return Path(folder, name).open("rb")
    except FileNotFoundError:
        raise UserError(f"{folder}/{name}: missing; make the shards again") from None


def card_of(folder: str) -> ShardsCard:
    """What a shards artifact says of itself.

    Raises:
        UserError: it is none, or damaged.
    """
    if "://" not in folder and not Path(folder, CARD).is_file():
        raise UserError(f"{folder}: no {CARD}; this is not a shards artifact")
    with open_file(folder, CARD) as handle:
        return read_card(handle.read(), f"{folder}/{CARD}")
