"""Whatever bytes a raw file has, reading it gives records, rejects or damage: nothing else is raised.

Files of every kind are bent at random: bytes changed, taken out, put in, doubled. The seeds are small, for the damage
of large ones has its own tests.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infra.errors import UserError
from pipeline.sections import (
    BookSource,
    CodeSource,
    DatasetSource,
    JsonlSource,
    ParquetSource,
    SubtitlesSource,
    WebSource,
    WikiSource,
)
from pipeline.sources import book, code, dataset, jsonl, parquet, subtitles, web, wiki
from pipeline.tasks.documents import Document
from tests.examples import examples
from tests.pipeline.sources.raw import external, page, read_all, warc_record, wiki_dump, wiki_page
from tests.pipeline.sources.test_epub import epub
from tests.pipeline.sources.test_subtitles import FILM, LIVE

WORDS = "The harbour lies open to the west, and the wind comes in with the tide. " * 3
CODE = "def harbour(tide):\n    return [wind for wind in tide if wind]\n" * 3


def _parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": [WORDS, "two", "three"], "id": [1, 2, 3]}), buffer)
    return buffer.getvalue()


def _arrow() -> bytes:
    buffer = io.BytesIO()
    table = pa.table({"text": [WORDS, "two"]})
    with pa.ipc.new_stream(buffer, table.schema) as out:
        out.write_table(table)
    return buffer.getvalue()


def _csv() -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["id", "text"], ["1", WORDS], ["2", 'a "quoted"\nword']])
    return buffer.getvalue().encode()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("a/one.py", "a/two.c"):
            info = tarfile.TarInfo(name)
            info.size = len(CODE)
            archive.addfile(info, io.BytesIO(CODE.encode()))
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/one.py", CODE)
        archive.writestr("a/two.c", CODE)
    return buffer.getvalue()


def _records() -> list[bytes]:
    return [warc_record(f"http://h/{number}", page(WORDS)) for number in range(3)]


def _warc() -> bytes:
    return b"".join(_records())


def _dump() -> bytes:
    return wiki_dump(*(wiki_page(name, f"'''{WORDS}''' {{{{a|b}}}} [[c|d]]<ref>e</ref>") for name in "AB"))


def _lines() -> bytes:
    return b"".join(json.dumps({"text": f"{number} {WORDS}"}).encode() + b"\n" for number in range(3))


SEEDS: dict[str, tuple[Any, Any, str, Callable[[], bytes]]] = {
    "warc": (web, WebSource(paths=("x",)), "a.warc", _warc),
    "warc.gz": (web, WebSource(paths=("x",)), "a.warc.gz", lambda: b"".join(map(gzip.compress, _records()))),
    "wiki": (wiki, WikiSource(paths=("x",)), "a.xml", _dump),
    "wiki.bz2": (wiki, WikiSource(paths=("x",)), "a.xml.bz2", lambda: bz2.compress(_dump())),
    "book": (book, BookSource(paths=("x",)), "a.txt", lambda: f"A title\n\nCHAPTER I\n\n{WORDS}".encode()),
    "epub": (
        book,
        BookSource(paths=("x",)),
        "a.epub",
        lambda: epub({"a": f"<html><body><p>{WORDS}</p></body></html>"}),
    ),
    "code": (code, CodeSource(paths=("x",)), "a.py", lambda: CODE.encode()),
    "tar": (code, CodeSource(paths=("x",)), "a.tar", _tar),
    "zip": (code, CodeSource(paths=("x",)), "a.whl", _zip),
    "jsonl": (jsonl, JsonlSource(paths=("x",)), "a.jsonl", _lines),
    "jsonl.gz": (jsonl, JsonlSource(paths=("x",)), "a.jsonl.gz", lambda: gzip.compress(_lines())),
    "parquet": (parquet, ParquetSource(paths=("x",)), "a.parquet", _parquet),
    "srt": (subtitles, SubtitlesSource(paths=("x",)), "a.srt", FILM.encode),
    "vtt": (subtitles, SubtitlesSource(paths=("x",)), "a.vtt", LIVE.encode),
    "arrow": (dataset, DatasetSource(paths=("x",)), "a.arrow", _arrow),
    "csv": (dataset, DatasetSource(paths=("x",)), "a.csv", _csv),
}


@cache
def _seed(kind: str) -> bytes:
    return SEEDS[kind][3]()


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["change", "cut", "insert", "double", "swap"]),
        st.floats(0, 1),
        st.floats(0, 1),
        st.binary(max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def _bend(content: bytes, edits: list[tuple[str, float, float, bytes]]) -> bytes:
    for how, where, size, given_ in edits:
        begin = int(where * len(content))
        end = begin + int(size * (len(content) - begin) / 4)
        middle = {
            "change": (given_ * (end - begin))[: end - begin],
            "cut": b"",
            "insert": given_ + content[begin:end],
            "double": content[begin:end] * 2,
            "swap": content[begin:end][::-1],
        }[how]
        content = content[:begin] + middle + content[end:]
    return content


@pytest.mark.parametrize("kind", SEEDS)
@settings(max_examples=examples(40), deadline=None)
@given(edits=EDITS)
@example(edits=[("double", 0.0, 0.0625, b"")])  # of the table: two columns of one name
@example(edits=[("swap", 0.71875, 0.5, b"")])  # of the zip: a member without a name
def test_any_bytes_are_records_rejects_or_damage(kind: str, edits: list[tuple[str, float, float, bytes]]) -> None:
    module, source, name, _ = SEEDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        try:
            found, _ = read_all(module.read, source, external(Path(folder) / name, _bend(_seed(kind), edits)))
        except UserError as error:
            # a table whose column has lost its name, or has it twice
            if "no column text" not in str(error) and "columns are named" not in str(error):
                raise
            found = []
    for document, rule in found:
        assert isinstance(document, Document)
        assert rule is None or rule
        if rule is None:
            document.text.encode("utf-8", "surrogatepass")
            assert document.text.strip()


@pytest.mark.parametrize("kind", SEEDS)
def test_the_seeds_are_read(kind: str, tmp_path: Path) -> None:
    module, source, name, _ = SEEDS[kind]
    found, damage = read_all(module.read, source, external(tmp_path / name, _seed(kind)))
    assert not damage
    assert [document for document, rule in found if rule is None or rule == "too_short"]
