"""When documents were collected: the dates that crawls note of their records, without reading the texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.tasks.documents import document_files

__all__ = ["Collected", "collected"]

DATE = r'"date": "(?P<month>[0-9]{4}-(?:0[1-9]|1[0-2]))-'
"""In the column of metadata, which is JSON with sorted keys: within a text its quotes would be escaped."""


@dataclass
class Collected:
    """Of one source."""

    first: str
    """Month, as YYYY-MM."""
    last: str
    dated: int = 0
    """Documents that have a date."""


def collected(artifact: Path, sources: list[str]) -> dict[str, Collected]:
    """The months in which the documents of `sources` were collected, as far as they have dates."""
    found: dict[str, Collected] = {}
    for file in document_files(artifact):
        with pq.ParquetFile(file) as handle:
            for batch in handle.iter_batches(65_536, columns=["source", "metadata"]):
                months = pc.struct_field(pc.extract_regex(batch["metadata"], DATE), "month")
                for source in sources:
                    dated = pc.drop_null(months.filter(pc.equal(batch["source"], source)))
                    if len(dated):
                        bounds = pc.min_max(dated).as_py()
                        entry = found.setdefault(source, Collected(bounds["min"], bounds["max"]))
                        entry.first = min(entry.first, bounds["min"])
                        entry.last = max(entry.last, bounds["max"])
                        entry.dated += len(dated)
    return found
