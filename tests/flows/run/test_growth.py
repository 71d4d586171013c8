"""`deepmill diff` says what a night brought: documents, characters, copies of earlier ones, tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from flows.cli import app
from flows.commands.app import console
from flows.run.diff import compare_runs
from flows.run.record import find_record
from infra.manifest import Manifest, record_files
from infra.store import LocalStore
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.stage import dedup
from pipeline.extract import extract
from pipeline.sections import ExtractConfig
from pipeline.tasks.ledger import DocumentMetrics
from tests.flows.operations.stores import LONG_AGO, record
from tests.pipeline.corpus import set_workers, words


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "store"))
    monkeypatch.setattr(console, "_width", 160)  # made with the first command of this process
    set_workers(monkeypatch, 1)
    return LocalStore(tmp_path / "store")


def _publish(store: LocalStore, stage: str, identity: str, fill: Callable[[Path], DocumentMetrics]) -> Path:
    """The artifact of a stage that writes it."""
    staging = store.staging(stage, identity)
    staging.prepare("code")
    metrics = fill(staging.artifact).written()
    files, content = record_files(staging.artifact)
    manifest = Manifest(
        stage=stage, version=1, identity=identity, config={}, files=files, content=content, fingerprint="code",
        metrics=metrics, started=LONG_AGO, seconds=1.0, run_id="",
    )  # fmt: skip
    store.publish(staging, manifest)
    return store.path(stage, identity)


def _run(store: LocalStore, raw: Path, night: int, texts: Mapping[str, list[str]]) -> None:
    """One night's run: its texts come as a file of each source."""
    for source, found in texts.items():
        path = raw / source / f"night-{night}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in found))
    sources = {path.name: {"kind": "jsonl", "paths": [str(path)]} for path in sorted(raw.iterdir())}
    config, loose = ExtractConfig.model_validate({"sources": sources}), DedupConfig(max_loss=1.0, precedence=("wiki",))
    identity = f"night-{night}"
    read = _publish(store, "extract", identity, lambda out: extract(config, {}, out))
    _publish(store, "dedup", identity, lambda out: dedup(loose, {"clean": read}, out))
    record(store, f"2026010{night}-a", {"extract": identity, "dedup": identity})


def test_what_a_night_brought(store: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = ([words(seed, 60) for seed in range(begin, begin + 4)] for begin in (0, 10))
    _run(store, tmp_path / "raw", 1, {"web": [*old, old[3]]})
    # two copies of an earlier document, one of another new one, and a better source's copy of an earlier one
    _run(store, tmp_path / "raw", 2, {"web": [new[0], new[1], old[0], old[1].upper(), new[0]], "wiki": [old[2]]})
    first, second = (find_record(store, name) for name in store.runs())
    brought = {change.key: (change.before, change.after) for change in compare_runs(store, first, second)
               if change.section == "corpus"}  # fmt: skip
    size = sum(map(len, [new[0], new[1], old[0], old[1], new[0]]))
    before = sum(map(len, [*old, old[3]]))
    kept = sum(map(len, old))
    assert brought == {
        "web: documents read": ("5", "10 (+5)"),
        "web: characters read": (f"{before:,}", f"{before + size:,} ({size:+,})"),
        "web: documents kept": ("4", "5 (+1)"),
        "web: characters kept": (
            f"{kept:,}",
            f"{kept - len(old[2]) + len(new[0]) + len(new[1]):,} ({len(new[0]) + len(new[1]) - len(old[2]):+,})",
        ),
        "web: copies of earlier documents": ("0", "2 (+2)"),
        "web: copies of one another": ("0", "1 (+1)"),
        "web: earlier documents gone as copies": ("0", "1 (+1)"),
        "wiki: documents read": ("0", "1 (+1)"),
        "wiki: characters read": ("0", f"{len(old[2])} (+{len(old[2])})"),
        "wiki: documents kept": ("0", "1 (+1)"),
        "wiki: characters kept": ("0", f"{len(old[2])} (+{len(old[2])})"),
    }
    app(["diff", "20260101", "20260102"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "web: copies of earlier documents" in shown
    assert not [change for change in compare_runs(store, second, second) if change.section == "corpus"]
