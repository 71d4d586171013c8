"""Documents from Parquet files, a row each; only the columns asked for are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra import events
from infra.errors import UserError
from infra.storage import ExternalFile, open_file
from pipeline.documents import Document
from pipeline.sections import ParquetSource
from pipeline.sources.jsonl import from_row
from pipeline.sources.stream import Damaged, Found

__all__ = ["read"]

ROWS = 256
"""Rows in memory at once, where the file's row groups allow it."""


def read(source: ParquetSource, file: ExternalFile, limit: int) -> Iterator[Found]:
    """A document per row of `file`.

    Raises:
        Damaged: this is no Parquet file, or not all of one.
        UserError: there is no text column.
    """
    number = 0
    with open_file(file) as stream:
        try:
            table = pq.ParquetFile(stream)
            there = table.schema_arrow.names
            if source.text_field not in there:
                columns = ", ".join(there)
                raise UserError(
                    f"{file.path}: no column {source.text_field} among {columns}; set the source's text_field"
                )
            wanted = {source.text_field, source.url_field, *source.metadata_fields}
            for batch in table.iter_batches(ROWS, columns=[name for name in there if name in wanted]):
                for row in _rows(batch):
                    number += 1
                    place = {"url": "", "row": number}
                    if row is None:
                        problem = {"failure": "a column is not UTF-8"}
                        yield Document(text="", id="", metadata=place | problem), "failure/encoding"
                        continue
                    found, rule = from_row(source, row, place)
                    if len(found.text) > limit or len(found.text.encode("utf-8", "replace")) > limit:
                        found, rule = Document(text="", id="", metadata=place), "too_large"
                    yield found, rule
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk or the network, not of the file
            raise Damaged(f"row {number + 1}", f"not a whole Parquet file ({error})") from None
    events.advance(file.size)


def _rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch; None for one whose strings are not UTF-8, which Parquet's writers need not check."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for number in range(batch.num_rows):
            try:
                yield batch.slice(number, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None
