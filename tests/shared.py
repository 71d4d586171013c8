"""What a session makes once, whoever asks first: pytest-xdist's workers are processes, which share a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

KEY = "DEEPMILL_TEST_SHARED"
"""Where the folder is, for whatever has no fixture at hand."""


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` of this session, filled by `make` for the first who asks. Read it; copy what you change.

    Raises:
        AssertionError: it could not be made for somebody before; trying again would take as long.
    """
    folder = Path(os.environ[KEY], name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    done, failed = (folder.with_name(f"{folder.name}.{how}") for how in ("done", "failed"))
    with FileLock(f"{folder}.lock"):
        assert not failed.exists(), f"{name} could not be made: {failed.read_text()}"
        if not done.exists():
            folder.mkdir()
            try:
                make(folder)
            except BaseException as error:
                failed.write_text(f"{type(error).__name__}: {error}")
                raise
            done.touch()
    return folder
