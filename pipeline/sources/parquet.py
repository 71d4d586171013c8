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
            schema = metadata.schema.to_arrow_schema()
            there = schema.names
            if source.text_field not in there:
                listed = ", ".join(there)
                raise UserError(
                    f"{file.path}: no column {source.text_field} among {listed}; set the source's text_field"
                )
            wanted = {source.text_field, source.url_field, *source.metadata_fields}
            # A column of many times the same long text is small in the file, and stays small as a dictionary.
            kind = schema.field(source.text_field).type
            folded = [source.text_field] if pa.types.is_string(kind) or pa.types.is_large_string(kind) else []
            table = pq.ParquetFile(stream, metadata=metadata, read_dictionary=folded)
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


def rows_of(batch: Any, text: str) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch; None for one whose strings are not UTF-8, which Parquet's writers need not check."""
    column = batch.column(text)
    values, places = column, list(range(batch.num_rows))
    if pa.types.is_dictionary(column.type):
        values, places = column.dictionary, column.indices.to_pylist()
    rest = batch.select([name for name in batch.schema.names if name != text])
    try:
        rows: list[dict[str, Any] | None] = rest.to_pylist()
    except UnicodeDecodeError:
        rows = [_row(rest.slice(number, 1)) for number in range(batch.num_rows)]
    for row, place in zip(rows or [{} for _ in places], places, strict=True):
        try:
            yield None if row is None else row | {text: None if place is None else values[place].as_py()}
        except UnicodeDecodeError:
            yield None


def _row(slice_of_one: Any) -> dict[str, Any] | None:
    try:
        return dict(slice_of_one.to_pylist()[0])
    except UnicodeDecodeError:
        return None
