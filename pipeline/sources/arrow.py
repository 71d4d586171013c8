"""Documents from files of Arrow's own: streams and random access files, as `datasets` saves them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, Any

import pyarrow as pa

from infra import events
from infra.storage import open_seekable
from pipeline.sections import ParquetSource
from pipeline.sources.broken import is_of_the_file
from pipeline.sources.columns import Paths, paths_of, rows_of
from pipeline.sources.signatures import EMPTY, file_of
from pipeline.sources.stream import Damaged, Foreign, Found, Limits, Part
from pipeline.sources.tables import ROWS, WHOLE, Row, Rows, batched, found_rows

__all__ = ["check", "opened", "read"]


def read(source: ParquetSource, part: Part, limits: Limits) -> Iterator[Found]:
    """A document per row; what cannot be decoded is damage.

    Raises:
        Damaged: this is no Arrow file, or not all of one.
        UserError: there is no text column, or there are two.
    """
    yield from found_rows(_decoded, source, part, limits)
    events.advance(part.size)


def _decoded(source: ParquetSource, part: Part, limits: Limits, _: int) -> Iterator[Rows]:
    first = 1
    with open_seekable(part.file) as stream:
        try:
            schema, batches = opened(stream)
            paths = paths_of(schema, source, part.file.path)
            for batch in batches:
                for rows in batched(WHOLE, first, _rows(batch, first, paths, source, limits)):
                    yield rows
                    first = rows.first + len(rows.rows)
        except MemoryError:
            raise
        except (pa.ArrowException, OSError) as error:
            if not is_of_the_file(error):
                raise
            raise Damaged(f"row {first}", f"not a whole Arrow file ({error})") from None


def opened(stream: IO[bytes]) -> tuple[Any, Iterable[Any]]:
    """Schema and record batches of a file in either layout."""
    head = stream.read(16)
    is_file = head.startswith(b"ARROW1")
    if told := file_of(head) if head and not is_file else None if head else EMPTY:
        raise Foreign(*told)
    stream.seek(0)
    if is_file:
        reader = pa.ipc.open_file(stream)
        return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))
    reader = pa.ipc.open_stream(stream)
    return reader.schema, reader


def _rows(batch: Any, first: int, paths: Paths, source: ParquetSource, limits: Limits) -> Iterator[Row]:
    check(batch)
    for start in range(0, batch.num_rows, ROWS):
        yield from rows_of(batch.slice(start, ROWS), paths, source, first + start, limits.bytes)


def check(batch: Any) -> None:
    """Raise an ArrowInvalid where offsets point out of the batch: Arrow trusts them, and would read there.

    Strings are looked at as bytes: those that are not UTF-8 cost their own row.
    """
    for column in batch.columns:
        if pa.types.is_string(column.type):
            column = column.cast(pa.binary())
        elif pa.types.is_large_string(column.type):
            column = column.cast(pa.large_binary())
        column.validate(full=True)
