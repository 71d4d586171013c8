"""Repeated sentences: all but one of each span go, and which one stays is no accident."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedup.section import DedupConfig
from pipeline.dedup.sentences import cut, sentences
from pipeline.dedup.stage import dedup
from pipeline.tasks.documents import read_documents
from tests.pipeline.corpus import published, set_workers, words, write_documents

CREDO = "All rights are reserved here. Write to us at any time. Nothing may be copied at all."


def _text(seed: int, count: int = 8) -> str:
    return " ".join(f"{words(seed * 100 + number, 9).capitalize()}." for number in range(count))


def _run(root: Path, *files: list[tuple[str, str, str]], **keys: Any) -> tuple[Path, dict[str, Any]]:
    (root / "out").mkdir(parents=True)
    config = DedupConfig(**({"sentences": True, "sentence_min_words": 20, "minhash": False} | keys))
    return root / "out", dedup(config, {"clean": write_documents(root / "in", *files)}, root / "out").written()


ROWS = [
    ("b", "web", f"{_text(1)}\n\n{CREDO.upper()}"),
    ("a", "web", f"{_text(2)} {CREDO} {_text(3)}"),
    ("w", "wiki", f"{CREDO}\n{_text(4)}"),
    ("s", "web", f"{CREDO} {words(9, 5)}."),
    ("twice", "book", f"{_text(5)} {_text(5)}"),
    ("other", "web", _text(6)),
]


def test_a_span_stays_once_where_precedence_says(tmp_path: Path) -> None:
    out, metrics = _run(tmp_path, ROWS[:3], ROWS[3:])
    texts = {document.id: document.text for document in read_documents(out)}
    assert texts["w"] == ROWS[2][2]
    assert texts["b"] == _text(1)
    assert texts["a"] == f"{_text(2)} {_text(3)}"
    assert texts["twice"] == _text(5)
    assert texts["other"] == _text(6)
    (reject,) = read_documents(out, "rejects")
    assert (reject.id, reject.text, reject.metadata["rule"]) == ("s", ROWS[3][2], "sentences")
    assert metrics["noted"]["sentences_removed"] == 3 + 3 + 3 + 8
    assert metrics["dropped"] == {"sentences": 1}


def test_nothing_depends_on_files_or_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = set()
    for number, files in enumerate(([ROWS], [ROWS[::-1]], [[row] for row in ROWS])):
        out, _ = _run(tmp_path / str(number), *files, precedence=())
        kept.add(frozenset((document.id, document.text) for document in read_documents(out)))
    assert len(kept) == 1
    results = []
    for workers in (1, 2):
        set_workers(monkeypatch, workers)
        results.append(published(_run(tmp_path / f"w{workers}", ROWS[:3], ROWS[3:])[0]))
    assert results[0] == results[1]


def test_copies_that_go_anyway_take_no_sentences_with_them(tmp_path: Path) -> None:
    text = _text(7)
    out, metrics = _run(tmp_path, [("a", "web", text), ("b", "wiki", text), ("c", "web", f"{text} {_text(8)}")])
    assert {document.id: document.text for document in read_documents(out)} == {"b": text, "c": _text(8)}
    assert metrics["dropped"] == {"exact": 1}


@given(st.text(alphabet='ab .!?\n"。'), st.sets(st.integers(0, 5)), st.integers(1, 3))
def test_cutting_takes_whole_sentences_and_nothing_else(text: str, places: set[int], length: int) -> None:
    spans = sentences(text)
    assert "".join(text[a:b] for a, b in spans) == text
    gone = {place + offset for place in places for offset in range(length)}
    left, _ = cut(text, places, length)
    assert left == "".join(text[a:b] for at, (a, b) in enumerate(spans) if at not in gone).strip()
