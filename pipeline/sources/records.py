"""The records of a file that somebody brings: what its JSON holds, or the rows of a table (Parquet, Arrow, CSV).

What a file is its first bytes tell before its name does. No more of it is held than a record, or some rows.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.storage import ExternalFile, open_file, open_seekable
from pipeline.sources import arrow
from pipeline.sources.broken import is_of_the_file
from pipeline.sources.columns import NO_VALUE, value_of
from pipeline.sources.dataset import format_of
from pipeline.sources.json_values import BLANK
from pipeline.sources.jsonl import Failure, records
from pipeline.sources.parquet import foreign_of
from pipeline.sources.separated import table_of
from pipeline.sources.stream import Damaged, Foreign, Limits, Part, open_stream
from pipeline.tasks.guarded_reader import Broken, guarded_items

__all__ = ["records_of"]

SECONDS = 60.0
"""Of processor time for each batch of rows."""
ROWS = 256
_VIEWED = {"row_idx", "row", "truncated_cells"}
"""What the Hub's viewer puts around a row."""
_BEGINS = {b"PAR1": "parquet", b"ARROW1": "arrow"}
_NOT_OF_JSON = re.compile("binary|decimal|date|time|duration|interval|uuid")
"""Types of tables that JSON does not have, wherever they stand in a schema."""


def records_of(
    file: ExternalFile, wanted: Collection[str], *, is_all: bool = True, listed: Collection[str] = ()
) -> Iterator[tuple[int, Any]]:
    """Number and value of each record; a `Failure` in place of what is none.

    Args:
        wanted: names of which a record, or a table's columns, should have one.
        listed: as in `jsonl.records`.
        is_all: whether the other columns of Parquet and Arrow are read as well.

    Raises:
        Damaged: the file breaks off, or is something else.
        UserError: two of the columns wanted have one name.
    """
    kind = _kind_of(file)
    if kind == "jsonl":
        for place, record in records(Part(file), Limits(), wanted, listed):
            is_of_viewer = isinstance(record, dict) and record.keys() <= _VIEWED and isinstance(record.get("row"), dict)
            yield place.get("line") or place.get("record", 0), record["row"] if is_of_viewer else record
    elif kind in ("csv", "tsv"):
        yield from _lines(file, wanted)
    else:
        yield from enumerate(_rows(file, kind, None if is_all else frozenset(wanted)), 1)


def _kind_of(file: ExternalFile) -> str:
    """`jsonl`, `parquet`, `arrow`, `csv` or `tsv`.

    Raises:
        Foreign: its name says that it is Parquet, and its content that it is something else.
    """
    with open_file(file) as raw:
        head = raw.read(8)
    kind = next((kind for magic, kind in _BEGINS.items() if head.startswith(magic)), format_of(file))
    if head.lstrip(BLANK).startswith((b"{", b"[")):
        return "jsonl"
    if kind == "parquet" and (foreign := foreign_of(file)):
        raise Foreign(*foreign)
    return kind or "jsonl"


def _rows(file: ExternalFile, kind: str, wanted: frozenset[str] | None) -> Iterator[dict[str, Any]]:
    number = 1
    try:
        for rows in guarded_items(_batches, (file, kind, wanted), SECONDS):
            yield from rows
            number += len(rows)
    except Broken as finding:
        raise Damaged(f"row {number}", str(finding)) from None


def _lines(file: ExternalFile, wanted: Collection[str]) -> Iterator[tuple[int, Any]]:
    with open_stream(Part(file)) as stream:
        names, rows = table_of(stream, file.name, wanted, Limits().bytes)
        for line, row in rows:
            yield line, Failure("", "failure/csv", row) if isinstance(row, str) else dict(zip(names, row, strict=False))


def _batches(file: ExternalFile, kind: str, wanted: frozenset[str] | None) -> Iterator[list[dict[str, Any]]]:
    number = 1
    with open_seekable(file) as raw:
        try:
            table = pq.ParquetFile(raw) if kind == "parquet" else None
            schema, batches = (table.schema_arrow, ()) if table else arrow.opened(raw)
            names = [name for name in schema.names if wanted is None or name in wanted] or schema.names
            if wanted is not None and (twice := {name for name in names if names.count(name) > 1}):
                raise UserError(f"{file.path}: several columns are named {min(twice)}; give all but one another name")
            for batch in table.iter_batches(ROWS, columns=names, use_threads=False) if table else batches:
                arrow.check(batch)
                for start in range(0, batch.num_rows, ROWS):
                    yield _rows_of(batch.slice(start, ROWS), set(names))
                number += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, MemoryError) or not is_of_the_file(error):
                raise
            raise Damaged(f"row {number}", f"not a whole {kind.capitalize()} file ({error})") from None


def _rows_of(batch: Any, wanted: set[str]) -> list[dict[str, Any]]:
    names = [name for name in batch.schema.names if name in wanted]
    columns = [
        _values(column) for name, column in zip(batch.schema.names, batch.columns, strict=True) if name in wanted
    ]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: Any) -> list[Any]:
    try:
        values = column.to_pylist()
    except NO_VALUE:
        values = [value_of(each) for each in column]
    return [_as_json(value) for value in values] if _NOT_OF_JSON.search(str(column.type)) else list(values)


def _as_json(value: Any) -> Any:
    """The same in the types of JSON: texts written as bytes, decimal numbers, dates and times as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
