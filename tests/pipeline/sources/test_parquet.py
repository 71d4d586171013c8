"""Parquet sources: columns by name, rows that have no text, files that are not whole."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from pipeline.sections import ParquetSource
from pipeline.sources.parquet import read
from tests.pipeline.sources.raw import LIMIT, external, read_all

SOURCE = ParquetSource(paths=("unused",))


def _bytes(tmp_path: Path, rows: list[dict[str, Any]]) -> bytes:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "made.parquet", row_group_size=2, compression="zstd")
    return (tmp_path / "made.parquet").read_bytes()


def _read(tmp_path: Path, content: bytes, **options: Any) -> tuple[list[Any], str]:
    return read_all(read, SOURCE.model_copy(update=options), external(tmp_path / "f.parquet", content))


def test_rows(tmp_path: Path) -> None:
    rows = [
        {"text": "one", "url": "http://h", "id": "a", "day": datetime.date(2026, 1, 1)},
        {"text": None, "url": None, "id": "b", "day": None},
        {"text": "x" * (LIMIT + 1), "url": None, "id": "c", "day": None},
        {"text": "four", "url": None, "id": None, "day": None},
    ]
    found, damage = _read(tmp_path, _bytes(tmp_path, rows), metadata_fields=("id", "day", "absent"))
    assert not damage
    assert [rule for _, rule in found] == [None, "failure/field", "too_large", None]
    assert found[0][0].metadata == {"url": "http://h", "id": "a", "day": datetime.date(2026, 1, 1)}
    assert found[1][0].metadata == {"url": "", "row": 2, "failure": "text is missing"}
    assert found[3][0].metadata == {"url": ""}


def test_the_columns_are_named_when_the_text_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"f\.parquet: no column text among body, id; set the source's text_field"):
        _read(tmp_path, _bytes(tmp_path, [{"body": "x", "id": "a"}]))


def test_files_that_are_not_whole(tmp_path: Path) -> None:
    content = _bytes(tmp_path, [{"text": f"{number} " * 50} for number in range(6)])
    for broken in (b"", b"nonsense", content[:-10], content[: len(content) // 2]):
        assert _read(tmp_path, broken)[1].startswith("row 1: not a whole Parquet file")


def test_a_row_that_is_not_utf8_is_a_failure(tmp_path: Path) -> None:
    texts = pa.StringArray.from_buffers(
        3, pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])), pa.py_buffer(b"a\xffc")
    )
    pq.write_table(pa.table({"text": texts}), tmp_path / "made.parquet")
    found, damage = _read(tmp_path, (tmp_path / "made.parquet").read_bytes())
    assert [(document.text, rule) for document, rule in found] == [("a", None), ("", "failure/encoding"), ("c", None)]
    assert not damage
