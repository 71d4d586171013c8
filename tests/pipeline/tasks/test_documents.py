"""Parquet files of documents: what is written is read again, and only whole files have names."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datatrove.data import Document

from infra.errors import UserError
from pipeline.tasks import documents as module
from pipeline.tasks.documents import (
    ROW_GROUP_BYTES,
    SCHEMA,
    CutWriter,
    DocumentReader,
    DocumentWriter,
    RejectWriter,
    count_documents,
    document_files,
    read_documents,
    read_file,
    source_characters,
)
from pipeline.tasks.set_aside import set_aside
from tests.pipeline.corpus import published, write_documents


def _document(name: str, text: str = "some text", **metadata: object) -> Document:
    return Document(text=text, id=name, metadata={"source": "web", "url": "http://h/x", **metadata})


def _write(folder: Path, *documents: Document, rank: int = 0) -> None:
    assert list(DocumentWriter(folder).run(documents, rank)) == list(documents), "passed on"


def test_round_trip(tmp_path: Path) -> None:
    written = [_document("a", "zwölf ☃ \0 \n", page=3, title="Ünï"), _document("b", "")]
    _write(tmp_path, *written)
    assert list(read_documents(tmp_path)) == written
    table = pq.read_table(document_files(tmp_path)[0])
    assert table.schema.equals(SCHEMA)
    assert table["metadata"][0].as_py() == '{"page": 3, "title": "Ünï"}'
    assert count_documents(tmp_path) == 2


def test_bytes_do_not_depend_on_the_order_of_metadata(tmp_path: Path) -> None:
    _write(tmp_path / "a", _document("x", one=1, two=2))
    _write(tmp_path / "b", _document("x", two=2, one=1))
    assert published(tmp_path / "a") == published(tmp_path / "b")


def test_a_task_without_documents_still_has_its_file(tmp_path: Path) -> None:
    _write(tmp_path, rank=1)
    assert [file.name for file in document_files(tmp_path)] == ["00001.parquet"]
    assert list(read_documents(tmp_path)) == []


def test_large_text_goes_out_in_row_groups(tmp_path: Path) -> None:
    _write(tmp_path, *(_document(str(n), "x" * (ROW_GROUP_BYTES // 2)) for n in range(3)))
    assert pq.read_metadata(document_files(tmp_path)[0]).num_row_groups == 2
    assert [document.id for document in read_documents(tmp_path)] == ["0", "1", "2"]


def test_a_killed_task_leaves_no_file(tmp_path: Path) -> None:
    def breaking() -> object:
        yield _document("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(DocumentWriter(tmp_path).run(breaking()))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt), RejectWriter(tmp_path, 0) as rejects:  # noqa: PT012  (what is tested)
        rejects.write(_document("a"), "rule")
        raise KeyboardInterrupt
    assert published(tmp_path) == {}


def test_rejects_have_their_rule_and_a_file_only_if_there_are_any(tmp_path: Path) -> None:
    with RejectWriter(tmp_path, 0):
        pass
    with RejectWriter(tmp_path, 1) as rejects:
        rejects.write(_document("a"), "too_short")
    (file,) = document_files(tmp_path, "rejects")
    assert file.name == "00001.parquet"
    assert [document.metadata["rule"] for document in read_file(file)] == ["too_short"]


def test_reader_gives_each_task_its_file(tmp_path: Path) -> None:
    artifact = write_documents(tmp_path, [("a", "web", "x")], [("b", "wiki", "y")])
    reader = DocumentReader(artifact)
    assert [[document.id for document in reader.run(None, rank, 2)] for rank in (0, 1)] == [["a"], ["b"]]


def test_what_is_no_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "00000.parquet").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"00000\.parquet: not a Parquet file of documents"):
        list(read_documents(tmp_path))


def test_what_was_cut_is_kept_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CUTS", 2)
    monkeypatch.setattr(module, "CUT_SHOWN", 4)
    with CutWriter(tmp_path, 0) as cuts:
        for number in range(3):
            cuts.cut(_document(str(number)), "c4/lines/policy", "cookies")
        cuts.cut(_document("0"), "c4/citations", "[1]")
        cuts.cut(_document("9", source="wiki"), "c4/lines/policy", "us")
    assert [(each.id, each.text, each.metadata["source"]) for each in set_aside(tmp_path, "cuts", "c4/lines")] == [
        ("0", "cook", "web"),
        ("1", "cook", "web"),
        ("9", "us", "wiki"),
    ]
    assert [each.text for each in set_aside(tmp_path, "cuts", "c4/lines", "wiki")] == ["us"]
    assert [each.metadata["rule"] for each in set_aside(tmp_path, "cuts", "c4/c")] == ["c4/citations"]
    assert not list(set_aside(tmp_path, "rejects"))


def test_a_file_says_how_many_characters_each_source_has(tmp_path: Path) -> None:
    _write(tmp_path, _document("a", "zwölf"), _document("b", "☃", source="wiki"), rank=0)
    _write(tmp_path, _document("c", "x"), rank=1)
    assert source_characters(tmp_path) == {"web": 6, "wiki": 1}
    table = pq.read_table(document_files(tmp_path)[0]).replace_schema_metadata()
    pq.write_table(table, document_files(tmp_path)[0])
    assert source_characters(tmp_path) == {}, "an older file does not say"
