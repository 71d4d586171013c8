"""Documents from Parquet files, a row each; only the columns asked for are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra import events
from infra.storage import ExternalFile, open_seekable
from pipeline.sections import ParquetSource
from pipeline.sources.broken import is_of_the_file
from pipeline.sources.columns import Paths, paths_of, rows_of
from pipeline.sources.parts import split
from pipeline.sources.signatures import EMPTY, SAVED_PAGE, content_of
from pipeline.sources.stream import Damaged, Foreign, Found, Limits, Part
from pipeline.sources.tables import ROWS, Row, Rows, batched, found_rows

__all__ = ["foreign_of", "parts", "read"]

_DICTIONARIES = frozenset({"PLAIN_DICTIONARY", "RLE_DICTIONARY"})
_MAGIC = b"PAR1"
_FOOTER = 1 << 20
"""Bytes at the end of a file in which its footer, or most of it, stands."""
_UNPACK = "unpack it: Parquet compresses its own pages"
_OTHERS = {
    b"PARE": ("an encrypted Parquet file", "decrypt it"),
    b"ORC": ("an ORC file", "convert it to Parquet"),
    b"<": SAVED_PAGE,
    b"\x1f\x8b": ("compressed as a whole with gzip", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed as a whole with zstd", _UNPACK),
    b"BZh": ("compressed as a whole with bzip2", _UNPACK),
    b"\xfd7zXZ\0": ("compressed as a whole with xz", _UNPACK),
    b"\xff\xff\xff\xff": ("an Arrow stream", "read it as kind: dataset"),
}
"""By how they begin, besides what no reader reads."""
_PRINTABLE = re.compile(rb"[\t\n\r -~]+")
_TEXT = ("text, and no Parquet file", "name it .csv or .jsonl for what it is, and read it as kind: dataset")
_KEY = b"PKMT1"
"""In the footer of a file whose columns are encrypted, beside their keys."""
_BESIDE = frozenset({"PLAIN", "RLE", "BIT_PACKED"})
"""Encodings that a column read as a dictionary may have as well: of its pages without one, and of its levels."""


def parts(source: ParquetSource, file: ExternalFile, size: int) -> list[Part]:
    """`file` in parts of about `size` bytes."""
    return split(file, size)


def read(source: ParquetSource, part: Part, limits: Limits) -> Iterator[Found]:
    """A document per row of the row groups that begin in `part`; a row group that cannot be decoded is one reject.

    Raises:
        Damaged: this is no Parquet file, or not all of one.
        UserError: there is no text column, or there are two.
    """
    if not part.begin and (foreign := foreign_of(part.file)):
        raise Foreign(*foreign)
    try:
        yield from found_rows(_decoded, source, part, limits)
    except Damaged:
        if _is_encrypted(part.file):
            raise Foreign("a Parquet file with encrypted columns", "decrypt it") from None
        raise
    events.advance(part.size)


def _is_encrypted(file: ExternalFile) -> bool:
    """Whether columns are, though the footer is not: pyarrow's decoder dies of these."""
    with open_seekable(file) as stream:
        stream.seek(max(0, file.size - _FOOTER))
        return _KEY in stream.read(_FOOTER)


def foreign_of(file: ExternalFile) -> tuple[str, str] | None:
    """What a file is that does not begin as one of Parquet, where that can be told, and what to do."""
    with open_seekable(file) as stream:
        head = stream.read(512)
    if head.startswith(_MAGIC):
        return None
    if not head:
        return EMPTY
    if head[8:12] == b"DUCK":
        return "a DuckDB database", "export its texts as Parquet (COPY ... TO)"
    told = next((told for magic, told in _OTHERS.items() if head.startswith(magic)), content_of(head))
    return told or (_TEXT if _PRINTABLE.fullmatch(head) else None)


def _decoded(source: ParquetSource, part: Part, limits: Limits, begun: int) -> Iterator[Rows]:
    """The rows of the row groups of `part`, from number `begun` of the file on."""
    next_row = 1
    with open_seekable(part.file) as stream:
        try:
            metadata = pq.read_metadata(stream)
            paths = paths_of(metadata.schema.to_arrow_schema(), source, part.file.path)
            table = pq.ParquetFile(stream, metadata=metadata, read_dictionary=_folded(metadata, paths))
            for group in range(metadata.num_row_groups):
                facts = metadata.row_group(group)
                if not _is_in(part, facts):
                    continue
                if group < begun:
                    next_row += facts.num_rows
                    continue
                yield Rows(group, next_row, [])
                for rows in batched(group, next_row, _rows(table, group, next_row, paths, source, limits)):
                    yield rows
                    next_row = rows.first + len(rows.rows)
        except MemoryError:
            raise
        except (pa.ArrowException, OSError) as error:
            if not is_of_the_file(error):
                raise
            raise Damaged(f"row {next_row}", f"not a whole Parquet file ({error})") from None


def _rows(table: Any, group: int, first: int, paths: Paths, source: ParquetSource, limits: Limits) -> Iterator[Row]:
    columns = [".".join(path) for path in paths.values()]
    for batch in table.iter_batches(ROWS, [group], columns=columns, use_threads=False):
        yield from rows_of(batch, paths, source, first, limits.bytes)
        first += batch.num_rows


def _is_in(part: Part, group: Any) -> bool:
    column = group.column(0)
    begin = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    return bool(part.begin <= begin and (part.end is None or begin < part.end))


def _folded(metadata: Any, paths: Paths) -> list[str]:
    """Columns to be read as the dictionaries that they are: many times the same long text is small in the file, and
    stays small so. What is not a dictionary in all of the file cannot be read as one.
    """
    found = []
    wanted = {path[0] for path in paths.values() if len(path) == 1}
    for number in range(metadata.num_columns):
        column = metadata.schema.column(number)
        groups = (metadata.row_group(group).column(number) for group in range(metadata.num_row_groups))
        is_text = column.path in wanted and column.physical_type == "BYTE_ARRAY"
        if is_text and all(map(_is_dictionary, groups)):
            found.append(column.path)
    return found


def _is_dictionary(column: Any) -> bool:
    """Whether a column of a row group is one, and the better part of the column: else it is slow to read so, and most
    of its pages have no use for it.
    """
    encodings = frozenset(column.encodings)
    if not encodings & _DICTIONARIES or not encodings <= _DICTIONARIES | _BESIDE or not column.has_dictionary_page:
        return False
    return bool(2 * (column.data_page_offset - column.dictionary_page_offset) > column.total_compressed_size)
