"""A store that was moved or copied names its own files, and reads no other's."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from infra.relocation import COLUMNS, local_path, moved, relocate
from infra.settings import DATABASE, Settings
from infra.tracking import Tracker
from tests.flows.prepared import prepare_mlflow


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run, a file of it and a registered version; its registry names whole paths, as MLflow does."""
    root = tmp_path_factory.mktemp("made here") / "store"
    prepare_mlflow(root)
    tracker = Tracker(Settings(root=str(root)))
    log = tracker.start("run", {})
    log.text("hello", "said.txt")
    model = tracker.client.create_logged_model(tracker.experiment, name="model", source_run_id=log.run_id)
    tracker.client.create_registered_model("model")
    tracker.client.create_model_version("model", f"models:/{model.model_id}", model_id=model.model_id)
    Path(model.artifact_location.removeprefix("file://").replace("%20", " ")).mkdir(parents=True)
    log.end()
    return root


@pytest.fixture(params=["moved", "copied"])
def store(request: pytest.FixtureRequest, template: Path, tmp_path: Path) -> Path:
    """The store at another place; its original is there still, or not."""
    origin = tmp_path / "origin"
    shutil.copytree(template, origin)
    relocate(origin)
    if request.param == "moved":
        return Path(shutil.move(origin, tmp_path / "new place"))
    shutil.copytree(origin, tmp_path / "new place")
    return tmp_path / "new place"


def recorded(root: Path) -> set[str]:
    with sqlite3.connect(root / DATABASE) as rows:
        found = [row[0] for table, column in COLUMNS for row in rows.execute(f"SELECT {column} FROM {table}")]
    return {path for path in found if path and not path.startswith("models:")}


def test_every_path_is_brought_here(store: Path) -> None:
    before = recorded(store)
    assert len(before) >= 4
    count = moved(store)
    assert count >= len(before)
    assert relocate(store) == count
    assert all(path.startswith(store.as_uri()) for path in recorded(store))
    assert len(recorded(store)) == len(before)
    assert (moved(store), relocate(store)) == (0, 0)


def test_a_run_writes_here_without_being_asked(store: Path, template: Path) -> None:
    files = {path for path in store.parent.rglob("*") if not path.is_relative_to(store)}
    log = Tracker(Settings(root=str(store))).start("another", {})
    log.text("hello", "said.txt")
    log.end()
    assert len(list((store / "mlartifacts").rglob("said.txt"))) == 2
    assert {path for path in store.parent.rglob("*") if not path.is_relative_to(store)} == files


def test_readers_look_here_first(store: Path) -> None:
    for location in recorded(store):
        found = local_path(location, store)
        assert found is not None
        assert found.is_relative_to(store) or not found.exists()
    assert sum((local_path(location, store) or store).is_dir() for location in recorded(store)) >= 3
    assert local_path("s3://bucket/mlartifacts/0", store) is None
    assert local_path("mlflow-artifacts:/0/x", store) is None
    assert local_path("file:///nowhere/mlartifacts/0/x", store) == Path("/nowhere/mlartifacts/0/x")
    assert local_path("file:///nowhere/mlartifacts/../../etc", store) == Path("/nowhere/mlartifacts/../../etc")


def test_doctor_says_so_and_mends_it(store: Path) -> None:
    said = CliRunner().invoke(app, ["doctor", "--root", str(store)]).output
    assert "paths in the registry lead to where the store was; mend them: deepmill doctor --relocate" in said
    said = CliRunner().invoke(app, ["doctor", "--root", str(store), "--relocate"]).output
    assert "recorded paths brought to" in said
    assert "the registry names its files in this store" in said


def test_the_same_folder_by_another_name_was_not_moved(template: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(template)
    assert moved(link) == 0


def test_no_registry_no_paths(tmp_path: Path) -> None:
    assert (moved(tmp_path), relocate(tmp_path)) == (0, 0)
    assert not (tmp_path / DATABASE).exists()
