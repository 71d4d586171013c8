"""Where the rows of token shards lie in their Parquet files, so that one can be fetched without its neighbours.

The columns `tokens` and `checksum` are stored plain, uncompressed, without nulls and with one page to a row group:
their values are then the last bytes of the column chunk, row after row. The shards' card records where each chunk's
values begin; row r of a file is at `begin[r // rows_per_group] + (r % rows_per_group) * width`. Any Parquet reader
still opens the files; this one reads the bytes of a row, not a row group, from a mapped file or by ranges from S3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import xxhash

from infra.errors import UserError
from infra.ranges import RemoteFolder
from pipeline.tokens.card import ShardFile

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["LocalFiles", "Pieces", "RemoteFiles", "checksum", "open_files", "read_pieces", "value_offsets"]

OPEN_FILES = 256
"""Mapped files kept open."""


def checksum(row: Buffer) -> int:
    """The 64-bit XXH3 of a row's bytes; kept beside each row and compared when it is read."""
    return xxhash.xxh3_64_intdigest(row)


def value_offsets(path: Path, column: str, width: int) -> list[int]:
    """Where in a Parquet file the values of `column` begin, for each row group.

    Raises:
        ValueError: the column is not stored plain, in one page to a group.
    """
    metadata = pq.read_metadata(path)
    place = metadata.schema.names.index(column)
    begins = []
    with path.open("rb") as file:
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(place)
            size = metadata.row_group(group).num_rows * width
            end = chunk.data_page_offset + chunk.total_compressed_size
            plain = chunk.compression == "UNCOMPRESSED" and set(chunk.encodings) <= {"PLAIN", "RLE"}
            # All that a single page holds beside the values is its header, some tens of bytes.
            if not plain or chunk.has_dictionary_page or not 0 < chunk.total_compressed_size - size < 256:
                raise ValueError(f"{path}: column {column} of row group {group} is not one plain page")
            file.seek(end - size)
            if group == 0 and file.read(width) != _first_value(path, column, width):
                raise ValueError(f"{path}: column {column} does not lie where it was sought")
            begins.append(end - size)
    return begins


class Pieces(NamedTuple):
    """What rows say of the documents that they hold pieces of, in order; int64 [N] each."""

    rows: np.ndarray
    """Row of the file, or of the row group that was asked for."""
    documents: np.ndarray
    """Index of the document in the shards."""
    begins: np.ndarray
    """Token of the row with which the piece begins,"""
    ends: np.ndarray
    """and the one behind its last."""


def read_pieces(file: Path | Any, sequence_length: int, group: int | None = None) -> Pieces:
    """The pieces of all rows of a `file`, a path or one that is open, or of those of one row group."""
    opened, columns = pq.ParquetFile(file), ["documents", "offsets"]
    table = (opened.read(columns) if group is None else opened.read_row_group(group, columns)).combine_chunks()
    documents, offsets = (table[name].combine_chunks() for name in columns)
    counts = documents.value_lengths().to_numpy()
    begins = offsets.flatten().to_numpy().astype(np.int64)
    ends = np.append(begins[1:], 0)
    ends[np.cumsum(counts) - 1] = sequence_length
    rows = np.repeat(np.arange(len(counts)), counts)
    return Pieces(rows, documents.flatten().to_numpy().astype(np.int64), begins, ends)


def _first_value(path: Path, column: str, width: int) -> bytes:
    value = pq.ParquetFile(path).read_row_group(0, columns=[column])[column][0].as_py()
    return value if isinstance(value, bytes) else int(value).to_bytes(width, "little")


class LocalFiles:
    """Files under a local folder, mapped into memory when first needed."""

    def __init__(self, folder: str, files: Sequence[ShardFile]) -> None:
        self.paths = [Path(folder, file.name) for file in files]
        self.open: OrderedDict[int, np.ndarray] = OrderedDict()
        for path, file in zip(self.paths, files, strict=True):
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                raise UserError(f"{path}: missing; make the shards again") from None
            if size != file.bytes:
                raise UserError(f"{path}: damaged ({size} of {file.bytes} bytes); make the shards again")

    def name(self, file: int) -> str:
        """What to call a file in a message."""
        return str(self.paths[file])

    def ranges(self, wanted: Sequence[tuple[int, int, int]]) -> Sequence[memoryview | bytes]:
        """The bytes of each `(file, begin, size)`."""
        return [self._map(file).data[begin : begin + size] for file, begin, size in wanted]

    def _map(self, file: int) -> np.ndarray:
        if file in self.open:
            self.open.move_to_end(file)
        else:
            self.open[file] = np.memmap(self.paths[file], dtype=np.uint8, mode="r")
            if len(self.open) > OPEN_FILES:
                self.open.popitem(last=False)
        return self.open[file]


class RemoteFiles:
    """Files under an address that fsspec knows (`s3://bucket/prefix`); ranges are fetched at once, not one by one."""

    def __init__(self, folder: str, files: Sequence[ShardFile]) -> None:
        self.folder, self.names = RemoteFolder(folder), [file.name for file in files]

    def name(self, file: int) -> str:
        """What to call a file in a message."""
        return self.folder.address(self.names[file])

    def ranges(self, wanted: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """The bytes of each `(file, begin, size)`.

        Raises:
            UserError: a file is not there.
        """
        try:
            return self.folder.ranges([(self.names[file], begin, size) for file, begin, size in wanted])
        except FileNotFoundError as error:
            raise UserError(f"{error}: missing; make the shards again") from None


def open_files(folder: str, files: Sequence[ShardFile]) -> LocalFiles | RemoteFiles:
    """The files of an artifact, wherever it is; `files` are entries of its card."""
    return RemoteFiles(folder, files) if "://" in folder else LocalFiles(folder, files)
