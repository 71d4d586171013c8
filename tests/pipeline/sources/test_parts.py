"""Parts of a large file hold together what the whole holds, each record once, in order, wherever the cuts fall."""

from __future__ import annotations

import bz2
import gzip
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import UserError
from infra.storage import ExternalFile
from pipeline.sections import JsonlSource, ParquetSource, WebSource, WikiSource
from pipeline.sources import jsonl, parquet, stream, web, wiki
from pipeline.sources.parts import MOST_DECODES
from pipeline.sources.stream import Walk
from tests.examples import examples
from tests.pipeline.sources.raw import external, page, read_all, warc_record, wiki_dump, wiki_page

_gzip: Callable[[bytes], bytes] = lambda data: gzip.compress(data, 1, mtime=0)  # noqa: E731
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": _gzip,
    "bzip2": bz2.compress,
    "zstd": zstd.compress,
}
KINDS: dict[str, tuple[Any, Any]] = {
    "web": (web, WebSource(paths=("x",), min_characters=1)),
    "wiki": (wiki, WikiSource(paths=("x",), min_characters=1)),
    "jsonl": (jsonl, JsonlSource(paths=("x",))),
}


def _records(kind: str, sizes: list[int]) -> list[bytes]:
    source = random.Random(5)
    texts = [f"{number} " + source.randbytes(size).hex() for number, size in enumerate(sizes)]
    if kind == "jsonl":
        return [json.dumps({"text": text}).encode() + b"\n" for text in texts]
    if kind == "web":
        return [warc_record(f"http://h/{number}", page(text)) for number, text in enumerate(texts)]
    head, tail = wiki_dump("|").split(b"|")
    return [head, *(wiki_page(str(number), text).encode() for number, text in enumerate(texts)), tail]


def _members(kind: str, records: list[bytes], per_member: int) -> list[bytes]:
    """Records by the member; for web and wiki members begin with a record, as they do in crawls and dumps."""
    if kind != "jsonl":
        return [b"".join(records[at : at + per_member]) for at in range(0, len(records), per_member)]
    data = b"".join(records)  # parallel compressors cut anywhere
    size = max(1, len(data) * per_member // max(1, len(records)) - 3)
    return [data[at : at + size] for at in range(0, len(data), size)]


def _all(kind: str, file: ExternalFile, size: int) -> tuple[list[Any], list[Any], Any]:
    module, source = KINDS[kind]
    whole, damage = read_all(module.read, source, file)
    assert not damage
    parts = module.parts(source, file, size)
    assert sum(part.size for part in parts) == file.size
    pieces = []
    for part in parts:
        found, damage = read_all(module.read, source, part)
        assert not damage
        pieces += found
    for document, _ in [*whole, *pieces]:
        document.metadata.pop("line", None)
        document.metadata.pop("type", None)
    return whole, pieces, parts


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(25), deadline=None)
@given(
    sizes=st.lists(st.integers(0, 400), max_size=12),
    per_member=st.integers(1, 5),
    codec=st.sampled_from(sorted(COMPRESS)),
    size=st.integers(20, 3000),
    chunk=st.sampled_from([7, 100, 1000, 1 << 20]),
    single=st.booleans(),
)
def test_parts_are_the_whole(
    kind: str, sizes: list[int], per_member: int, codec: str, size: int, chunk: int, single: bool
) -> None:
    records = _records(kind, sizes)
    members = [b"".join(records)] if single else _members(kind, records, per_member)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK", chunk)
        file = external(Path(folder) / "f", b"".join(map(COMPRESS[codec], members)))
        whole, pieces, _ = _all(kind, file, size)
    assert pieces == whole
    assert len(whole) == len(sizes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", COMPRESS)
@pytest.mark.parametrize("single", [False, True])
def test_large_files_are_cut_into_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, codec: str, single: bool
) -> None:
    monkeypatch.setattr(stream, "CHUNK", 1000)
    records = _records(kind, [2000] * 80)
    members = [b"".join(records)] if single else _members(kind, records, 1)
    file = external(tmp_path / "f", b"".join(map(COMPRESS[codec], members)))
    whole, pieces, parts = _all(kind, file, 10_000)
    assert pieces == whole
    assert len(parts) == (MOST_DECODES if single and codec != "plain" else -(-file.size // 10_000))
    expected = Walk.SEEK if codec == "plain" else Walk.DECODE if single else Walk.MEMBERS
    assert {part.walk for part in parts} == {expected}


def test_parquet_is_cut_between_row_groups(tmp_path: Path) -> None:
    texts = [random.Random(number).randbytes(50).hex() for number in range(200)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "f", row_group_size=10)
    file = ExternalFile(str(tmp_path / "f"), "f", (tmp_path / "f").stat().st_size)
    source = ParquetSource(paths=("x",))
    for size in (10, 500, 4000, 10**9):
        found = [
            document.text
            for part in parquet.parts(source, file, size)
            for document, _ in read_all(parquet.read, source, part)[0]
        ]
        assert found == texts


def test_a_crawled_crawl_is_no_place_to_cut(tmp_path: Path) -> None:
    """A record that holds compressed records: a cut within it is noticed, and nothing is read twice in silence."""
    inner = b"".join(_gzip(warc_record(f"http://inner/{number}", page("x" * 200))) for number in range(40))
    import zlib

    store = zlib.compressobj(0, wbits=31)
    outer = warc_record("http://h/dump.warc.gz", inner, type="application/gzip")
    stored = store.compress(outer) + store.flush()
    first, last = (_gzip(warc_record(f"http://h/{name}", page("words"))) for name in ("first", "last"))
    file = external(tmp_path / "f", first + stored + last)
    module, source = KINDS["web"]
    messages = [read_all(module.read, source, part)[1] for part in module.parts(source, file, file.size // 2)]
    assert any("lies within another; set extract.split_bytes" in message for message in messages)


def test_a_corrupt_member_at_a_cut_costs_itself(tmp_path: Path) -> None:
    records = [_gzip(record) for record in _records("web", [300] * 9)]
    corrupt = bytearray(records[4])
    corrupt[-5] ^= 0x55
    data = b"".join([*records[:4], bytes(corrupt), *records[5:]])
    module, source = KINDS["web"]
    file = external(tmp_path / "f", data)
    for size in range(200, file.size, 97):
        found = [each for part in module.parts(source, file, size) for each in read_all(module.read, source, part)[0]]
        assert sorted(document.metadata["url"] for document, rule in found if rule is None) == [
            f"http://h/{number}" for number in (0, 1, 2, 3, 5, 6, 7, 8)
        ]
        assert [rule for _, rule in found if rule] == ["failure/damaged"]


def test_errors_are_still_the_users(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "f")
    with pytest.raises(UserError, match="no column text"):
        read_all(parquet.read, ParquetSource(paths=("x",)), ExternalFile(str(tmp_path / "f"), "f", 1))
