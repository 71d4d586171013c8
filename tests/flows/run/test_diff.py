"""`deepmill diff`: what changed between two runs, and between a run and today."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli import app
from flows.recipe.stages import stage
from flows.run.diff import Change, compare_runs, differences_today
from flows.run.record import find_record
from infra.errors import UserError
from infra.fingerprint import environment, fingerprint, packages
from infra.hashing import file_digest
from infra.store import LocalStore
from tests.flows.operations.stores import publish, record

CODE = {"tokenizer": fingerprint(stage("tokenizer").entrypoint), "extract": fingerprint(stage("extract").entrypoint)}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "store"))
    return LocalStore(tmp_path / "store")


def two_runs(store: LocalStore) -> None:
    """The second with another key, other data, other code, a newer package, on another processor."""
    notes = {"/data/notes.jsonl": "aa" * 32}
    publish(
        store, "extract", "e1", "one", external=notes, metrics={"documents_out": 10, "seconds": 3.0},
        packages={"pyarrow": "25.0"}, environment={"processor": "a"},
    )  # fmt: skip
    publish(
        store, "extract", "e2", "two", external=notes | {"/data/notes.jsonl": "bb" * 32, "/data/new.jsonl": "cc" * 32},
        metrics={"documents_out": 12, "seconds": 9.0}, fingerprint="other",
        packages={"pyarrow": "25.1"}, environment={"processor": "b"},
    )  # fmt: skip
    publish(store, "tokenizer", "t1")
    first = {"tokenizer": {"vocabulary": 400}, "execution": {"workers": 1}}
    second = {"tokenizer": {"vocabulary": 500}, "execution": {"workers": 8}}
    record(store, "20260101-a", {"extract": "e1", "tokenizer": "t1"}, recipe=first, revision="1" * 40)
    record(store, "20260102-b", {"extract": "e2", "tokenizer": "t1"}, recipe=second, revision="2" * 40, dirty=True)


def test_two_runs_are_told_apart_causes_first(store: LocalStore) -> None:
    two_runs(store)
    first, second = (find_record(store, name) for name in store.runs())
    found = list(compare_runs(store, first, second))
    contents = [(store.find("extract", name) or first).content[:10] for name in ("e1", "e2")]  # type: ignore[union-attr]
    assert found == [
        Change("recipe", "tokenizer.vocabulary", "400", "500"),  # how wide it ran changes nothing
        Change("data", "/data/notes.jsonl", "aa" * 5, "bb" * 5),
        Change("data", "/data/new.jsonl", "–", "cc" * 5),
        Change("code", "revision", "1" * 10, f"{'2' * 10} with local changes"),
        Change("code", "extract", "code", "other"),
        Change("packages", "pyarrow", "25.0", "25.1"),
        Change("machine", "processor", "a", "b"),
        Change("artifacts", "extract", f"e1 ({contents[0]})", f"e2 ({contents[1]})"),
        Change("metrics", "extract.documents_out", "10", "12"),  # nor is a time a difference
    ]
    assert list(compare_runs(store, first, first)) == []


def test_the_command_shows_both_columns(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    two_runs(store)
    app(["diff", "20260101", "20260102"], standalone_mode=False)
    shown = capsys.readouterr().out
    for word in ("recipe", "tokenizer.vocabulary", "400", "500", "pyarrow", "documents_out", "20260101-a"):
        assert word in shown
    app(["diff", "20260101", "20260101"], standalone_mode=False)
    assert "nothing differs" in capsys.readouterr().out
    app(["diff"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "20260101-a" in shown
    assert "20260102-b" in shown


def test_one_run_is_not_the_last_two(store: LocalStore) -> None:
    record(store, "20260101-a", {})
    with pytest.raises(UserError, match="fewer than two runs"):
        app(["diff"], standalone_mode=False)


def test_today_against_then(store: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was edited, one that is gone, code and a package that changed; the rest is as it was."""
    same, edited = tmp_path / "same.jsonl", tmp_path / "edited.jsonl"
    for path in (same, edited):
        path.write_text("{}\n")
    external = {str(path): file_digest(path) for path in (same, edited)} | {str(tmp_path / "gone.jsonl"): "dd" * 32}
    edited.write_text('{"text": "more"}\n')
    now = {"packages": packages(), "environment": environment()}
    publish(store, "extract", "e1", external=external, fingerprint="v2-before", version=stage("extract").version, **now)
    older = now | {"packages": {"numpy": "1.0"}}
    publish(store, "tokenizer", "t1", fingerprint=CODE["tokenizer"], version=0, **older)
    record(store, "20260101-a", {"extract": "e1", "tokenizer": "t1"})
    changes = {(item.section, item.key): item for item in differences_today(store, find_record(store, "20260101-a"))}
    assert set(changes) == {
        ("code", "extract"),
        ("code", "tokenizer version"),
        ("packages", "numpy"),
        ("data", str(edited)),
        ("data", str(tmp_path / "gone.jsonl")),
    }
    assert changes["code", "extract"].after == CODE["extract"][:10]
    assert changes["packages", "numpy"].after == packages()["numpy"]
    assert changes["data", str(tmp_path / "gone.jsonl")].after == "cannot be read any more"
    app(["diff", "20260101"], standalone_mode=False)
    assert "today" in capsys.readouterr().out
