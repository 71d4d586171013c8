"""Commands that end what a stage has started elsewhere: jobs of a cluster, which no signal from here can reach.

A stage registers a command before it starts such work and takes it back when the work is done. Should the stage go in
any other way, kill -9 included, its supervisor runs the command; should the supervisor go as well, the next attempt's
runs it before anything else. So a command must be safe to repeat, and name its work by something known beforehand.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from infra.durable import write_whole

__all__ = ["ENVIRONMENT_KEY", "cleanup_hook", "run_cleanup_hooks"]

ENVIRONMENT_KEY = "DEEPMILL_CLEANUP_HOOKS"
"""Folder of the commands that are registered, a file each."""
SECONDS = 20.0
"""How long one command may take."""


@contextlib.contextmanager
def cleanup_hook(command: Sequence[str]) -> Iterator[None]:
    """Have `command` run if the block is left by an exception, or never left because the process is killed."""
    folder = os.environ.get(ENVIRONMENT_KEY)
    path = Path(folder, f"{uuid.uuid4().hex}.json") if folder else None
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(list(command)).encode())
    try:
        yield
    except BaseException:
        _run(command)
        raise
    finally:
        if path:
            path.unlink(missing_ok=True)


def run_cleanup_hooks() -> None:
    """Run every command that is still registered; one that fails is told and forgotten."""
    folder = os.environ.get(ENVIRONMENT_KEY)
    for path in sorted(Path(folder).glob("*.json")) if folder else ():
        _run(json.loads(path.read_text()))
        path.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"could not end what was started elsewhere: {error}", file=sys.stderr, flush=True)
