"""What a training writes row by row, in files of its own: snapshots record how long they are, and do not carry them.

A `Journal` holds one JSON value per line, only grows, and is cut back to a mark when a run resumes. A full disk does
not end what writes to it: lines wait in memory until they can be written. `History` is the journal of a run's numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.errors import UserError

__all__ = ["History", "Journal", "Mark", "Row"]

Row = Mapping[str, float]
"""Numbers of one step or evaluation by their names, `step` among them: finished steps."""


@dataclass(frozen=True)
class Mark:
    """A place in a journal, and what lies before it."""

    size: int
    sha256: str


class Journal:
    """One file; rank 0 writes it, every rank may read it.

    Args:
        path: made when there is something to write.
        writes: whether this rank is the one.
    """

    def __init__(self, path: Path, *, writes: bool) -> None:
        self.path, self._writes = path, writes
        self._size, self._digest, self._waiting = 0, hashlib.sha256(), b""

    def append(self, *values: Any) -> None:
        """Add a line for each value; `flush` and `mark` bring them to the file."""
        if self._writes:
            lines = (json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n" for value in values)
            self._waiting += "".join(lines).encode()

    def flush(self) -> None:
        """Write what waits, over whatever an attempt that failed has left."""
        if not self._waiting:
            return
        with self.path.open("ab") as handle:
            handle.truncate(self._size)
            handle.write(self._waiting)
        self._size += len(self._waiting)
        self._digest.update(self._waiting)
        self._waiting = b""

    def try_to_flush(self) -> None:
        """`flush`, or leave it for later where the disk cannot take it."""
        with contextlib.suppress(OSError):
            self.flush()

    def contents(self) -> bytes:
        """All that was appended.

        Raises:
            OSError: the disk cannot take what waits.
        """
        self.flush()
        return self.path.read_bytes() if self._size else b""

    def mark(self) -> Mark:
        """The place reached, with everything before it on disk.

        Raises:
            OSError: the disk cannot take it.
        """
        self.flush()
        if self._size:
            with self.path.open("rb") as handle:
                os.fsync(handle.fileno())
        return Mark(self._size, self._digest.hexdigest())

    def check(self, mark: Mark) -> None:
        """UserError unless the file still begins with what `mark` says."""
        if hashlib.sha256(self._before(mark)).hexdigest() != mark.sha256:
            raise UserError(f"{self.path}: damaged (its first {mark.size} bytes are not those that were written)")

    def cut(self, mark: Mark | None) -> list[Any]:
        """Go on from `mark`, or from nothing: the values before it. What comes after it is gone."""
        kept = self._before(mark) if mark else b""
        self._size, self._digest, self._waiting = len(kept), hashlib.sha256(kept), b""
        if self._writes and self.path.exists():
            os.truncate(self.path, self._size)
        return [json.loads(line) for line in kept.splitlines()]

    def _before(self, mark: Mark) -> bytes:
        if not mark.size:
            return b""
        try:
            with self.path.open("rb") as handle:
                return handle.read(mark.size)
        except OSError as error:
            raise UserError(f"{self.path}: missing or damaged ({error})") from None


@dataclass
class History:
    """The rows of a run's steps and evaluations, in memory and in a journal."""

    journal: Journal
    steps: list[Row] = field(default_factory=list)
    evaluations: list[Row] = field(default_factory=list)

    def add_step(self, row: Row) -> None:
        """Keep the row of one more step."""
        self.steps.append(row)
        self.journal.append({"steps": row})

    def add_evaluation(self, row: Row) -> None:
        """Keep the row of one more evaluation."""
        self.evaluations.append(row)
        self.journal.append({"evaluations": row})

    def take(self, lines: Sequence[Mapping[str, Row]]) -> None:
        """Take up what the journal held when a snapshot was written."""
        self.steps = [line["steps"] for line in lines if "steps" in line]
        self.evaluations = [line["evaluations"] for line in lines if "evaluations" in line]
