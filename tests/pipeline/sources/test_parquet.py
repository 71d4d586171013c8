"""Parquet sources: columns by name, rows that have no text, files that are not whole."""

from __future__ import annotations

import base64
import bz2
import datetime
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from infra.errors import UserError
from pipeline.sections import ParquetSource
from pipeline.sources.parquet import read
from pipeline.sources.stream import Limits, Part
from pipeline.tasks import guard, guarded_reader
from tests.pipeline.sources.raw import LIMIT, external, read_all

SOURCE = ParquetSource(paths=("unused",))


def _bytes(tmp_path: Path, rows: list[dict[str, Any]]) -> bytes:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "made.parquet", row_group_size=2, compression="zstd")
    return (tmp_path / "made.parquet").read_bytes()


def _read(tmp_path: Path, content: bytes, **options: Any) -> tuple[list[Any], str]:
    return read_all(read, SOURCE.model_copy(update=options), external(tmp_path / "f.parquet", content))


def test_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "one", "url": "http://h", "id": "a", "day": datetime.date(2026, 1, 1)},
        {"text": None, "url": None, "id": "b", "day": None},
        {"text": "x" * (LIMIT + 1), "url": None, "id": "c", "day": None},
        {"text": "four", "url": None, "id": None, "day": None},
    ]
    found, damage = _read(tmp_path, _bytes(tmp_path, rows), metadata_fields=("id", "day", "absent"))
    assert not damage
    assert [rule for _, rule in found] == [None, "too_short", "too_large", None]
    assert found[0][0].metadata == {"url": "http://h", "id": "a", "day": datetime.date(2026, 1, 1)}
    assert found[1][0].metadata == {"url": "", "id": "b"}, "no text is empty text"
    assert found[3][0].metadata == {"url": ""}


def test_the_columns_are_named_when_the_text_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"f\.parquet: no column text among body, id; set the source's text_field"):
        _read(tmp_path, _bytes(tmp_path, [{"body": "x", "id": "a"}]))


def test_files_that_are_not_whole(tmp_path: Path) -> None:
    content = _bytes(tmp_path, [{"text": f"{number} " * 50} for number in range(6)])
    for broken in (b"\1nonsense", content[:-10], content[: len(content) // 2]):
        assert _read(tmp_path, broken)[1].startswith("row 1: not a whole Parquet file")


def test_what_is_something_else_is_named(tmp_path: Path) -> None:
    whole = _bytes(tmp_path, [{"text": "words"}])
    for content, what in (
        (gzip.compress(whole), "compressed as a whole with gzip"),
        (b"ORC" + bytes(60), "an ORC file"),
        (b"<html><body>404", "a page of HTML or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b"PARE" + bytes(60) + b"PARE", "an encrypted Parquet file"),
        (b"ARROW1\0\0" + bytes(60), "an Arrow file"),
        (b"PK\x03\x04" + bytes(60), "a zip archive"),
        (b"", "an empty file"),
        (b"FEA1" + bytes(60), "a Feather file of the first version"),
        (b"\xff\xff\xff\xff" + bytes(60), "an Arrow stream"),
        (b"\x80\x04\x95" + bytes(60), "a Python pickle"),
        (bytes(8) + b"DUCK" + bytes(60), "a DuckDB database"),
        (b'{"text": "a"}\n', "a file of JSON"),
        (b"[\n {", "a file of JSON"),
        (b"id,text\r\n1,a\r\n", "text, and no Parquet file"),
        (bz2.compress(whole), "compressed as a whole with bzip2"),
    ):
        assert _read(tmp_path, content) == ([], f"this is {what}, which is not read here")


def test_a_row_that_is_not_utf8_is_a_failure(tmp_path: Path) -> None:
    texts = pa.StringArray.from_buffers(
        3, pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])), pa.py_buffer(b"a\xffc")
    )
    pq.write_table(pa.table({"text": texts}), tmp_path / "made.parquet")
    found, damage = _read(tmp_path, (tmp_path / "made.parquet").read_bytes())
    assert [(document.text, rule) for document, rule in found] == [("a", None), ("", "failure/encoding"), ("c", None)]
    assert not damage


TEXTS = [f"{number % 7} The harbour lies open to the west." * (1 + number % 3) for number in range(700)]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(
    "options",
    [
        {"use_dictionary": True},
        {"use_dictionary": True, "dictionary_pagesize_limit": 500, "data_page_size": 500},  # then goes over to PLAIN
        *(
            {"use_dictionary": False, "column_encoding": {"text": encoding}}
            for encoding in ("PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY")
        ),
    ],
    ids=str,
)
def test_every_encoding_is_read_as_pyarrow_reads_it(tmp_path: Path, options: dict[str, Any], version: Any) -> None:
    numbers = list(range(len(TEXTS)))
    table = pa.table({"text": TEXTS, "id": numbers})
    pq.write_table(table, tmp_path / "a", row_group_size=300, data_page_version=version, **options)
    found, damage = _read(tmp_path, (tmp_path / "a").read_bytes())
    assert not damage
    assert [document.text for document, _ in found] == pq.read_table(tmp_path / "a")["text"].to_pylist() == TEXTS
    assert [document.metadata["id"] for document, _ in found] == numbers


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.binary(), pa.large_binary(), pa.binary(2), pa.binary_view()),
        *(pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())),
    ],
    ids=str,
)
def test_whatever_holds_text_is_read(tmp_path: Path, kind: Any) -> None:
    values = [b"ab", b"cd", None, b"ab"] if pa.types.is_fixed_size_binary(kind) else [b"ab", "é".encode(), None, b"ab"]
    is_bytes = "binary" in str(kind)
    texts = pa.array([each if is_bytes or each is None else each.decode() for each in values], kind)
    pq.write_table(pa.table({"text": texts, "title": texts}), tmp_path / "a")
    found, damage = _read(tmp_path, (tmp_path / "a").read_bytes())
    assert not damage
    assert [document.text for document, _ in found] == [(each or b"").decode() for each in values]
    assert [rule for _, rule in found] == [None, None, "too_short", None]
    assert found[0][0].metadata["title"] == "ab"


def test_bytes_that_are_not_utf8_cost_their_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([b"a", b"caf\xe9", b"c"], pa.binary())}), tmp_path / "a")
    found, _ = _read(tmp_path, (tmp_path / "a").read_bytes())
    assert [(document.text, rule) for document, rule in found] == [("a", None), ("", "failure/encoding"), ("c", None)]


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["x", "x", "text"])
    pq.write_table(twice, tmp_path / "a")
    assert [document.text for document, _ in _read(tmp_path, (tmp_path / "a").read_bytes())[0]] == ["c"]
    for options in ({"text_field": "x"}, {"metadata_fields": ("x",)}):
        with pytest.raises(UserError, match=r"f\.parquet: 2 columns are named x; give all but one another name"):
            _read(tmp_path, (tmp_path / "a").read_bytes(), **options)


def test_a_path_leads_into_a_column(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"page": {"body": {"raw": "one"}, "id": 1}, "a.b": "x"},
        {"page": None, "a.b": "y"},
        {"page": {"id": 2}},
    ]
    content = _bytes(tmp_path, rows)
    found, _ = _read(tmp_path, content, text_field="page.body.raw", metadata_fields=("page.id",))
    assert [(document.text, rule) for document, rule in found] == [("one", None), ("", "too_short"), ("", "too_short")]
    assert [document.metadata.get("page.id") for document, _ in found] == [1, None, 2]
    found, _ = _read(tmp_path, content, text_field="a.b")
    assert [document.text for document, _ in found] == ["x", "y", ""]
    with pytest.raises(UserError, match=r"no column page\.words among page, a\.b"):
        _read(tmp_path, content, text_field="page.words")


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process that decodes has 400 MB beyond what it begins with."""
    monkeypatch.setattr(guard, "MEMORY", 400_000_000)
    guarded_reader.renew()
    yield
    guarded_reader.renew()


def _group(text: str, rows: int) -> Any:
    """Rows of one text, which the file holds once; in a column within a column, where it is not read as it is held."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))
    return pa.table({"page": pa.StructArray.from_arrays([texts], ["body"])})


def _small_file(path: Path, *groups: Any) -> bytes:
    with pq.ParquetWriter(path, groups[0].schema, compression="zstd", store_schema=False) as writer:
        for group in groups:
            writer.write_table(group)
    assert path.stat().st_size < 10_000
    return path.read_bytes()


@pytest.mark.usefixtures("little_memory")
def test_a_small_file_that_decodes_to_gigabytes_costs_a_row_group(tmp_path: Path) -> None:
    content = _small_file(tmp_path / "a", _group("first", 2), _group("x" * 4_000_000, 300), _group("last", 1))
    found, damage = _read(tmp_path, content, text_field="page.body")
    assert not damage
    assert [(document.text, rule) for document, rule in found] == [
        ("first", None),
        ("first", None),
        ("", "failure/memory"),
        ("last", None),
    ]
    assert found[2][0].metadata["row"] == 3
    assert "the rows of group 1 from 3 on are lost" in found[2][0].metadata["failure"]


@pytest.mark.usefixtures("little_memory")
def test_a_file_all_of_such_groups_is_given_up(tmp_path: Path) -> None:
    content = _small_file(tmp_path / "a", *[_group("x" * 4_000_000, 300)] * 11)
    found, damage = _read(tmp_path, content, text_field="page.body")
    assert [rule for _, rule in found] == ["failure/memory"] * 10
    assert damage == "row 2701: 10 groups of rows cannot be decoded"


def test_a_row_group_that_takes_too_long_costs_itself(tmp_path: Path) -> None:
    """Numbers that a list has in millions, though the file has one."""
    slow = pa.table({"text": ["a"], "id": pa.ListArray.from_arrays([0, 30_000_000], pa.nulls(30_000_000, pa.int8()))})
    fast = pa.table({"text": ["b"], "id": pa.ListArray.from_arrays([0, 1], pa.nulls(1, pa.int8()))})
    with pq.ParquetWriter(tmp_path / "a", slow.schema, compression="zstd") as writer:
        writer.write_table(slow)
        writer.write_table(fast)
    assert (tmp_path / "a").stat().st_size < 100_000
    source = SOURCE.model_copy(update={"metadata_fields": ("id",)})
    part = Part(external(tmp_path / "f.parquet", (tmp_path / "a").read_bytes()))
    found = list(read(source, part, Limits(LIMIT, 0.3)))
    assert [(document.text, rule) for document, rule in found] == [("", "failure/timeout"), ("b", None)]


FAR = pa.array([0, 600 * 10**15], pa.timestamp("us"))


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (pa.array([b"\xff\0", b"ab"]), ["ff00", "ab"]),
        (pa.array([bytes([200, 201])] * 2, pa.binary(2)), ["c8c9"] * 2),
        (pa.array([b"caf\xe9", b"ab"]).view(pa.string()), ["caf\\xe9", "ab"]),
        (pa.array([b"\xff", b"ab"]).dictionary_encode(), ["ff", "ab"]),
        (pa.ListArray.from_arrays([0, 1, 2], pa.array([b"\xff", b"ab"]).view(pa.string())), [None, ["ab"]]),
        (FAR, [datetime.datetime(1970, 1, 1), "20983-03-30 10:40:00.000000"]),
        (
            pa.array([1, 2**31 - 1], pa.int32()).cast(pa.date32()),
            [datetime.date(1970, 1, 2), "<value out of range: 2147483647>"],
        ),
        (pa.array([1, 2], pa.timestamp("us", tz="Mars/Phobos")), None),
        (pa.array([1, 10**9 + 1], pa.timestamp("ns")), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_no_metadata_costs_a_row_its_text(tmp_path: Path, values: Any, kept: list[Any] | None) -> None:
    pq.write_table(pa.table({"text": ["one", "two"], "id": values}), tmp_path / "a")
    found, damage = _read(tmp_path, (tmp_path / "a").read_bytes())
    assert ([(document.text, rule) for document, rule in found], damage) == ([("one", None), ("two", None)], "")
    if kept is not None:
        told = [document.metadata.get("id") for document, _ in found]
        assert told == kept


def test_row_groups_without_rows(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"]})
    with pq.ParquetWriter(tmp_path / "a", table.schema) as writer:
        for rows in (0, 1, 0, 2, 0):
            writer.write_table(table.slice(0, rows))
    assert [document.text for document, _ in _read(tmp_path, (tmp_path / "a").read_bytes())[0]] == ["a", "a", "b"]


class _Keys(pe.KmsClient):
    def __init__(self, _: Any) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)


def test_columns_that_are_encrypted_are_named(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "id": ["b"]})
    config = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["text"]}, plaintext_footer=True)
    properties = pe.CryptoFactory(_Keys).file_encryption_properties(pe.KmsConnectionConfig(), config)
    with pq.ParquetWriter(tmp_path / "a", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    damage = _read(tmp_path, (tmp_path / "a").read_bytes())[1]
    assert damage == "this is a Parquet file with encrypted columns, which is not read here"
