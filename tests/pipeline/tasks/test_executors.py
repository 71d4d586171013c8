"""The tasks of a data stage here, on Ray and on Slurm: the same bytes, the same errors, resumed task by task."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep

import pipeline.tasks.digests
from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY, Execution, execution
from infra.hashing import identity_of
from infra.runner import Job, make
from infra.storage import resolve
from infra.store import LocalStore
from pipeline.dedup import decontaminate as decontaminate_stage
from pipeline.dedup import stage as dedup_stage
from pipeline.dedup.section import DedupConfig
from pipeline.sections import DecontaminateConfig
from pipeline.tasks.digests import digests_on, send_on
from pipeline.tasks.documents import Document, DocumentReader, DocumentWriter, run_pipeline
from pipeline.tasks.executors import TaskError
from pipeline.tasks.task_reports import Reporting, raise_failure
from tests.infra import ray, slurm
from tests.pipeline.corpus import Row, published, words, write_documents, write_reasoning

HOUSE = Path(__file__).parents[3]
FILES = 4
FEWER = 2
"""Files of the test whose stages have many passes: on Slurm each task is a process that imports the pipeline."""
HASHED = 4
"""Files of the test of digests, each a task."""
PATIENCE = 120
"""Seconds that ends may take on a busy machine."""


def rows(file: int) -> list[Row]:
    """Five documents, of which one is in every file."""
    return [("copy", "web", words(0, 60)), *((f"{file}-{n}", "wiki", words(10 * file + n, 60)) for n in range(1, 5))]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "input", *map(rows, range(1, FILES + 1)))


@pytest.fixture(params=["local", "slurm", "ray"])
def executor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each executor in turn, two tasks at once; `own ray` is one that the stage itself starts."""
    wanted = str(request.param)
    name = wanted.removeprefix("own ")
    execution: dict[str, Any] = {"executor": name, "workers": 2, "task_memory_gb": 0.5}
    if name == "ray" and (why := ray.missing()):
        pytest.skip(why)
    if wanted == "ray":
        address, key = request.getfixturevalue("ray_place")
        execution["ray"] = {"address": address}
        for variable, value in key.items():
            monkeypatch.setenv(variable, value)
    if name == "slurm":
        for key, value in request.getfixturevalue("slurm_variables").items():
            monkeypatch.setenv(key, value)
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps(execution))
    return name


class Touchy(PipelineStep):
    """Notes which tasks ran; misbehaves at task 2 as the file `mood` says."""

    type = "FILTER"
    name = "touchy"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        with (self.folder / "ran").open("a") as log:
            log.write(f"{rank}\n")
        mood = (self.folder / "mood").read_text()
        for document in data:
            if rank == 2 and mood == "user":
                raise UserError(f"{document.id}: this one is not to be had; take another")
            if rank == 2 and mood == "crash":
                raise RuntimeError("a fault of ours")
            if rank == 2 and mood == "die":
                while len(list((self.folder / "work" / "touchy" / "completions").glob("*"))) < FILES - 1:
                    time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGKILL)
            yield document


def run_touchy(artifact: Path, folder: Path, mood: str) -> list[int]:
    """Which tasks ran this time; raises what `run_pipeline` raises."""
    folder.mkdir(exist_ok=True)
    (folder / "mood").write_text(mood)
    (folder / "ran").write_text("")
    run_pipeline([DocumentReader(artifact), Touchy(folder), DocumentWriter(folder)], FILES, folder / "work", "touchy")
    return sorted(map(int, (folder / "ran").read_text().split()))


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_errors_arrive_and_what_is_done_is_not_repeated(executor: str, artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(UserError, match=r"^copy: this one is not to be had; take another$"):
        run_touchy(artifact, folder, "user")
    with pytest.raises(RuntimeError if executor == "local" else TaskError, match="a fault of ours"):
        run_touchy(artifact, folder, "crash")
    if executor != "ray":  # which tries a task that was killed again, three times
        lost = "a worker was killed" if executor == "local" else r"1 of 4 tasks did not end \(the first is 2\)"
        with pytest.raises(TaskError, match=lost):
            run_touchy(artifact, folder, "die")
        assert run_touchy(artifact, folder, "well") == [2]
    run_touchy(artifact, folder, "well")
    assert run_touchy(artifact, folder, "well") == []
    run_pipeline([DocumentReader(artifact), DocumentWriter(tmp_path / "here")], FILES, tmp_path, "here", processes=1)
    assert published(folder / "documents") == published(tmp_path / "here" / "documents")


class _Filled(PipelineStep):
    """Wants to write where nothing fits."""

    type = "FILTER"
    name = "filled"

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        with Path("/dev/full").open("w") as handle:
            handle.write("x")
        yield from data


class _Reported(Reporting, LocalPipelineExecutor):
    """As executors elsewhere tell of a task that failed."""


def test_a_full_disk_on_another_machine_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        _Reported([_Filled()], logging_dir=str(tmp_path))._run_for_rank(0)
    with pytest.raises(UserError, match="the disk is full; free space and run the same command"):
        raise_failure(tmp_path)


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_digests_of_many_files(executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken where the tasks run, in order; a file that cannot be read costs no other. They are sent from there too."""
    monkeypatch.setattr(pipeline.tasks.digests, "TASK_BYTES", 10)
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(HASHED):
        (raw / str(number)).write_bytes(bytes([number]) * 7)
    files = resolve([str(raw)])
    gone = raw / "3"  # the last: with two at work, one of the others may not be done
    gone.unlink()
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\); put it back"):
        digests_on(execution(), files, tmp_path / "digests")
    found = len(list(tmp_path.glob("digests/*/found/*.json")))
    assert found >= 2
    gone.write_bytes(bytes([3]) * 7)
    wanted = [hashlib.sha256(bytes([number]) * 7).hexdigest() for number in range(HASHED)]
    assert digests_on(execution(), files, tmp_path / "digests") == wanted
    assert not list((tmp_path / "digests").iterdir())
    (tmp_path / "there").mkdir()
    sent = {f"file://{tmp_path}/there/{file.name}": Path(file.path) for file in files}
    send_on(execution(), sent, tmp_path / "digests")
    assert [(tmp_path / "there" / str(number)).read_bytes() for number in range(HASHED)] == [
        bytes([number]) * 7 for number in range(HASHED)
    ]
    assert not list((tmp_path / "digests").iterdir())


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("executor", ["slurm", pytest.param("ray", marks=pytest.mark.nightly)], indirect=True)
def test_stages_of_several_passes_give_the_same_bytes(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deduplicate and decontaminate, with no pass kept here for being small."""
    artifact = write_documents(tmp_path / "input", *map(rows, range(1, FEWER + 1)))
    reasoning = write_reasoning(tmp_path / "reasoning", test=[words(11, 20)])
    made: list[Any] = []
    there = os.environ[ENVIRONMENT_KEY]
    monkeypatch.delenv(ENVIRONMENT_KEY)
    for place in ("here", "there"):
        out = tmp_path / place
        if place == "there":
            monkeypatch.setattr(dedup_stage, "FEW", 0)
            monkeypatch.setattr(decontaminate_stage, "FEW_BYTES", 0)
        metrics = dedup_stage.dedup(
            DedupConfig(buckets=2, hashes_per_bucket=2), {"clean": artifact}, out / "dedup"
        ).written()
        (out / "decontaminate").mkdir()
        inputs = {"dedup": out / "dedup", "reasoning": reasoning}
        more = decontaminate_stage.decontaminate(DecontaminateConfig(), inputs, out / "decontaminate").written()
        made.append((metrics, more, published(out / "dedup"), published(out / "decontaminate")))
        monkeypatch.setenv(ENVIRONMENT_KEY, there)
    assert made[0] == made[1]
    assert made[0][0]["dropped"] == {"exact": FEWER - 1}


FLOW = """
import json, sys
from pathlib import Path
from infra.execution import Execution
from infra.runner import Job, make
from infra.storage import resolve
from infra.store import LocalStore
from tests.pipeline.tasks.test_executors import slow_job
make(LocalStore(Path(sys.argv[1])), slow_job(*sys.argv[2:]), lambda event: None)
"""


def slow_job(artifact: str, folder: str, execution: str) -> Job:
    """The stage of `slow_stage.py`."""
    config = {"artifact": artifact, "folder": folder}
    return Job(
        stage="slow",
        version=1,
        identity=identity_of("slow", 1, config, {}),
        entrypoint="tests.pipeline.tasks.slow_stage:slow",
        config=config,
        execution=Execution.model_validate_json(execution),
    )


def tasks_of(folder: Path) -> list[tuple[int, int]]:
    """Process and number of each task that has run or runs."""
    log = folder / "tasks"
    pairs = [line.split(":") for line in log.read_text().split()] if log.exists() else []
    return [(int(pid), int(rank)) for pid, rank in pairs]


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.1)


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("executor", "victim"),
    [pytest.param("slurm", "cancelled", marks=pytest.mark.nightly), ("slurm", "killed"), ("ray", "killed")],
    indirect=["executor"],
)
def test_the_end_of_a_flow_is_the_end_of_its_tasks(executor: str, victim: str, artifact: Path, tmp_path: Path) -> None:
    """Cancelled in order or by kill -9; then the same command does the tasks that are left, and only these."""
    store = LocalStore(tmp_path / "store")
    arguments = [str(artifact), str(tmp_path), os.environ[ENVIRONMENT_KEY]]
    (tmp_path / "hold").touch()
    flow = subprocess.Popen(
        [sys.executable, "-c", FLOW, str(store.root), *arguments], cwd=HOUSE, stderr=subprocess.DEVNULL
    )
    completions = store.root / ".staging" / "slow"
    try:
        wait_until(lambda: {rank for _, rank in tasks_of(tmp_path)} == set(range(FILES)), 150)
        wait_until(lambda: len(list(completions.rglob("completions/*"))) == 2, 60)
        held = [pid for pid, rank in tasks_of(tmp_path) if rank >= 2]
        assert all(map(runs, held))
        held += [process.pid for process in psutil.Process(flow.pid).children(recursive=True)]
    finally:
        flow.send_signal(signal.SIGINT if victim == "cancelled" else signal.SIGKILL)
        try:
            flow.wait(PATIENCE)
        finally:
            flow.kill()
    wait_until(lambda: not any(map(runs, held)), PATIENCE)
    if executor == "slurm":
        wait_until(lambda: slurm.jobs(dict(os.environ)) == [], PATIENCE)
    wait_until(lambda: not list(store.root.rglob("*.endings/*.json")), 10)
    (tmp_path / "hold").unlink()
    before = len(tasks_of(tmp_path))
    manifest, there = make(store, slow_job(*arguments), lambda event: None)
    assert not there
    assert sorted(rank for _, rank in tasks_of(tmp_path)[before:]) == [2, 3]
    assert [file.path for file in manifest.files] == [f"documents/{n:05d}.parquet" for n in range(FILES)]
