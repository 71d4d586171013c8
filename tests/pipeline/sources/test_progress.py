"""Whatever is read, progress ends at the size of the file: not short of it, and not beyond."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra import events
from pipeline.sections import BookSource, CodeSource, JsonlSource, ParquetSource, WebSource, WikiSource
from pipeline.sources import book, code, dataset, jsonl, parquet, web, wiki
from tests.pipeline.sources.raw import external, page, read_all, warc_record, wiki_dump, wiki_page
from tests.pipeline.sources.test_epub import epub

PAGES = [wiki_page(str(number), f"Some words. {number}" * 50) for number in range(20)]
RECORDS = b"".join(warc_record(f"http://h/{number}", page("Some words.")) for number in range(20))


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", "x = 1\n" * 200)
    return stream.getvalue()


def _arrow(write: Callable[[Any, Any], None]) -> bytes:
    stream = io.BytesIO()
    write(pa.table({"text": ["Some words."] * 9}), stream)
    return stream.getvalue()


def _ipc(table: pa.Table, stream: Any) -> None:
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)


FILES: dict[str, tuple[Any, Any, bytes]] = {
    "a.jsonl": (jsonl, JsonlSource(paths=("x",)), b'{"text": "Some words."}\n' * 300),
    "a.jsonl.gz": (jsonl, JsonlSource(paths=("x",)), gzip.compress(b'{"text": "Some words."}\n' * 300)),
    "a.warc": (web, WebSource(paths=("x",)), RECORDS),
    "a.warc.gz": (web, WebSource(paths=("x",)), gzip.compress(RECORDS)),
    "wiki.xml": (wiki, WikiSource(paths=("x",)), wiki_dump(*PAGES)),
    "wiki.xml.bz2": (wiki, WikiSource(paths=("x",)), bz2.compress(wiki_dump(*PAGES))),
    "a.txt": (book, BookSource(paths=("x",)), b"Some words.\n" * 99),
    "a.epub": (book, BookSource(paths=("x",)), epub({"a": "<p>Some words.</p>" * 99})),
    "a.zip": (code, CodeSource(paths=("x",)), _zip()),
    "a.parquet": (parquet, ParquetSource(paths=("x",)), _arrow(pq.write_table)),
    "a.arrow": (dataset, ParquetSource(paths=("x",)), _arrow(_ipc)),
}


@pytest.mark.parametrize("name", FILES)
def test_it_ends_at_the_size(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, source, content = FILES[name]
    told: list[float] = []
    monkeypatch.setattr(events, "advance", told.append)
    file = external(tmp_path / name, content)
    for part in module.parts(source, file, len(content) // 3):
        assert not read_all(module.read, source, part)[1]
    assert sum(told) == file.size
