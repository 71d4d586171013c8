"""Checkpoints to resume from, in a stage's ``.work`` folder: complete or absent, checked before use, never pickled.

Each is a layout-free checkpoint (`model.training.universal`) with the loop's state beside it, and the places that the
run's journals (`model.training.journal`) had reached, which lie in the folder themselves. It is written under another
name, in the background if the execution says so, and renamed when every rank's part is on disk; ``latest.json`` then
names it and the oldest go. A full disk costs that checkpoint only. On the way back a damaged checkpoint is passed over
for the one before it. One training at a time writes to a folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import torch
from pydantic import Field
from torch import Tensor

from infra import events
from infra.disk import is_full
from infra.durable import sync, write_durably
from infra.errors import UserError
from infra.execution import execution
from infra.facts import Facts
from infra.hashing import file_digest
from infra.json_objects import JsonObject
from model.facts.training import LayoutFacts
from model.training.journal import Journal, Mark
from model.training.universal import INDEX, CheckpointIndex, CheckpointReader, Fragment, write_fragments

__all__ = ["Restored", "Snapshots", "Trainee"]

FORMAT = 3
POINTER = "latest.json"
STATE = "state.json"


class _Saved(Facts):
    """What lies beside the engine's part of a checkpoint."""

    loop: JsonObject = Field(default_factory=dict)
    """The loop's own state."""
    journals: dict[str, Mark] = Field(default_factory=dict)
    """How far each journal was written."""


class Trainee(Protocol):
    """What a checkpoint is made of: an engine (`model.training.engine`), or what stands for one and has more to
    keep."""

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    @property
    def layout(self) -> LayoutFacts: ...

    @property
    def shapes(self) -> dict[str, list[int]]: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def optimizer_step(self) -> int: ...

    def all_reduce_sum(self, values: Tensor) -> Tensor: ...

    def fragments(self) -> Iterator[Fragment]: ...

    def load(self, reader: CheckpointReader) -> None: ...


@dataclass(frozen=True)
class Restored:
    """What came back from a checkpoint besides the engine."""

    step: int
    """Finished steps."""
    state: Mapping[str, Any]
    lines: Mapping[str, list[Any]]
    """What each journal held."""


class _Writer:
    """One rank's part of a checkpoint in the making."""

    def __init__(self, place: Path, rank: int, fragments: list[Fragment]) -> None:
        self.place, self.rank, self._fragments = place, rank, fragments
        self.error: Exception | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Write in a thread; the fragments must be copies."""
        self._thread = threading.Thread(target=self.write, name="checkpoint")
        self._thread.start()

    def write(self) -> None:
        """Write the rank's file and its checksum; what the disk says is kept in `error`."""
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            name = f"rank-{self.rank:05d}.safetensors"
            checksum = write_fragments(self.place / name, self._fragments, are_copies=self._thread is not None)
            _write_synced(self.place / f"rank-{self.rank:05d}.json", {name: checksum})
        except Exception as error:  # safetensors wraps what the system says
            self.error = error
        finally:
            self._fragments = []

    @property
    def is_busy(self) -> bool:
        """Whether the thread is still writing."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Until the thread has ended."""
        if self._thread is not None:
            self._thread.join()


class Snapshots:
    """Saves and restores an engine together with the loop's own state. Every rank has one and calls it alike."""

    def __init__(self, folder: Path, engine: Trainee, fingerprint: str, journals: Mapping[str, Journal] = {}) -> None:
        """`fingerprint` identifies the run: another run's leftovers in the folder are ignored.

        Raises:
            UserError: another training is writing to the folder.
        """
        self.folder, self._engine, self._fingerprint = folder, engine, fingerprint
        self._journals = journals
        self._policy = execution().checkpoints
        self._writer: _Writer | None = None
        self._buffers: dict[str, Tensor] = {}
        self._step = 0
        self._state = _Saved()
        self._lock: IO[str] | None = None
        message = ""
        if engine.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            message = self._take_lock()
        if self._any(bool(message)):
            raise UserError(message or f"{folder}: another training is writing to this folder")

    def _take_lock(self) -> str:
        """Lock the folder for the life of this process; who holds it if that is another."""
        handle = (self.folder / ".lock").open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            handle.close()
            return f"{self.folder}: another training ({holder}) is writing to this folder; wait for it, or stop it"
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        self._lock = handle  # held by the open file: the kernel lets go when the process ends, whatever way
        return ""

    def close(self) -> None:
        """Finish what is being written, and let others use the folder."""
        self.finish()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # -- writing -----------------------------------------------------------------------------------------------------

    def begin(self, step: int, state: Mapping[str, Any]) -> None:
        """Start a checkpoint of `step` finished steps; a background one is committed by a later `finish`."""
        self.finish()
        self._step = step
        fragments = list(self._engine.fragments())
        place = self.folder / f"step-{step:08d}.part"
        if self._engine.rank == 0:
            shutil.rmtree(place, ignore_errors=True)
        self._barrier()
        if self._policy.asynchronous:
            fragments = [self._copied(piece) for piece in fragments]
        self._writer = _Writer(place, self._engine.rank, fragments)
        self._writer.error = self._keep(state)
        if self._policy.asynchronous:
            self._writer.start()
        else:
            self._writer.write()

    def _keep(self, state: Mapping[str, Any]) -> OSError | None:
        """Hold on to the loop's state and to the journals' places; what the disk says if these cannot be written."""
        if self._engine.rank:
            return None
        try:
            marks = {name: journal.mark() for name, journal in self._journals.items()}
        except OSError as error:
            return error
        # The loop goes on and changes what it handed over, as it changes the weights.
        self._state = _Saved(loop=json.loads(json.dumps(state)), journals=marks)
        return None

    def _copied(self, piece: Fragment) -> Fragment:
        """The piece in memory of its own, which the next checkpoint takes again: fresh memory would cost more time than
        the copy itself."""
        buffer = self._buffers.get(piece.key)
        if buffer is None or buffer.shape != piece.values.shape:
            buffer = torch.empty_like(piece.values, device="cpu", memory_format=torch.contiguous_format)
            self._buffers[piece.key] = buffer
        buffer.copy_(piece.values.detach())
        return Fragment(piece.kind, piece.name, piece.start, buffer)

    def save(self, step: int, state: Mapping[str, Any]) -> bool:
        """Write a checkpoint now; whether it is there."""
        self.begin(step, state)
        return self.finish()

    @property
    def pending(self) -> bool:
        """Whether a checkpoint waits to be committed; the same on every rank."""
        return self._writer is not None

    @property
    def is_writing(self) -> bool:
        """Whether this rank's part is still being written."""
        return self._writer is not None and self._writer.is_busy

    def finish(self) -> bool:
        """Wait for the checkpoint begun last, on all ranks, and commit it; False when it could not be written."""
        if self._writer is None:
            return True
        self._writer.wait()
        writer, self._writer = self._writer, None
        error: Exception | None = writer.error
        failed = self._any(error is not None)
        if not failed and self._engine.rank == 0:
            try:
                self._commit(writer.place)
            except OSError as problem:
                error = problem
        failed = failed or self._any(error is not None)
        if failed and self._engine.rank == 0:
            shutil.rmtree(writer.place, ignore_errors=True)
        if error is not None:
            reason = "the disk is full" if is_full(error) else str(error)
            with contextlib.suppress(OSError):  # the same full disk
                events.note(f"the checkpoint of step {self._step} was not written ({reason}); training goes on without")
        return not failed

    def _commit(self, part: Path) -> None:
        _write_synced(part / STATE, self._state.model_dump())
        files = {STATE: file_digest(part / STATE)}
        for path in sorted(part.glob("rank-*.json")):
            files |= json.loads(path.read_text(encoding="utf-8"))
        index = CheckpointIndex(
            format=FORMAT,
            step=self._step,
            fingerprint=self._fingerprint,
            layout=self._engine.layout,
            optimizer_step=self._engine.optimizer_step,
            shapes=self._engine.shapes,
            files=files,
        )
        _write_synced(part / INDEX, index.model_dump())
        place = part.with_suffix("")
        shutil.rmtree(place, ignore_errors=True)
        part.rename(place)
        sync(self.folder)
        pointer = {
            "snapshot": place.name,
            "step": index.step,
            "layout": index.layout.model_dump(),
            "fingerprint": index.fingerprint,
        }
        write_durably(self.folder / POINTER, json.dumps(pointer).encode())
        complete = sorted(path for path in self.folder.glob("step-*") if path.suffix != ".part")
        for old in complete[: -self._policy.keep]:
            shutil.rmtree(old, ignore_errors=True)

    # -- reading -----------------------------------------------------------------------------------------------------

    def restore(self) -> Restored | None:
        """Load the newest usable checkpoint into the engine and cut the journals back to it; None when there is none.

        In the layout that wrote it every bit comes back; in another the same values are dealt out anew.

        Raises:
            UserError: checkpoints of this run are there and all are damaged; the model is another one.
        """
        candidates = [place for place in self._complete() if self._is_ours(place)]
        damage: list[str] = []
        for place in candidates:
            problem, reader = "", None
            try:
                reader = CheckpointReader(place)
                reader.verify(self._engine.rank, self._engine.world)
                if self._engine.rank == 0:
                    self._check_journals(place)
            except UserError as error:
                problem = str(error)
            if self._any(bool(problem)):
                damage.append(problem or f"{place}: damaged")
                continue
            assert reader is not None
            reader.check_shapes(self._engine.shapes)
            self._engine.load(reader)
            if self._engine.rank == 0:
                self._tell(place, reader, damage)
            lines = {name: self._journals[name].cut(mark) for name, mark in self._marks(place).items()}
            return Restored(reader.index.step, _read_state(place).loop, lines)
        if damage:
            raise UserError(f"{damage[0]}; no older checkpoint is whole: delete {self.folder} to start again")
        for journal in self._journals.values():
            journal.cut(None)
        return None

    def _marks(self, place: Path) -> dict[str, Mark]:
        return _read_state(place).journals

    def _check_journals(self, place: Path) -> None:
        for name, mark in self._marks(place).items():
            self._journals[name].check(mark)

    def _complete(self) -> list[Path]:
        """Folders that were committed, newest first."""
        return sorted(
            (path for path in self.folder.glob("step-*") if path.suffix != ".part" and (path / INDEX).exists()),
            reverse=True,
        )

    def _is_ours(self, place: Path) -> bool:
        try:
            index = CheckpointIndex.of(place)
        except (OSError, ValueError):
            return False
        return index.format == FORMAT and index.fingerprint == self._fingerprint

    def _tell(self, place: Path, reader: CheckpointReader, damage: list[str]) -> None:
        for line in damage:
            events.note(f"{line}; going on from {place.name} instead")
        there, here = reader.index.layout, self._engine.layout
        if there != here:
            events.note(f"{place.name} was written in the layout {_words(there)}; resharded to {_words(here)}")

    # -- ranks -------------------------------------------------------------------------------------------------------

    def _any(self, mine: bool) -> bool:
        """Whether it is so on any rank."""
        return bool(self._engine.all_reduce_sum(torch.tensor([float(mine)], device=self._engine.device)).item())

    def _barrier(self) -> None:
        self._any(False)


def _read_state(place: Path) -> _Saved:
    try:
        return _Saved.model_validate_json((place / STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{place / STATE}: missing or damaged ({error})") from None


def _words(layout: LayoutFacts) -> str:
    return ", ".join(f"{name} {value}" for name, value in layout)


def _write_synced(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
    sync(path)
