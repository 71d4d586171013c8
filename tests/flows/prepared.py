"""Databases of Prefect and MLflow as their migrations leave them: made once in a session, then copied.

Making one takes seconds of processor time. Tests of the making itself use neither.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from infra.settings import DATABASE
from infra.tracking import make_database
from tests.shared import made_once

MEMO = "memo_store.toml"
"""Where Prefect notes which block types its database knows."""
PREFECT = "prefect.db"
START_SECONDS = 180


def prepare_mlflow(store: Path, name: str = DATABASE) -> None:
    """Put MLflow's database, as a file of that name, into a folder that has none."""
    template = made_once("mlflow", make_database) / DATABASE
    store.mkdir(parents=True, exist_ok=True)
    if not (store / name).exists():
        shutil.copyfile(template, store / name)
        with contextlib.closing(sqlite3.connect(store / name)) as base, base:
            place = (store / "mlartifacts" / "0").as_uri()
            base.execute("update experiments set artifact_location = ? where experiment_id = 0", (place,))


def prepare_prefect(home: Path) -> None:
    """Put Prefect's database into a home that has none."""
    template = made_once("prefect", _make_prefect)
    home.mkdir(parents=True, exist_ok=True)
    if not (home / PREFECT).exists():
        for name in (MEMO, PREFECT):
            shutil.copyfile(template / name, home / name)


@contextlib.contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """Prefect's server on loopback with what `home` holds; yields the address of its API."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"],
            env=_quiet() | {"PREFECT_HOME": str(home), "PREFECT_UI_ENABLED": "0"},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/api"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            assert process.poll() is None, (home / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def _make_prefect(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    with prefect_server(home):
        pass
    shutil.copyfile(home / MEMO, folder / MEMO)
    with (
        contextlib.closing(sqlite3.connect(home / PREFECT)) as grown,
        contextlib.closing(sqlite3.connect(folder / PREFECT)) as whole,
    ):
        grown.backup(whole)  # what still lies in its log included


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _quiet() -> dict[str, str]:
    """Without the services that make and mend scheduled runs, as a run's own server is without them: these poll."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    told = {"DO_NOT_TRACK": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT__SERVER_EPHEMERAL": "1"}
    return kept | told
