"""What a session makes once, whoever asks first: pytest-xdist's workers are processes, which share a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

KEY = "DEEPMILL_TEST_SHARED"
"""Where the folder is, for whatever has no fixture at hand."""


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` of this session, filled by `make` for the first who asks. Read it; copy what you change."""
    folder = Path(os.environ[KEY], name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder.with_name(f"{folder.name}.done")
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one who was killed at it
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
