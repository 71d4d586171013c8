"""A served version as a GGUF file, for whatever llama.cpp computes it: the server's engine, or a visitor's browser."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import UserError
from infra.hashing import digest
from infra.integrity import folder_digests, known_digest

if TYPE_CHECKING:
    from model.architecture.config import ModelConfig
    from model.release.gguf import Stored
    from model.release.quantized import Unit

__all__ = ["draft_file", "gguf_file"]

log = logging.getLogger("deepmill.serve")


def gguf_file(folder: Path, label: str, cache: Path) -> Path:
    """The version in `folder`, block by block; made once below `cache`, and compared each time it is asked for.

    Its weights are compared with the version's, and all of it (tokenizer and template too) with what was written then.

    Args:
        folder: of the model, as the export writes it.
        label: what the version is called, inside the file too.
        cache: a folder to keep it in.

    Raises:
        ValueError: llama.cpp cannot compute it (`model.release.gguf.unsupported`).
    """
    from model.release.quantized import read_units

    config, stored = read_units(folder)
    return _made(folder, label, cache, f"model-{_kind(stored)}.gguf", config, stored)


def draft_file(folder: Path, label: str, cache: Path) -> Path:
    """Likewise its layer of multi-token prediction, which guesses tokens for llama.cpp."""
    from model.release.gguf import DRAFTER, draft_units
    from model.release.quantized import read_units

    config, stored = read_units(folder, prediction=True)
    return _made(folder, label, cache, DRAFTER.format(_kind(stored)), config, draft_units(config, stored))


def _kind(stored: Mapping[str, Unit]) -> str:
    precisions = {unit.precision for unit in stored.values()}
    if precisions & {"q2_k", "q3_k", "q4_0", "q4_k", "q6_k"}:
        return "q4_0"
    return "q8_0" if "q8_0" in precisions else "f32"


def _made(folder: Path, label: str, cache: Path, name: str, config: ModelConfig, stored: Mapping[str, Stored]) -> Path:
    from model.release.gguf import check_gguf, write_gguf

    path = cache / label.replace("/", "-") / "engine" / name
    record = path.with_suffix(".sha256")
    if path.exists():
        try:
            if not record.exists() or record.read_text() != _derived(folder, path):
                raise UserError("it is not what was made of this version")
            check_gguf(path, config, stored)
            return path
        except Exception as error:
            log.warning("%s: made again (%s)", path, error)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    growing = path.with_name(f"{os.getpid()}-{path.name}")
    try:
        write_gguf(growing, config, stored, folder, name=label)
        check_gguf(growing, config, stored)
        growing.replace(path)
        record.write_text(_derived(folder, path))
    finally:
        growing.unlink(missing_ok=True)
    return path


def _derived(folder: Path, path: Path) -> str:
    """One digest over a file and all that it was made of."""
    return digest({"file": known_digest(path), "from": folder_digests(folder)})
