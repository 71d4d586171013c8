"""A corpus of hostile files: each costs its own record, is counted and kept, and no more of them than is allowed."""

from __future__ import annotations

import bz2
import gzip
import json
import random
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from pipeline.extract import extract
from pipeline.sections import ExtractConfig
from pipeline.sources import html
from pipeline.tasks.documents import read_documents
from tests.pipeline.corpus import published, set_workers
from tests.pipeline.sources.raw import page, warc_record, wiki_dump, wiki_page
from tests.pipeline.sources.test_epub import epub

WORDS = "The harbour of the old town lies open to the west, and the wind comes in with the tide. " * 4
GIANT = 100_000_000


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def _web() -> list[bytes]:
    """Members of a crawl: hostile records between good ones."""
    bomb_head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"
    bomb = bomb_head + _gzip(bytes(GIANT))
    head = "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://h/bomb\r\nContent-Type: application/http\r\n"
    corrupt = bytearray(_gzip(warc_record("http://h/corrupt", page(WORDS))))
    corrupt[len(corrupt) // 2] ^= 0x55
    noise = random.Random(1).randbytes(3000)
    return [
        _gzip(warc_record("http://h/1", page(WORDS))),
        _gzip(f"{head}Content-Length: {len(bomb)}\r\n\r\n".encode() + bomb + b"\r\n\r\n"),  # a zip bomb
        _gzip(warc_record("http://h/giant", b"<p>" + b"x" * GIANT)),  # a line of 100 MB, 1,000 to 1 compressed
        bytes(corrupt),
        _gzip(warc_record("http://h/deep", b"<div>" * 100_000 + WORDS.encode())),
        _gzip(warc_record("http://h/noise", noise, type="text/html; charset=utf-8")),
        _gzip(warc_record("http://h/nuls", page("a\0b" * 1000))),
        _gzip(warc_record("http://h/a", b"", http="301 Moved\r\nLocation: http://h/b")),  # a cycle of redirects
        _gzip(warc_record("http://h/b", b"", http="302 Found\r\nLocation: http://h/a")),
        _gzip(warc_record("http://h/2", page(WORDS))),
    ]


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>\n'


def _write(folder: Path) -> Path:
    """The corpus; what the disk holds of it is small."""
    pages = [
        wiki_page("A", WORDS),
        wiki_page("Bomb", "&b;"),
        wiki_page("X", "#REDIRECT [[Y]]", redirect="Y"),
        wiki_page("Y", "#REDIRECT [[X]]", redirect="X"),
        wiki_page("Tags", "&lt;b&gt;" * 200_000),
        wiki_page("Giant", "x" * 20_000_000),
        wiki_page("B", WORDS),
    ]
    lines = [
        json.dumps({"text": "first"}).encode(),
        b'{"text": "' + b"x" * GIANT + b'"}',
        b"[" * 100_000,
        json.dumps({"text": f"{WORDS}\0"}).encode(),
        json.dumps({"text": "\0" * 50}).encode(),
        b'{"text": "caf\xe9"}',
        json.dumps({"text": "last"}).encode(),
    ]
    texts = pa.table({"text": pa.array(["y" * 1_000_000, "fine"]).take(pa.array([0] * 2000 + [1]))})
    for name, content in {
        "web/crawl.warc.gz": b"".join(_web()),
        "wiki/dump.xml.bz2": bz2.compress(ENTITIES.encode() + wiki_dump(*pages)),
        "jsonl/lines.jsonl.gz": _gzip(b"\n".join(lines) + b"\n"),
        "book/good.epub": epub({"a": f"<html><body><p>{WORDS}</p></body></html>"}),
        "book/bomb.epub": epub({"a": "x" * 40_000_000}),
        "book/entities.epub": epub({"a": WORDS}, prolog=ENTITIES),
        "book/latin.txt": f"A café. {WORDS}".encode("latin-1"),
        "book/nuls.txt": bytes(5000),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "parquet").mkdir()
    pq.write_table(texts, folder / "parquet" / "rows.parquet")  # 2 GB in some kilobytes
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once: compressing the giants takes longest."""
    return _write(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting others takes longer, and the memory of this one is looked at."""
    set_workers(monkeypatch, 1)


def _config(folder: Path, kinds: tuple[str, ...], **more: Any) -> ExtractConfig:
    sources = {kind: {"kind": kind, "paths": [str(folder / kind)]} for kind in kinds}
    return ExtractConfig.model_validate({"sources": sources, "max_record_seconds": 1, "max_loss": 1, **more})


KINDS = ("web", "wiki", "jsonl", "book")
REJECTS = {
    "web/crawl.warc.gz/2": "too_large",
    "web/crawl.warc.gz/3": "too_large",
    "web/crawl.warc.gz/4": "failure/damaged",
    "web/crawl.warc.gz/5": "failure/nested",
    "web/crawl.warc.gz/6": "failure/encoding",
    "web/crawl.warc.gz/7": "failure/encoding",
    "web/crawl.warc.gz/8": "status/301",
    "web/crawl.warc.gz/9": "status/302",
    "wiki/dump.xml.bz2/2": "failure/xml",
    "wiki/dump.xml.bz2/3": "redirect",
    "wiki/dump.xml.bz2/4": "redirect",
    "wiki/dump.xml.bz2/5": "too_short",
    "wiki/dump.xml.bz2/6": "too_large",
    "jsonl/lines.jsonl.gz/2": "too_large",
    "jsonl/lines.jsonl.gz/3": "failure/json",
    "jsonl/lines.jsonl.gz/5": "failure/encoding",
    "jsonl/lines.jsonl.gz/6": "failure/encoding",
    "book/bomb.epub/1": "too_large",
    "book/entities.epub/1": "failure/epub",
    "book/nuls.txt/1": "failure/encoding",
}


def test_each_costs_at_most_its_own_record(tmp_path: Path, corpus: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out = tmp_path / "out"
    out.mkdir()
    metrics = extract(_config(corpus, KINDS, max_failure_rate=1), {}, out).written()
    assert {document.id: document.metadata["rule"] for document in read_documents(out, "rejects")} == REJECTS
    assert [document.id for document in read_documents(out)] == [
        "book/good.epub/1",
        "book/latin.txt/1",
        "jsonl/lines.jsonl.gz/1",
        "jsonl/lines.jsonl.gz/4",
        "jsonl/lines.jsonl.gz/7",
        "web/crawl.warc.gz/1",
        "web/crawl.warc.gz/10",
        "wiki/dump.xml.bz2/1",
        "wiki/dump.xml.bz2/7",
    ]
    assert metrics["dropped"]["failure/encoding"] == 5
    assert sum(metrics["dropped"].values()) == len(REJECTS)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400_000, f"{grown} KiB more memory: something was held whole"


def test_too_many_of_them_stop_the_stage_with_the_reason(tmp_path: Path, corpus: Path) -> None:
    reason = r"extract\.sources\.book .*: 2 of 5 records .* as book/entities\.epub/1 \(.*defines entities.*\); mend the"
    with pytest.raises(UserError, match=reason):
        extract(_config(corpus, ("book",)), {}, tmp_path)


def test_a_parquet_bomb_is_read_in_little_memory(tmp_path: Path, corpus: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (tmp_path / "out").mkdir()
    metrics = extract(_config(corpus, ("parquet",), max_record_bytes=900_000), {}, tmp_path / "out").written()
    assert metrics["dropped"] == {"too_large": 2000}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_same_bytes_in_parts_and_on_any_number_of_workers(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for workers in (1, 2):
        set_workers(monkeypatch, workers)
        out = tmp_path / f"out{workers}"
        out.mkdir()
        extract(_config(corpus, ("wiki", "book"), max_failure_rate=1, split_bytes=1000), {}, out)
        results.append(published(out))
    assert results[0] == results[1]
    assert len(list(read_documents(tmp_path / "out1"))) == 4
    assert len([name for name in results[0] if name.startswith("documents/")]) > 4, "the dump is in parts"


def test_damaged_files_are_allowed_in_the_same_share_as_records(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    crawl = b"".join(_gzip(warc_record(f"http://h/{number}", page(WORDS))) for number in range(3))
    for number in range(6):
        (tmp_path / "web" / f"{number}.warc.gz").write_bytes(crawl[:-40] if number < 2 else crawl)
    (tmp_path / "a").mkdir()
    metrics = extract(_config(tmp_path, ("web",), max_failure_rate=0.4), {}, tmp_path / "a").written()
    assert metrics["dropped"] == {"damaged_file": 2}
    assert metrics["documents_out"] == 16
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"2 of 6 files are damaged, as web/0\.warc\.gz/3 \(byte .*truncated"):
        extract(_config(tmp_path, ("web",), max_failure_rate=0.2), {}, tmp_path / "b")


def test_the_depth_of_a_page_is_told_from_unclosed_tags() -> None:
    flat = "<p>words<br>" * 5000 + "</div>" * 9000 + "<p>end"
    assert html.text_of(flat, main_content=False)[1].endswith("end")
    with pytest.raises(html.TooDeep):
        html.text_of("</div>" * 2000 + "<div>" * 1500 + "words", main_content=False)
