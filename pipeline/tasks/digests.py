"""SHA-256 of many files, taken where the recipe's data stages run: on this machine, on Ray or on Slurm.

One process reads some 500 MB/s of what it hashes: ten terabytes would take it hours. The tasks of a cluster read as
many files at once as the recipe gives them processors.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from datatrove.pipeline.base import PipelineStep

from infra.execution import Execution
from infra.storage import ExternalFile, digest_of
from pipeline.tasks.documents import Document
from pipeline.tasks.executors import run_tasks

__all__ = ["digests_on"]

TASK_BYTES = 4_000_000_000
"""Files share a task while they are smaller than this together: some seconds of reading."""


def digests_on(execution: Execution, files: Sequence[ExternalFile], folder: Path) -> list[str]:
    """SHA-256 of each file in hex, in order, by tasks of the recipe's executor.

    `folder` is for the tasks alone, and on a cluster shared by its nodes. What finished tasks found stays below it when
    others fail, so that the same call goes on with these.

    Raises:
        UserError: a file cannot be read, or the cluster cannot be reached.
        TaskError: a task failed in another way.
    """
    tasks = _deal(files)
    key = json.dumps([(file.path, file.size, file.version) for file in files])
    work = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    run_tasks([_Hasher(tasks, work / "found")], len(tasks), work / "digests", execution)
    found = [json.loads(_result(work / "found", rank).read_text()) for rank in range(len(tasks))]
    shutil.rmtree(work)
    return [digest for task in found for digest in task]


def _deal(files: Sequence[ExternalFile]) -> list[list[ExternalFile]]:
    """The files of each task, in order."""
    tasks: list[list[ExternalFile]] = []
    room = -1
    for file in files:
        if file.size > room:
            tasks.append([])
            room = TASK_BYTES
        tasks[-1].append(file)
        room -= file.size
    return tasks


def _result(folder: Path, rank: int) -> Path:
    return folder / f"{rank:05d}.json"


class _Hasher(PipelineStep):
    """The step that hashes the files of its task."""

    type = "READER"
    name = "digests"

    def __init__(self, tasks: list[list[ExternalFile]], folder: Path) -> None:
        super().__init__()
        self.tasks, self.folder = tasks, folder

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        digests = [digest_of(file) for file in self.tasks[rank]]
        self.folder.mkdir(parents=True, exist_ok=True)
        _result(self.folder, rank).write_text(json.dumps(digests))
        yield from ()
