"""One worker per artifact: whoever holds the lease makes it, everybody else waits and then shares the result.

On a local disk the kernel keeps the lease (`flock`): it ends with its holder, however that dies. On an object store a
small object written with a conditional put is the lease; its holder renews it, and a lease that nobody renewed for
`LEASE_SECONDS`, as seen by the waiter's own clock, is taken over. Taking over is safe because publishing is itself a
conditional put of the manifest. Any other place that makes a record for one caller alone will do (`Place`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from infra.errors import TransientError
from infra.facts import Facts
from infra.listing import read_object

__all__ = ["Place", "create_object", "file_lease", "object_lease", "shared_lease"]

LEASE_SECONDS = 30.0
RENEW_SECONDS = 8.0
POLL_SECONDS = 0.25


class _Holder(Facts):
    """Who holds a lease, as its record says."""

    pid: int
    host: str
    nonce: str
    beat: int = 0
    """Renewals so far."""

    def body(self) -> bytes:
        return self.model_dump_json(exclude_defaults=True).encode()


@contextlib.contextmanager
def file_lease(path: Path, on_wait: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock file `path`; yields its descriptor, which a child process may inherit to prolong the lease.

    `on_wait` is called once with the holder's description when somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        waiting = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    on_wait(os.pread(descriptor, 200, 0).decode(errors="replace") or "another run")
                    waiting = True
                time.sleep(POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


class Place(Protocol):
    """Where a lease is kept that several hosts share: one small record, made by one of them alone."""

    def create(self, body: bytes) -> bool:
        """Write the record only if there is none; whether it was written."""

    def read(self) -> bytes | None:
        """The record, or None."""

    def write(self, body: bytes) -> None:
        """Overwrite the record."""

    def remove(self) -> None:
        """Take the record away; none may be there."""


@dataclass(frozen=True)
class ObjectPlace:
    """An object of an fsspec object store."""

    filesystem: Any
    path: str

    def create(self, body: bytes) -> bool:
        """See `Place`."""
        return create_object(self.filesystem, self.path, body)

    def read(self) -> bytes | None:
        """See `Place`."""
        return read_object(self.filesystem, self.path)

    def write(self, body: bytes) -> None:
        """See `Place`."""
        self.filesystem.pipe_file(self.path, body)

    def remove(self) -> None:
        """See `Place`."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.rm_file(self.path)


def object_lease(filesystem: Any, path: str, on_wait: Callable[[str], None]) -> contextlib.AbstractContextManager[Any]:
    """Hold the lease object `path` on an fsspec object store: `shared_lease`."""
    return shared_lease(ObjectPlace(filesystem, path), on_wait)


@contextlib.contextmanager
def shared_lease(place: Place, on_wait: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Hold the lease at `place`, renewing it from a thread until the block ends.

    Yields:
        Whether it is still held: a process that was frozen for long may have lost it, and must not finish its work.
    """
    mine = _Holder(pid=os.getpid(), host=socket.gethostname(), nonce=uuid.uuid4().hex)
    body = mine.body()
    seen: bytes | None = None
    unchanged_since = time.monotonic()
    while not place.create(body):
        current = place.read()
        if current == body:
            break  # it was taken, and the answer that said so got lost
        if current != seen:
            if seen is None and current is not None:
                holder = _Holder.model_validate_json(current)
                on_wait(f"process {holder.pid} on {holder.host}")
            seen, unchanged_since = current, time.monotonic()
        elif current is not None and time.monotonic() - unchanged_since > LEASE_SECONDS:
            place.remove()
            continue
        time.sleep(POLL_SECONDS * 4)
    ended = threading.Event()

    def is_mine() -> bool:
        return _nonce(place.read()) == mine.nonce

    def renew() -> None:
        beat = 0
        while not ended.wait(RENEW_SECONDS):
            beat += 1
            # A store that is away for a moment must not kill the work: the next beat tries again.
            with contextlib.suppress(Exception):
                if not is_mine():
                    return  # taken over while this process was frozen: what it publishes now comes second
                place.write(mine.model_copy(update={"beat": beat}).body())

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield is_mine
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(TransientError):  # the lease runs out by itself
            if is_mine():
                place.remove()


def create_object(filesystem: Any, path: str, body: bytes) -> bool:
    """Write `path` only if it does not exist; whether it was written."""
    try:
        filesystem.pipe_file(path, body, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        # s3fs has no exception for it. The object may be gone by now, for whoever held a lease may have let go of it.
        answer = getattr(error.__cause__, "response", {})
        if answer.get("Error", {}).get("Code") in ("PreconditionFailed", "ConditionalRequestConflict"):
            return False
        filesystem.invalidate_cache()
        if filesystem.exists(path):
            return False
        raise
    return True


def _nonce(body: bytes | None) -> str:
    return _Holder.model_validate_json(body).nonce if body else ""
