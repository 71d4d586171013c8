"""Which files a task of a data stage writes and what they follow from, so that a later artifact can take them over.

A task is finished where `completions` of its pipeline has its mark: a task whose files are taken gets one, and is not
run, whatever executor runs the others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra import events
from infra.hashing import file_digest
from infra.kept_parts import kept_parts
from infra.manifest import MANIFEST, read_manifest

__all__ = ["OF_DOCUMENTS", "TaskParts", "digests_of", "parts_of_files"]

OF_DOCUMENTS = {
    "documents": "documents/{:05d}.parquet",
    "rejects": "rejects/{:05d}.parquet",
    "cuts": "cuts/{:05d}.parquet",
    "ledger": ".work/ledger/{:05d}.json",
}
"""What a task writes that reads, filters and counts documents."""


@dataclass(frozen=True)
class TaskParts:
    """The files of the tasks of one pipeline."""

    out_dir: Path
    outputs: Mapping[str, str | Sequence[str]]
    """Files that a task may write below `out_dir`, by name: the task's number goes into the braces, or one for each."""
    follows_from: Sequence[Any]
    """For each task a JSON value: the settings that its step asks, and digests of all that it reads. Not the code, and
    nothing of where it stands among the tasks."""
    spared: tuple[Collection[str], Collection[int]] = ((), ())
    """Outputs that are not taken over, of these tasks."""

    def also_from(self, further: Sequence[Any]) -> TaskParts:
        """These, where each task follows from something else besides."""
        return replace(self, follows_from=list(zip(self.follows_from, further, strict=True)))

    def key(self, name: str, task: int) -> Any:
        """What a task of the pipeline of this name follows from, as its part is kept under."""
        return [name, self.follows_from[task]]

    def sparing(self, outputs: Collection[str], tasks: Collection[int]) -> TaskParts:
        """These, where nobody needs some outputs of some tasks: they are not taken over."""
        return replace(self, spared=(frozenset(outputs), frozenset(tasks)))

    @contextlib.contextmanager
    def kept(self, tasks: int, folder: Path) -> Iterator[None]:
        """Take the files of finished tasks before, and keep those of the others after, where the stage keeps parts."""
        parts = kept_parts()
        if parts is None:
            yield
            return
        assert tasks == len(self.follows_from), "a value per task"
        marks = folder / "completions"
        marks.mkdir(parents=True, exist_ok=True)
        left = [task for task in range(tasks) if not (marks / f"{task:05d}").exists()]

        def take(task: int) -> bool:
            outputs, of = self.spared
            files = {name: path for name, path in self.files(task).items() if task not in of or name not in outputs}
            if taken := parts.take(self.key(folder.name, task), files):
                (marks / f"{task:05d}").touch()
            return taken

        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:  # hashing leaves Python's lock
            made = [task for task, taken in zip(left, threads.map(take, left), strict=True) if not taken]
        if len(made) < len(left):
            events.note(f"{folder.name}: {len(left) - len(made)} of {tasks} parts are as they were, and taken over")
        yield
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            list(threads.map(lambda task: parts.keep(self.key(folder.name, task), self.files(task)), made))

    def files(self, task: int) -> dict[str, Path]:
        """Where a task writes, by name."""
        return {
            name: self.out_dir / (place.format(task) if isinstance(place, str) else place[task])
            for name, place in self.outputs.items()
        }


def parts_of_files(
    out_dir: Path, artifact: Path, files: Sequence[Path], outputs: Mapping[str, str], *settings: Any
) -> TaskParts | None:
    """Of a pipeline with a task per file of an artifact, all with these settings; None where no parts are kept."""
    if kept_parts() is None:
        return None
    return TaskParts(out_dir, outputs, [[*settings, each] for each in digests_of(artifact, files)])


def digests_of(artifact: Path, files: Sequence[Path]) -> list[str]:
    """SHA-256 of some files of an artifact: what its manifest says, against which they are verified before a stage
    reads them."""
    manifest = artifact / MANIFEST
    recorded = read_manifest(manifest.read_bytes(), str(manifest)).digests if manifest.exists() else {}
    return [recorded.get(file.relative_to(artifact).as_posix()) or file_digest(file) for file in files]
