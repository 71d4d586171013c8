"""Records of files: each way to write them gives the same ones, and what is none is told."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from infra.errors import UserError
from pipeline.reasoning.record_files import Unread, read_records

ROWS = [{"question": "Où?", "answer": 1}, {"question": "b", "answer": [2.5, None, {"c": True}]}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES.encode()),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode()),
        ("a.jsonl", LINES.encode("utf-16")),
        ("a.jsonl.gz", gzip.compress(LINES.encode())),
        ("a.jsonl.bz2", bz2.compress(LINES.encode())),
        ("a.jsonl.xz", lzma.compress(LINES.encode())),
        ("a.jsonl.zst", zstd.compress(LINES.encode())),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.json", json.dumps(ROWS, indent=2).encode()),
        ("a.json.gz", gzip.compress(json.dumps({"version": 1, "data": ROWS}, indent=2).encode())),
    ],
)
def test_every_way_to_write_them(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert list(read_records([str(tmp_path / name)])) == [(name, 1, ROWS[0]), (name, 2, ROWS[1])]


def test_types_that_json_does_not_have(tmp_path: Path) -> None:
    row = {"a": b"text", "b": [decimal.Decimal("1.50")], "c": {"d": datetime.date(2026, 1, 2)}, "e": 1.5, "f": None}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    ((_, _, found),) = read_records([str(tmp_path / "a.parquet")])
    assert found == {"a": "text", "b": ["1.50"], "c": {"d": "2026-01-02"}, "e": 1.5, "f": None}


def test_what_is_no_record_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n\ncaf\xe9\n{"a": 1,}\n[1\n"text"\n')
    found = [(number, record.why if isinstance(record, Unread) else record) for _, number, record in
             read_records([str(tmp_path / "a.jsonl")])]  # fmt: skip
    assert found == [(1, {"a": 1}), (3, "not UTF-8"), (4, "no JSON"), (5, "no JSON"), (6, "text")]


def test_of_a_folder_the_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A set")
    with pytest.raises(UserError, match=r"no JSONL and no Parquet file in it, but README\.md; name the files"):
        list(read_records([str(tmp_path)]))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.jsonl").write_text(LINES)
    (tmp_path / "rows").write_text(LINES)
    assert [name for name, _, _ in read_records([str(tmp_path)])] == ["deep/a.jsonl"] * 2
    assert [name for name, _, _ in read_records([str(tmp_path / "rows")])] == ["rows"] * 2


@pytest.mark.parametrize(
    ("end", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstd.compress)]
)
def test_a_file_that_breaks_off_is_named(end: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    name = f"a.jsonl.{end}"
    (tmp_path / name).write_bytes(pack(LINES.encode() * 50)[:-9])
    with pytest.raises(UserError, match=rf"^{name}: damaged \(.+\); get the file again$"):
        list(read_records([str(tmp_path / name)]))
