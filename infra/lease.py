"""One worker per artifact: whoever holds the lease makes it, everybody else waits and then shares the result.

On a local disk the kernel keeps the lease (`flock`): it ends with its holder, however that dies. On an object store a
small object written with a conditional put is the lease; its holder renews it, and a lease that nobody renewed for
`LEASE_SECONDS`, as seen by the waiter's own clock, is taken over. Taking over is safe because publishing is itself a
conditional put of the manifest.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infra.errors import TransientError

__all__ = ["LEASE_SECONDS", "create_object", "file_lease", "object_lease"]

LEASE_SECONDS = 30.0
RENEW_SECONDS = 8.0
POLL_SECONDS = 0.25


def _holder() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "nonce": uuid.uuid4().hex}


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


@contextlib.contextmanager
def object_lease(filesystem: Any, path: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lease object `path` on an fsspec object store, renewing it from a thread until the block ends."""
    mine = _holder()
    body = json.dumps(mine).encode()
    seen: bytes | None = None
    unchanged_since = time.monotonic()
    while not create_object(filesystem, path, body):
        current = _read(filesystem, path)
        if current == body:
            break  # it was taken, and the answer that said so got lost
        if current != seen:
            if seen is None and current is not None:
                holder = json.loads(current)
                on_wait(f"process {holder['pid']} on {holder['host']}")
            seen, unchanged_since = current, time.monotonic()
        elif current is not None and time.monotonic() - unchanged_since > LEASE_SECONDS:
            with contextlib.suppress(FileNotFoundError):
                filesystem.rm_file(path)
            continue
        time.sleep(POLL_SECONDS * 4)
    ended = threading.Event()

    def renew() -> None:
        beat = 0
        while not ended.wait(RENEW_SECONDS):
            beat += 1
            # A store that is away for a moment must not kill the work: the next beat tries again.
            with contextlib.suppress(Exception):
                if _nonce(_read(filesystem, path)) != mine["nonce"]:
                    return  # taken over while this process was frozen: what it publishes now comes second
                filesystem.pipe_file(path, json.dumps({**mine, "beat": beat}).encode())

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(TransientError):  # the lease runs out by itself
            if _nonce(_read(filesystem, path)) == mine["nonce"]:
                filesystem.rm_file(path)


def create_object(filesystem: Any, path: str, body: bytes) -> bool:
    """Write `path` only if it does not exist; whether it was written."""
    try:
        filesystem.pipe_file(path, body, mode="create")
    except FileExistsError:
        return False
    except OSError:
        # s3fs has no name for the answer 412 (precondition failed): an object that is there explains it
        filesystem.invalidate_cache()
        if filesystem.exists(path):
            return False
        raise
    return True


def _nonce(body: bytes | None) -> str:
    return str(json.loads(body)["nonce"]) if body else ""


def _read(filesystem: Any, path: str) -> bytes | None:
    filesystem.invalidate_cache()
    try:
        return bytes(filesystem.cat_file(path))
    except FileNotFoundError:
        return None
