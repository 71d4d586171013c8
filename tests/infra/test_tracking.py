"""MLflow's local database comes to be whole or not at all, also when two ask at once and one is killed over it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.settings import DATABASE, Settings
from infra.tracking import Tracker, registry_client
from tests.flows.prepared import prepare_mlflow

OPEN = """
from infra.settings import Settings
from infra.tracking import Tracker
print(Tracker(Settings()).start("run", {}).run_id)
"""


def _killed_while_it_is_made(folder: Path) -> bool:
    dying = subprocess.Popen([sys.executable, "-c", OPEN], stdout=subprocess.DEVNULL)
    growing, whole = folder / ".mlflow.db", folder / "mlflow.db"
    while not (growing.exists() and growing.stat().st_size > 8192):
        if whole.exists():
            break
        assert dying.poll() is None
        time.sleep(0.001)
    dying.send_signal(signal.SIGKILL)
    dying.wait()
    return not whole.exists()


def test_killed_while_it_is_made_and_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path))
    while not _killed_while_it_is_made(tmp_path):
        shutil.rmtree(tmp_path)  # this process stood still for as long as it takes
        tmp_path.mkdir()
    both = [subprocess.Popen([sys.executable, "-c", OPEN], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    runs = {process.communicate(timeout=120)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(runs) == 2
    tracker = Tracker(Settings())
    client = tracker.client
    kind = "mlflow.experimentKind"  # else the page opens on the traces of chats
    assert client.get_experiment(tracker.experiment).tags[kind] == "custom_model_development"
    older = client.create_experiment("older")
    assert Tracker(Settings(experiment="older")).experiment == older
    assert client.get_experiment(older).tags[kind] == "custom_model_development"
    assert {client.get_run(run).info.run_name for run in runs} == {"run"}
    assert not list(tmp_path.glob(".mlflow.db*"))


def test_a_server_that_is_away_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPMILL_TRACKING_URI", "nonsense://me:secret@away")
    with pytest.raises(UserError, match="cannot reach MLflow") as caught:
        registry_client(Settings())
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("revision", "told"),
    [
        (
            "451aebb31d03",
            r"an older MLflow made it; copy the database, then: mlflow db upgrade sqlite:///.*mlflow\.db$",
        ),
        ("ffffffffffff", r"a newer MLflow than \S+, which is installed here, made it; install that one$"),
    ],
)
def test_the_database_of_another_mlflow_is_told_as_one(
    revision: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_mlflow(tmp_path)
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as rows, rows:
        rows.execute("update alembic_version set version_num = ?", (revision,))
    with pytest.raises(UserError, match=told):
        registry_client(Settings())
