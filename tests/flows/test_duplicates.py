"""The command `duplicates`, on the dedup artifact of a recorded run."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli import app
from flows.commands.app import console
from infra.errors import UserError
from infra.store import LocalStore
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.stage import dedup
from tests.flows.registry.test_trace import publish
from tests.pipeline.corpus import words, write_documents

LONG = "\n".join(words(seed, 20) for seed in range(15))
COPIES = 8


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """Of a run with one large cluster and one pair."""
    rows = [("article", "wiki", LONG), ("near", "web", LONG.replace(f" {words(2, 20).split()[10]} ", " changed ", 1))]
    rows += [(f"mirror-{number}", "web", LONG.upper()) for number in range(COPIES)]
    rows += [("poem", "book", words(9, 80)), ("quoted", "web", words(9, 80)), ("alone", "web", words(8, 80))]
    (tmp_path / "dedup").mkdir()
    dedup(DedupConfig(), {"clean": write_documents(tmp_path / "clean", rows)}, tmp_path / "dedup")
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "store"))
    monkeypatch.setattr(console, "width", 160)
    store = LocalStore(tmp_path / "store")
    publish(store, "dedup", tmp_path / "dedup", config={})
    store.write_run("run-1", {"run_id": "run-1", "started": "1", "stages": {"dedup": {"identity": "dedup-1"}}})
    return store


def _shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    app(["duplicates", *arguments], standalone_mode=False)
    return [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_clusters_the_largest_first(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _shown(capsys)
    assert lines[1] == ["article", "wiki", "stays"]
    assert lines[2][1:] == ["web", "folded", "100%"]
    assert lines[7] == ["and", str(COPIES + 1 - 5), "more:", "--id", "article"]
    assert lines[8:10] == [["poem", "book", "stays"], ["quoted", "web", "exact", "100%"]]
    assert " ".join(lines[-1]) == f"{COPIES + 2} copies of 2 documents went; --id shows one cluster in full"
    assert ["poem", "book", "stays"] not in _shown(capsys, "run", "--limit", "1")


def test_one_cluster_in_full_with_what_differs(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _shown(capsys, "--id", "near")
    assert sorted(line[0] for line in lines if line[1] == "web" and line[0][:6] == "mirror") == [
        f"mirror-{n}" for n in range(COPIES)
    ]
    (near,) = (line for line in lines if line[0] == "near" and line[1] == "web")
    assert near[2] == "minhash"
    assert 90 < int(near[3].rstrip("%")) < 100
    at = [" ".join(line) for line in lines].index("near against article:")
    assert [line[0][0] for line in lines[at + 1 : at + 3]] == ["-", "+"]
    assert "changed" in lines[at + 2]


def test_what_is_not_there_is_told(store: LocalStore) -> None:
    with pytest.raises(UserError, match="alone has no copies"):
        app(["duplicates", "--id", "alone"], standalone_mode=False)
    store.write_run("run-2", {"run_id": "run-2", "started": "2", "stages": {}})
    with pytest.raises(UserError, match="run-2: it has no dedup artifact"):
        app(["duplicates", "run-2"], standalone_mode=False)
