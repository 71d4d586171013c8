"""Documents from Parquet files, a row each; only the columns asked for are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra import events
from infra.errors import UserError
from infra.storage import ExternalFile, open_seekable
from pipeline.sections import ParquetSource
from pipeline.sources.broken import is_of_the_file
from pipeline.sources.jsonl import from_row
from pipeline.sources.parts import split
from pipeline.sources.stream import Damaged, Found, Limits, Part
from pipeline.tasks.documents import Document

__all__ = ["parts", "read", "rows_of"]

_DICTIONARIES = frozenset({"PLAIN_DICTIONARY", "RLE_DICTIONARY"})
ROWS = 256
"""Rows in memory at once, where the file's row groups allow it."""


def parts(source: ParquetSource, file: ExternalFile, size: int) -> list[Part]:
    """`file` in parts of about `size` bytes."""
    return split(file, size)


def read(source: ParquetSource, part: Part, limits: Limits) -> Iterator[Found]:
    """A document per row of the row groups that begin in `part`.

    Raises:
        Damaged: this is no Parquet file, or not all of one.
        UserError: there is no text column.
    """
    number, file = 0, part.file
    with open_seekable(file) as stream:
        try:
            metadata = pq.read_metadata(stream)
            there = metadata.schema.to_arrow_schema().names
            if source.text_field not in there:
                listed = ", ".join(there)
                raise UserError(
                    f"{file.path}: no column {source.text_field} among {listed}; set the source's text_field"
                )
            wanted = {source.text_field, source.url_field, *source.metadata_fields}
            table = pq.ParquetFile(stream, metadata=metadata, read_dictionary=_folded(metadata, wanted))
            groups = [group for group in range(table.num_row_groups) if _is_in(part, table.metadata.row_group(group))]
            columns = [name for name in there if name in wanted]
            for batch in table.iter_batches(ROWS, groups, columns=columns) if groups else ():
                for row in rows_of(batch, source.text_field):
                    number += 1
                    place = {"url": "", "row": number}
                    if row is None:
                        problem = {"failure": "a column is not UTF-8"}
                        yield Document(text="", id="", metadata=place | problem), "failure/encoding"
                        continue
                    found, rule = from_row(source, row, place)
                    if len(found.text.encode("utf-8", "replace")) > limits.bytes:
                        found, rule = Document(text="", id="", metadata=place), "too_large"
                    yield found, rule
        except (pa.ArrowException, OSError) as error:
            if not is_of_the_file(error):
                raise
            raise Damaged(f"row {number + 1}", f"not a whole Parquet file ({error})") from None
    events.advance(part.size)


def _is_in(part: Part, group: Any) -> bool:
    column = group.column(0)
    begin = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    return bool(part.begin <= begin and (part.end is None or begin < part.end))


def _folded(metadata: Any, wanted: set[str]) -> list[str]:
    """Columns to be read as the dictionaries that they are: many times the same long text is small in the file, and
    stays small so. What is not a dictionary in the file cannot be read as one.
    """
    found = []
    for number in range(metadata.num_columns):
        column = metadata.schema.column(number)
        groups = (metadata.row_group(group).column(number) for group in range(metadata.num_row_groups))
        is_text = column.path in wanted and column.physical_type == "BYTE_ARRAY"
        if is_text and all(_DICTIONARIES.intersection(group.encodings) for group in groups):
            found.append(column.path)
    return found


def rows_of(batch: Any, text: str) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch; None for one whose strings are not UTF-8, which Parquet's writers need not check."""
    folded = {name: batch.column(name) for name in batch.schema.names if name == text or _is_folded(batch.column(name))}
    rest = batch.select([name for name in batch.schema.names if name not in folded])
    try:
        rows: list[dict[str, Any] | None] = rest.to_pylist()
    except UnicodeDecodeError:
        rows = [_row(rest.slice(number, 1)) for number in range(batch.num_rows)]
    for number, row in enumerate(rows or [{} for _ in range(batch.num_rows)]):
        try:
            yield None if row is None else row | {name: column[number].as_py() for name, column in folded.items()}
        except UnicodeDecodeError:
            yield None


def _is_folded(column: Any) -> bool:
    return bool(pa.types.is_dictionary(column.type))


def _row(slice_of_one: Any) -> dict[str, Any] | None:
    try:
        return dict(slice_of_one.to_pylist()[0])
    except UnicodeDecodeError:
        return None
