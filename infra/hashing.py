"""Digests: of values (canonical JSON) and of files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["digest", "file_digest", "identity_of", "tree_files"]

IDENTITY_LENGTH = 16
"""Hex digits of an identity: 64 bits, far beyond what a store of artifacts can collide in, and short enough to read."""


def canonical_json(value: Any) -> str:
    """`value` as JSON with one spelling: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def identity_of(stage: str, version: int, config: Any, inputs: dict[str, str]) -> str:
    """What an artifact is: the hash of its stage, the stage's version, its configuration and its inputs by role."""
    return digest({"stage": stage, "version": version, "config": config, "inputs": inputs})[:IDENTITY_LENGTH]


def tree_files(folder: Path, *, skip: Iterable[str] = ()) -> list[Path]:
    """Every file below `folder`, as relative paths in sorted order, without the top-level names in `skip`."""
    skipped = set(skip)
    found = []
    for parent, folders, names in os.walk(folder):
        relative = Path(parent).relative_to(folder)
        if relative == Path():
            folders[:] = [name for name in folders if name not in skipped]
            names = [name for name in names if name not in skipped]
        found += [relative / name for name in names]
    return sorted(found, key=lambda path: path.as_posix())
