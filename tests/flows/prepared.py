"""Databases of Prefect and MLflow as their migrations leave them: made once in a session, then copied.

Making one takes seconds of processor time. Tests of the making itself use neither.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from infra.processes import free_ports
from infra.settings import DATABASE
from infra.tracking import make_database
from tests.shared import made_once

ADDRESS = "address.txt"
MEMO = "memo_store.toml"
"""Where Prefect notes which block types its database knows."""
PREFECT = "prefect.db"
START_SECONDS = 180
WITH_SESSION = """
import os, select, sys, threading, uvicorn
session = os.pidfd_open(int(sys.argv[1]))
threading.Thread(target=lambda: select.select([session], [], []) and os._exit(0), daemon=True).start()
uvicorn.run(sys.argv[2], factory=True, host="127.0.0.1", port=int(sys.argv[3]), log_level="error")
"""
"""Serves until a process has ended."""
_started: list[subprocess.Popen[bytes]] = []
"""Servers that may outlive this process, which for that must not forget them."""


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
    process, url = _serve_prefect(home, os.getpid())
    try:
        yield url
    finally:
        process.terminate()
        process.wait()


def shared_prefect() -> str:
    """Address of the API of the one server of this session, which whoever asks first starts."""
    return (made_once("prefect-server", _share_prefect) / ADDRESS).read_text()


def _share_prefect(folder: Path) -> None:
    prepare_prefect(folder)
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()  # workers end before the others do
    process, url = _serve_prefect(folder, session)
    _started.append(process)
    (folder / ADDRESS).write_text(url)


def _serve_prefect(home: Path, session: int) -> tuple[subprocess.Popen[bytes], str]:
    """A server that answers, and ends with the process `session` at the latest; the address of its API."""
    (port,) = free_ports()
    app = "prefect.server.api.server:create_app"
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WITH_SESSION, str(session), app, str(port)],
            env=_quiet() | {"PREFECT_HOME": str(home), "PREFECT_UI_ENABLED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}/api"
    deadline = time.monotonic() + START_SECONDS
    while not _answers(url):
        assert process.poll() is None, (home / "server.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process, url


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
