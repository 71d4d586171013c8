"""Kept parts of `extract` (`infra.kept_parts`) and requests for removal: a part in which nothing is asked to be removed
is as it would be with the request, so only files with a document that goes are read again."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.kept_parts import kept_parts
from pipeline.removal.asks import Removals
from pipeline.tasks.documents import read_file
from pipeline.tasks.task_parts import TaskParts

__all__ = ["heeding"]


def heeding(plain: TaskParts, removals: Removals, name: str, scratch: Path) -> TaskParts:
    """The parts of a pipeline that leaves out what `removals` name; those that were kept without them and have none of
    it are kept as such.

    Args:
        plain: The parts without requests.
        removals: What is to go.
        name: Of the pipeline.
        scratch: A folder that may be made, and is removed.
    """
    parts = plain.also_from([[sorted(removals.asks), removals.overlap]] * len(plain.follows_from))
    if (kept := kept_parts()) is None:
        return parts
    for task in range(len(plain.follows_from)):
        files = {output: scratch / output for output in plain.outputs}
        there = (kept.folder / kept.key(parts.key(name, task))).exists()
        if not there and kept.take(plain.key(name, task), files) and not _any_goes(files, removals):
            kept.keep(parts.key(name, task), files)
        shutil.rmtree(scratch, ignore_errors=True)
    return parts


def _any_goes(files: dict[str, Path], removals: Removals) -> bool:
    texts = [files[kind] for kind in ("documents", "rejects") if files[kind].exists()]
    return any(removals.match(document) for file in texts for document in read_file(file))
