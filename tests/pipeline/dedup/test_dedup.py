from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import UserError
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.stage import dedup
from pipeline.tasks.documents import read_documents
from tests.pipeline.corpus import only, published, set_workers, words, write_documents

LONG = words(1, 300)
NEAR = LONG.replace(LONG.split()[150], "changed", 1)


def _run(tmp_path: Path, name: str, files: list[list[tuple[str, str, str]]], **keys: object) -> Path:
    out = tmp_path / f"out-{name}"
    out.mkdir()
    dedup(DedupConfig(**keys), {"clean": write_documents(tmp_path / f"in-{name}", *files)}, out)  # type: ignore[arg-type]
    return out


def _corpus() -> list[tuple[str, str, str]]:
    return [
        ("web-copy", "web", LONG),
        ("web-near", "web", NEAR),
        ("wiki-copy", "wiki", LONG.upper() + "!"),
        ("book-other", "book", words(3, 300)),
        ("short-a", "web", "Two words."),
        ("short-b", "web", "two WORDS"),
    ]


def test_precedence_keeps_the_wiki_copy_and_names_it(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()])
    assert {document.id for document in read_documents(out)} == {"wiki-copy", "book-other", "short-a"}
    rejects = {document.id: document.metadata for document in read_documents(out, "rejects")}
    assert rejects["web-copy"]["rule"] == "exact"
    assert rejects["web-near"]["rule"] == "minhash"
    assert (rejects["web-near"]["kept"], rejects["web-near"]["kept_source"]) == ("wiki-copy", "wiki")
    assert (rejects["short-b"]["rule"], rejects["short-b"]["kept"]) == ("exact", "short-a")


def test_precedence_can_be_turned_round(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()], precedence=("web", "wiki"))
    assert {document.id for document in read_documents(out)} == {"web-copy", "book-other", "short-a"}


def test_without_minhash_near_copies_stay(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()], minhash=False)
    assert only(d.id for d in read_documents(out) if d.id == "web-near")


def test_without_exact_short_copies_stay(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()], exact=False)
    assert {d.id for d in read_documents(out)} == {"wiki-copy", "book-other", "short-a", "short-b"}


def test_what_stays_depends_on_no_file_order(tmp_path: Path) -> None:
    rows = _corpus()
    kept = set()
    for name, files in {
        "a": [rows],
        "b": [rows[3:], rows[:3]],
        "c": [rows[::-1]],
        "d": [[row] for row in rows],
    }.items():
        kept.add(frozenset(document.id for document in read_documents(_run(tmp_path, name, files))))
    assert len(kept) == 1


def test_same_bytes_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _corpus()
    results = []
    for workers in (1, 2):
        set_workers(monkeypatch, workers)
        (tmp_path / str(workers)).mkdir()
        results.append(published(_run(tmp_path / str(workers), "a", [rows[:3], rows[3:]])))
    assert results[0] == results[1]


def test_no_documents_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documents"):
        _run(tmp_path, "a", [[]])
