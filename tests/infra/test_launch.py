"""Launching ranks: errors come back, nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infra.errors import UserError
from infra.launch import RankError, launch

HERE = "tests.infra.test_launch"
PATIENCE = 90
"""Seconds that what takes one may take on a machine with other work."""


def report(folder: str) -> None:
    """Rank: write the environment contract down."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    Path(folder, os.environ["RANK"]).write_text(json.dumps({name: os.environ[name] for name in names}))


def fail(argument: dict[str, Any]) -> None:
    """Rank 1 fails in the way asked for; rank 0 would wait for ever."""
    Path(argument["folder"], f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    if os.environ["RANK"] == "0":
        time.sleep(1000)
    while not Path(argument["folder"], "pid-0").exists():
        time.sleep(0.01)
    if argument["how"] == "user":
        raise UserError("corpus.txt: record 7: broken; mend it")
    if argument["how"] == "full":
        with Path("/dev/full").open("w") as handle:
            handle.write("x")
    if argument["how"] == "bug":
        raise RuntimeError("a bug")
    os.kill(os.getpid(), signal.SIGKILL)


def wait(folder: str) -> None:
    """Rank: say who you are and sleep."""
    Path(folder, f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    time.sleep(1000)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.glob("pid-*") if path.read_text()]


def _gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while any(map(_is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(_is_alive, pids))


def test_ranks_get_the_environment(tmp_path: Path) -> None:
    launch(f"{HERE}:report", str(tmp_path), 3)
    seen = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    assert [rank["RANK"] for rank in seen] == [rank["LOCAL_RANK"] for rank in seen] == ["0", "1", "2"]
    assert {(rank["WORLD_SIZE"], rank["MASTER_ADDR"]) for rank in seen} == {("3", "127.0.0.1")}
    assert len({rank["MASTER_PORT"] for rank in seen}) == 1


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("user", UserError, "^corpus.txt: record 7: broken; mend it$"),
        ("full", UserError, "the disk is full; free space and run the same command"),
        ("bug", RankError, "rank 1 of 2 failed:\n(.|\n)*RuntimeError: a bug"),
        ("kill", RankError, "rank 1 of 2 was killed by SIGKILL"),
    ],
)
def test_a_failure_is_reported_and_nobody_stays(how: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        launch(f"{HERE}:fail", {"how": how, "folder": str(tmp_path)}, 2)
    assert len(_pids(tmp_path)) == 2
    assert _gone(_pids(tmp_path))


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_ranks_go_with_their_parent(signum: int, tmp_path: Path) -> None:
    code = f"from infra.launch import launch; launch('{HERE}:wait', {str(tmp_path)!r}, 2)"
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + PATIENCE
    while len(_pids(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = _pids(tmp_path)
    assert len(pids) == 2
    parent.send_signal(signum)
    assert parent.wait(PATIENCE) == (-signal.SIGKILL if signum == signal.SIGKILL else 143)
    assert _gone(pids)
