"""Records of files: each way to write them gives the same ones, and what is none is told."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import io
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from infra.errors import UserError
from pipeline.reasoning.record_files import Unread, read_records

ROWS = [{"question": "Où?", "answer": 1}, {"question": "b", "answer": [2.5, None, {"c": True}]}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
HELD = {"version": {"a": [1, {"b": "]"}]}, "data": ROWS, "test": ROWS}
VIEWED = {"features": [{"name": "a"}], "rows": [{"row_idx": place, "row": row} for place, row in enumerate(ROWS)]}


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
        ("a.json", b"\xef\xbb\xbf" + json.dumps(HELD, ensure_ascii=False).encode()),
        ("a.json", json.dumps({"train": ROWS, "test": ROWS[:1]}).encode()),
        ("a.json", json.dumps(VIEWED).encode()),
        ("a.json", "\n".join(json.dumps(row, indent=2) for row in ROWS).encode()),
        ("a.json", json.dumps(ROWS)[:-1].encode() + b",]\n"),
        ("a.jsonl", LINES.encode("utf-16-be")),
        ("a.jsonl", LINES.replace("\n", ",\n").encode() + b"\x1a"),
        ("a.jsonl", zstd.compress(LINES.encode())),
        ("a.jsonl.xz", LINES.encode()),
        ("a.json.bz2", gzip.compress(LINES.encode()[:20]) + gzip.compress(LINES.encode()[20:])),
        ("a.parquet", LINES.encode()),
    ],
)
def test_every_way_to_write_them(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert list(read_records([str(tmp_path / name)])) == [(name, 1, ROWS[0]), (name, 2, ROWS[1])]


def _table(name: str) -> bytes:
    rows = [{"question": "Où?", "answer": "1"}, {"question": "b, c", "answer": "2"}]
    sign = "\t" if name.endswith(".tsv") else ";"
    if name.endswith(("csv", "tsv")):
        return "".join(sign.join(row) + "\n" for row in (rows[0], *(each.values() for each in rows))).encode()
    table, file = pa.Table.from_pylist(rows), io.BytesIO()
    if name.endswith("arrow"):
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, file)
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.arrow", "a.pq", "parquet.json"])
def test_tables(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(_table(name))
    found = [record for _, _, record in read_records([str(tmp_path / name)])]
    assert found == [{"question": "Où?", "answer": "1"}, {"question": "b, c", "answer": "2"}]


@pytest.mark.parametrize("key", ["examples", "data"])
def test_a_record_with_a_list_of_objects_stays_one(key: str, tmp_path: Path) -> None:
    rows = [{key: [{"a": 1}], "n": 1}, {key: [{"a": 2}], "n": 2}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.json").write_text(json.dumps({"question": "?", **rows[0]}, indent=1))
    found = [record for _, _, record in read_records([str(tmp_path)])]
    assert found == [*rows, {"question": "?", **rows[0]}]


def test_text_in_another_encoding(tmp_path: Path) -> None:
    rows = [{"question": f"항구는 서쪽으로 열려 있다 {number}"} for number in range(3)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_bytes(lines.encode("cp949"))
    assert [record for _, _, record in read_records([str(tmp_path / "a.jsonl")])] == rows


def test_types_that_json_does_not_have(tmp_path: Path) -> None:
    broken = pa.array([b"\xff"], pa.binary())
    row = {"a": b"text", "b": [decimal.Decimal("1.50")], "c": {"d": datetime.date(2026, 1, 2)}, "e": 1.5, "f": None}
    table = pa.Table.from_pylist([row])
    table = table.append_column("g", pa.array([2**55], pa.timestamp("ms")))
    table = table.append_column("h", pa.Array.from_buffers(pa.string(), 1, broken.buffers()))
    pq.write_table(table, tmp_path / "a.parquet")
    ((_, _, found),) = read_records([str(tmp_path / "a.parquet")])
    assert isinstance(found.pop("g"), str)
    assert found == {"a": "text", "b": ["1.50"], "c": {"d": "2026-01-02"}, "e": 1.5, "f": None, "h": "\\xff"}


def test_what_is_no_record_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n\ncaf\xe9\n{"a": 1,}\n[1\n"text"\n{"a": 1,}')
    found = [(number, record.why if isinstance(record, Unread) else record) for _, number, record in
             read_records([str(tmp_path / "a.jsonl")])]  # fmt: skip
    assert found == [(1, {"a": 1}), (3, "not UTF-8"), (4, "no JSON"), (5, "no JSON"), (6, "text"), (7, "no JSON")]


def test_of_a_folder_the_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A set")
    with pytest.raises(UserError, match=r"no file of JSON, Parquet, .* but README\.md; name the files"):
        list(read_records([str(tmp_path)]))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.jsonl").write_text(LINES)
    (tmp_path / "rows").write_text(LINES)
    (tmp_path / "deep" / "the_same.csv").write_bytes(_table("a.csv"))
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert [name for name, _, _ in read_records([str(tmp_path)])] == ["deep/a.jsonl"] * 2
    assert [name for name, _, _ in read_records([str(tmp_path / "rows")])] == ["rows"] * 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl.gz", gzip.compress(LINES.encode() * 50)[:-9], r"byte \d+: truncated: the gzip data breaks off"),
        ("a.jsonl.bz2", bz2.compress(LINES.encode() * 50)[:-9], r"byte \d+: truncated: the bzip2 data breaks off"),
        ("a.jsonl.xz", lzma.compress(LINES.encode() * 50)[:-9], r"byte \d+: truncated: the xz data breaks off"),
        ("a.jsonl.zst", zstd.compress(LINES.encode() * 50)[:-9], r"byte \d+: truncated: the zstd data breaks off"),
        ("a.jsonl", LINES.encode()[:-5], "line 2: truncated: the last line is not whole"),
        ("a.json", json.dumps(ROWS).encode()[:-1], "record 3: truncated: the JSON does not end"),
        ("a.json", json.dumps(HELD).encode()[:60], "record 1: truncated: the JSON does not end"),
        ("a.parquet", _table("a.parquet")[:-9], r"row 1: not a whole Parquet file \(.*\)"),
    ],
)
def test_a_file_that_breaks_off_is_named(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"^{name}: {said}; get the file again$"):
        list(read_records([str(tmp_path / name)]))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"<!DOCTYPE html>\n<html>\n", "a page of HTML or XML, .*get the file itself"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS, .*git lfs pull"),
        ("a.jsonl.gz", gzip.compress(gzip.compress(LINES.encode())), "compressed with gzip twice, .*unpack it once"),
        ("a.parquet.gz", gzip.compress(_table("a.parquet")), "compressed as a whole with gzip, .*unpack it"),
    ],
)
def test_a_file_of_another_kind_is_named_for_what_it_is(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"^{name}: this is {said}"):
        list(read_records([str(tmp_path / name)]))
