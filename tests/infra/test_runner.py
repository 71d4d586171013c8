"""Runner, supervisor and worker with real processes: publish, resume, refuse, race, kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.errors import UserError
from infra.events import Event
from infra.fingerprint import fingerprint
from infra.hashing import identity_of
from infra.manifest import MANIFEST
from infra.runner import Job, StageError, StageKilledError, make, rebuild
from infra.store import LocalStore

PATIENCE = 90
"""Seconds that what takes one may take on a machine with other work."""
SCRIPT = """
import json, sys
from pathlib import Path
from infra.runner import Job, make
from infra.store import LocalStore
job = Job(**json.loads(sys.argv[2]))
manifest, there = make(LocalStore(Path(sys.argv[1])), job, lambda event: None)
print(json.dumps({"there": there, "attempts": manifest.metrics["attempts"]}))
"""


def job_of(function: str, stage: str = "fake", inputs: dict[str, str] | None = None, **config: Any) -> Job:
    return Job(
        stage=stage,
        version=1,
        identity=identity_of(stage, 1, config, inputs or {}),
        entrypoint=f"tests.infra.fake_stages:{function}",
        config=config,
        inputs=inputs or {},
    )


def in_process(root: Path, job: Job) -> subprocess.Popen[str]:
    argument = json.dumps(
        {"stage": job.stage, "version": 1, "identity": job.identity, "entrypoint": job.entrypoint, "config": job.config}
    )
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(root), argument], stdout=subprocess.PIPE, text=True)


def wait_for(path: Path, lines: int = 1) -> list[int]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if path.exists() and len(found := path.read_text().split()) >= lines:
            return [int(pid) for pid in found]
        time.sleep(0.02)
    raise AssertionError(f"{path} was not written")


def wait_gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_makes_once_then_finds(store: LocalStore) -> None:
    seen: list[Event] = []
    first, there = make(store, job_of("write", text="a"), seen.append)
    assert not there
    assert first.metrics == {"length": 1, "attempts": 1}
    assert [file.path for file in first.files] == ["out.txt"]
    assert {"begin", "advance", "metrics"} <= {event.event for event in seen}
    folder = store.path("fake", first.identity)
    assert (folder / ".logs" / "events.jsonl").exists()
    assert not (folder / ".work").exists()
    second, there = make(store, job_of("write", text="a"), seen.append)
    assert there
    assert second == first


def test_inputs_are_folders_of_published_artifacts(store: LocalStore) -> None:
    first, _ = make(store, job_of("write", "one", text="a"), lambda event: None)
    second, _ = make(store, job_of("write", "two", {"one": f"one/{first.identity}"}, text="b"), lambda event: None)
    assert (store.path("two", second.identity) / "out.txt").read_text() == "b+a"
    assert second.input_contents == {"one": first.content}


def test_bad_input_is_one_line_and_no_artifact(store: LocalStore) -> None:
    job = job_of("refuse")
    with pytest.raises(UserError) as raised:
        make(store, job, lambda event: None)
    assert str(raised.value) == "corpus.xml: record 7: not closed; fetch the file again"
    assert store.find("fake", job.identity) is None


def test_crash_names_its_log(store: LocalStore) -> None:
    with pytest.raises(StageError, match="RuntimeError: last line") as raised:
        make(store, job_of("crash"), lambda event: None)
    log = Path(str(raised.value).rsplit(" in ", 1)[1])
    assert "first line" in log.read_text()


def test_full_disk_is_one_line(store: LocalStore) -> None:
    with pytest.raises(UserError, match=r"big: the disk is full; free space"):
        make(store, job_of("fill_disk"), lambda event: None)


def test_killed_stage_leaves_nothing_and_resumes(store: LocalStore, tmp_path: Path) -> None:
    job = job_of("write", text="a", seconds=2.0, pid_file=str(tmp_path / "pids"))
    runner = in_process(store.root, job)
    os.kill(wait_for(tmp_path / "pids")[0], signal.SIGKILL)
    assert runner.wait(PATIENCE) != 0
    assert store.find("fake", job.identity) is None
    manifest, there = make(store, job, lambda event: None)
    assert not there
    assert manifest.metrics["attempts"] == 2  # its .work was there
    assert [file.path for file in manifest.files] == ["out.txt"]


def test_killed_flow_ends_the_whole_tree(store: LocalStore, tmp_path: Path) -> None:
    runner = in_process(store.root, job_of("with_descendants", pid_file=str(tmp_path / "pids")))
    worker, orphan = wait_for(tmp_path / "pids", 2)
    runner.kill()
    assert wait_gone(worker, PATIENCE)
    assert wait_gone(orphan, PATIENCE)


def test_signal_is_told(store: LocalStore, tmp_path: Path) -> None:
    job = job_of("write", seconds=30.0, pid_file=str(tmp_path / "pids"))
    argument = in_process(store.root, job)
    worker = wait_for(tmp_path / "pids")[0]
    os.kill(worker, signal.SIGKILL)
    assert argument.wait(PATIENCE) == 1
    with pytest.raises(StageKilledError, match="SIGKILL"):
        _raise_killed(store, tmp_path)


def _raise_killed(store: LocalStore, tmp_path: Path) -> None:
    job = job_of("write", text="b", seconds=30.0, pid_file=str(tmp_path / "pids2"))

    def kill(event: Event) -> None:
        os.kill(wait_for(tmp_path / "pids2")[0], signal.SIGKILL)

    make(store, job, kill)


def test_two_runs_make_it_once(store: LocalStore, tmp_path: Path) -> None:
    job = job_of("write", text="a", seconds=1.0, pid_file=str(tmp_path / "pids"))
    runs = [in_process(store.root, job) for _ in range(2)]
    results = [json.loads(run.communicate(timeout=60)[0]) for run in runs]
    assert sorted(result["there"] for result in results) == [False, True]
    assert len((tmp_path / "pids").read_text().split()) == 1


def test_stale_artifact_is_replaced(store: LocalStore) -> None:
    job = job_of("write", text="a")
    first, _ = make(store, job, lambda event: None)
    second, there = make(store, job, lambda event: None, stale=lambda found: found == first)
    assert not there
    assert second.content == first.content


def test_what_a_killed_writer_left_half_is_no_part_of_the_artifact(store: LocalStore) -> None:
    job = job_of("write", text="a")
    first, _ = make(store, job, lambda event: None)
    staging = store.staging("fake", job.identity)
    staging.prepare(fingerprint(job.entrypoint))
    (staging.artifact / "model").mkdir()
    for name in (".tmpkMd4V3", "model/.tmpAbCdEf", "model/.model.safetensors.4711.tmp"):
        (staging.artifact / name).write_text("hal")
    second, there = make(store, job, lambda event: None, stale=lambda found: found == first)
    assert not there
    assert second.content == first.content


def test_remake_compares_and_leaves_the_store_alone(store: LocalStore) -> None:
    job = job_of("write", text="a")
    first, _ = make(store, job, lambda event: None)
    before = (store.path("fake", job.identity) / MANIFEST).read_bytes()
    assert rebuild(store, job, lambda event: None).content == first.content
    assert (store.path("fake", job.identity) / MANIFEST).read_bytes() == before
    assert not list((store.root / ".rerun").rglob("out.txt"))


def test_processor_time_counts_of_processes_that_nobody_waited_for() -> None:
    """The fork server of a stage's workers ends when the stage does."""
    script = """
import os, time
if not (child := os.fork()):
    while time.process_time() < 0.5:
        pass
    os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
"""
    command = [sys.executable, "-m", "infra.supervisor", str(os.getpid()), sys.executable, "-c", script]
    _, status, usage = os.wait4(subprocess.Popen(command).pid, 0)
    assert status == 0
    assert usage.ru_utime + usage.ru_stime > 0.5
