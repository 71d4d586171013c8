"""The API keys of the server: given by whoever runs it, or one that is made and kept for its owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from infra.errors import UserError
from infra.private_files import read_private, write_private

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
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"{file}: cannot read the API keys ({reason}); name a file with a key in each line") from None
    if not keys:
        raise UserError(f"{file}: holds no API key; write one a line")
    return keys


def own_key(file: Path) -> str:
    """The key in `file`, which is made (mode 0600) where it is missing, or where others might have read it."""
    try:
        found = (read_private(file) or "").strip()
    except UserError:
        found = ""
    if not found:
        found = secrets.token_urlsafe(32)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_private(file, found + "\n")
    return found
