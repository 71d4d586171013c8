"""The text that benches read: the folder ``DEEPMILL_CORPORA``, else ``../shared/corpora``."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["corpora"]


def corpora(*needed: str) -> Path:
    """The folder, with the folders `needed` in it; ends the bench with one line where they are missing."""
    folder = Path(os.environ.get("DEEPMILL_CORPORA", "../shared/corpora"))
    missing = [name for name in needed if not (folder / name).is_dir()]
    if missing:
        what = ", ".join(f"{name}/" for name in missing)
        raise SystemExit(f"{folder}: no {what} there; set DEEPMILL_CORPORA to a folder with {', '.join(needed)}")
    return folder
