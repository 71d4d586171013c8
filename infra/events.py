"""What a running stage says to the flow that started it: progress, metric series, notes.

A stage calls these functions and knows nothing of who listens. Each call appends one JSON line to the file named by
``DEEPMILL_EVENTS``; appends of one short line are atomic, so worker processes of a stage may all write. The flow tails
the file (`EventReader`) and fans the events out to the terminal, Prefect and MLflow. Without that variable (a test, a
notebook) the calls do nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

__all__ = [
    "ENVIRONMENT_KEY",
    "Advanced",
    "Begun",
    "Event",
    "EventReader",
    "Listener",
    "Measured",
    "Noted",
    "Stuck",
    "Waiting",
    "advance",
    "begin",
    "flush",
    "folder",
    "metrics",
    "note",
]

ENVIRONMENT_KEY = "DEEPMILL_EVENTS"
FLUSH_SECONDS = 0.2


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)

    at: float | None = None
    """When it was written, in seconds since 1970; None for what the runner says itself."""


class Begun(_Event):
    """A phase begins."""

    event: Literal["begin"] = "begin"
    phase: str
    total: int | float
    """0 where nobody knows."""
    unit: str
    done: int | float = 0
    """What a resumed stage already has."""


class Advanced(_Event):
    """So many more units of the phase are done."""

    event: Literal["advance"] = "advance"
    amount: float


class Measured(_Event):
    """One point of some metric series."""

    event: Literal["metrics"] = "metrics"
    step: int
    values: dict[str, float]


class Noted(_Event):
    """One line for a person."""

    event: Literal["note"] = "note"
    text: str


class Waiting(_Event):
    """Another run makes the artifact; this one waits. Said by the runner."""

    event: Literal["wait"] = "wait"
    holder: str


class Stuck(_Event):
    """The stage has said nothing for so long. Said by the runner."""

    event: Literal["stuck"] = "stuck"
    minutes: float


Event: TypeAlias = Begun | Advanced | Measured | Noted | Waiting | Stuck
Listener: TypeAlias = Callable[[Event], None]
_READ: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])

_pending: dict[str, float] = {"amount": 0.0, "since": 0.0}


def _write(event: Event) -> None:
    path = os.environ.get(ENVIRONMENT_KEY)
    if not path:
        return
    said = event.model_dump() | {"at": round(time.time(), 3)}
    line = json.dumps(said, ensure_ascii=False, allow_nan=True) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # a full disk is not to end what can go on without
            raise
    finally:
        os.close(handle)


def begin(phase: str, total: float, unit: str, *, done: float = 0) -> None:
    """Start a phase of `total` `unit` ("documents", "steps", "bytes"), `done` of which a resumed stage already has."""
    flush()
    _write(Begun(phase=phase, total=total, unit=unit, done=done))


def advance(amount: float = 1) -> None:
    """Report `amount` more units of the current phase. Cheap: written at most five times a second per process."""
    _pending["amount"] += amount
    if time.monotonic() - _pending["since"] >= FLUSH_SECONDS:
        flush()


def flush() -> None:
    """Write what `advance` has gathered; worker processes call it before they end."""
    amount, _pending["amount"] = _pending["amount"], 0.0
    _pending["since"] = time.monotonic()
    if amount:
        _write(Advanced(amount=amount))


def metrics(values: Mapping[str, float], step: int) -> None:
    """One point of some metric series at `step` (training rank 0 only). Non-finite values are kept out."""
    finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
    if finite:
        _write(Measured(step=step, values=finite))


def note(text: str) -> None:
    """One line that a person watching the run should read."""
    _write(Noted(text=" ".join(text.split())))


def folder() -> Path | None:
    """Where the stage's events and log lie; None where nobody listens.

    What is left there as ``trace-*`` is kept with the artifact's logs, and is no part of its contents.
    """
    path = os.environ.get(ENVIRONMENT_KEY)
    return Path(path).parent if path else None


class EventReader:
    """Reads events as they are appended to a file, from where it last stopped; half a line is left for later."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0

    def new(self) -> Iterator[Event]:
        """The complete events appended since the last call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as handle:
            handle.seek(self.offset)
            for line in handle:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                with contextlib.suppress(ValueError):  # half a line, from a disk that was full; a later version's
                    yield _READ.validate_json(line)
