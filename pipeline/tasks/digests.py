"""What is done with whole files where the recipe's data stages run: their SHA-256 taken, and put into the store.

One process reads some 500 MB/s of what it hashes and sends less: ten terabytes would take it hours. The tasks of a
cluster have as many files in hand at once as the recipe gives them processors, each the network of its node.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import fsspec
from datatrove.pipeline.base import PipelineStep

from infra.execution import Execution
from infra.retrying_filesystem import RetryingFileSystem
from infra.storage import ExternalFile, digest_of
from pipeline.tasks.documents import Document
from pipeline.tasks.executors import run_tasks

__all__ = ["digests_on", "send_on"]

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


def send_on(execution: Execution, files: Mapping[str, Path], folder: Path) -> None:
    """Put files to the addresses (``s3://…``) that they are named by, by tasks of the recipe's executor.

    Whether the store has them is for the caller to see. `folder` as for `digests_on`.

    Raises:
        UserError: the cluster cannot be reached.
        TaskError: a task failed in another way.
    """
    tasks = _deal([ExternalFile(str(path), address, path.stat().st_size) for address, path in files.items()])
    work = folder / uuid.uuid4().hex[:16]  # a store that lost what it took is sent it again
    run_tasks([_Sender(tasks)], len(tasks), work, execution)
    shutil.rmtree(work)


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


class _Sender(PipelineStep):
    """The step that puts the files of its task, whose names are their addresses."""

    type = "WRITER"
    name = "uploads"

    def __init__(self, tasks: list[list[ExternalFile]]) -> None:
        super().__init__()
        self.tasks = tasks

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        for file in self.tasks[rank]:
            kind, mark, _ = file.name.rpartition("://")
            filesystem = RetryingFileSystem(fsspec.filesystem(kind if mark else "file"), file.name)
            filesystem.put_file(file.path, file.name)
        yield from ()


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
