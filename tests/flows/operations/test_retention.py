"""What `deepmill gc` and the flow `retention` take away: only what nothing needs, and only when told to."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from flows.cli import app
from flows.operations.retention import apply_gc, plan_gc
from flows.registry.facts import LINEAGE
from infra.errors import UserError
from infra.settings import DATABASE, Settings
from infra.store import LocalStore
from infra.tracking import registry_client
from tests.flows.operations.stores import publish, record
from tests.flows.prepared import prepare_mlflow


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's, with a registered model that needs an artifact; making one takes seconds, copying it none."""
    root = tmp_path_factory.mktemp("mlflow")
    prepare_mlflow(root)
    client = registry_client(Settings(root=str(root)))
    client.create_registered_model("model")
    client.create_model_version("model", "file:///nowhere", tags={LINEAGE: json.dumps({"tokenizer": "registered"})})
    return root / DATABASE


@pytest.fixture
def store(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """An old run, one that never ended, a recent one, and an artifact that belongs to a registered model."""
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "store"))
    store = LocalStore(tmp_path / "store")
    shutil.copyfile(database, store.root / DATABASE)
    for identity in ("old", "kept", "unfinished", "registered", "orphan"):
        publish(store, "tokenizer", identity)
    publish(store, "extract", "shared")
    publish(store, "tokenizer", "young", started="2999-01-01T00:00:00+00:00")
    record(store, "20260101-000000-a", {"extract": "shared", "tokenizer": "old"})
    record(store, "20260102-000000-b", {}, plan={"tokenizer": "unfinished"}, state="running", ended=None)
    record(store, "20260103-000000-c", {"extract": "shared", "tokenizer": "kept"})
    return store


def names(store: LocalStore) -> set[str]:
    return {identity for _, identity in store.artifacts()}


EVERYTHING = {"old", "kept", "unfinished", "registered", "orphan", "shared", "young"}


def test_it_shows_first_and_deletes_when_told(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    app(["gc", "--keep-runs", "1"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "tokenizer/old" in shown
    assert "tokenizer/orphan" in shown
    assert "2 of 7 could go" in shown
    for reason in ("a registered model", "a run that is not over", "younger than 14 days"):
        assert f"1 kept for {reason}" in shown
    assert "2 kept for one of the latest 1 runs" in shown
    assert names(store) == EVERYTHING
    app(["gc", "--keep-runs", "1", "--delete"], standalone_mode=False)
    assert "deleted 2" in capsys.readouterr().out
    assert names(store) == EVERYTHING - {"old", "orphan"}
    app(["gc", "--keep-runs", "1"], standalone_mode=False)
    assert "nothing to delete among 5 artifacts" in capsys.readouterr().out


def test_nothing_goes_when_mlflow_cannot_be_asked(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEEPMILL_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"MLflow cannot say what registered models need .* nothing may be deleted"):
        app(["gc", "--keep-runs", "1", "--delete"], standalone_mode=False)
    assert names(store) == EVERYTHING


@pytest.mark.parametrize("run", ["20260104-000000-d", "20250101-000000-slow-clock"])
def test_what_a_run_wants_since_then_stays(store: LocalStore, run: str) -> None:
    """Between showing and deleting somebody starts a run that uses an old artifact, its clock right or late."""
    sweep = plan_gc(store, Settings(), keep_runs=1, keep_days=14)
    record(store, run, {}, plan={"tokenizer": "old"}, state="running", ended=None)
    assert apply_gc(store, sweep) == 5  # the orphan's bytes alone
    assert names(store) == EVERYTHING - {"orphan"}


def test_leftovers_that_nobody_goes_on_with(store: LocalStore) -> None:
    long_ago = time.time() - 30 * 86_400
    for name, age in (("stale", long_ago), ("fresh", time.time())):
        staging = store.staging("pretrain", name)
        staging.prepare("code")
        for path in [*staging.folder.rglob("*"), staging.folder]:
            os.utime(path, (age, age))
    sweep = plan_gc(store, Settings(), keep_runs=20, keep_days=14)
    assert [item.identity for item in sweep.items if item.leaving] == ["stale"]
    apply_gc(store, sweep)
    assert [path.name for path in (store.root / ".staging" / "pretrain").iterdir()] == ["fresh"]


def test_parts_that_no_run_took(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    for name, age in (("old", 30), ("young", 1)):
        part = store.root / ".parts" / "extract" / name
        part.mkdir(parents=True)
        (part / "documents").write_text("text")
        os.utime(part, (time.time() - age * 86_400,) * 2)
    app(["gc", "--keep-runs", "20", "--delete"], standalone_mode=False)
    assert "1 kept parts  4 B, taken by no run for 14 days" in capsys.readouterr().out
    assert [path.name for path in (store.root / ".parts" / "extract").iterdir()] == ["young"]


def test_the_flow_deletes_only_when_told(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.operations import flows as upkeep

    shown: list[str] = []
    monkeypatch.setattr(upkeep, "create_table_artifact", lambda rows, key, description: shown.append(description))
    assert upkeep.retention.fn(keep_runs=1).message == "would delete 2 of 7, 10 B"
    assert names(store) == EVERYTHING
    assert upkeep.retention.fn(keep_runs=1, delete=True).message == "deleted 2 of 7, 10 B"
    assert names(store) == EVERYTHING - {"old", "orphan"}
    assert shown == ["2 of 7, 10 B"] * 2
