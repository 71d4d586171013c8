"""What a training comes from, as one digest: snapshots of another configuration, start or data are not resumed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from infra.hashing import file_digest
from infra.section import Section

__all__ = ["lineage", "weight_files"]


def lineage(config: Section, *parts: str | Path) -> str:
    """Digest of a section and of all else that determines the result: texts as they are, files by their contents."""
    contents = [part if isinstance(part, str) else file_digest(part) for part in parts]
    return hashlib.sha256("\n".join((config.model_dump_json(), *contents)).encode()).hexdigest()


def weight_files(checkpoint: Path) -> list[Path]:
    """The files that hold a checkpoint's weights, in order."""
    return [checkpoint] if checkpoint.is_file() else sorted(checkpoint.glob("*.safetensors"))
