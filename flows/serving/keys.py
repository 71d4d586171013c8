"""The API keys of the server: given by whoever runs it, or one that is made and kept for its owner alone."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from infra.errors import UserError

__all__ = ["KEYS", "given_keys", "own_key"]

KEYS = "DEEPMILL_API_KEYS"


def given_keys(file: Path | None) -> list[str]:
    """The keys of the file, or of the environment; none where neither is given.

    Raises:
        UserError: the file cannot be read, or holds none.
    """
    if file is None:
        return [key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip()]
    try:
        keys = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot read the API keys ({error})") from None
    if not keys:
        raise UserError(f"{file}: holds no API key; write one a line")
    return keys


def own_key(file: Path) -> str:
    """The key in `file`, which is made (mode 0600) where it is missing, or where others might have read it."""
    found = _read(file)
    if found:
        return found
    file.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_urlsafe(32)
    growing = file.with_name(f".{file.name}.{os.getpid()}")
    growing.unlink(missing_ok=True)
    with os.fdopen(os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as handle:
        handle.write(key + "\n")
    growing.replace(file)
    return key


def _read(file: Path) -> str:
    """What an earlier run left there; empty unless it is our own file, which nobody else may read."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return ""
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as handle:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_mode & 0o077 or state.st_uid != os.geteuid():
            return ""
        return handle.read().strip()
