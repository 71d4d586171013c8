"""A served version as a GGUF file, for whatever llama.cpp computes it: the server's engine, or a visitor's browser."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from infra.errors import UserError
from infra.hashing import digest
from infra.integrity import folder_digests, known_digest

__all__ = ["gguf_file"]

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
    from model.release.gguf import check_gguf, write_gguf
    from model.release.quantized import read_units

    config, stored = read_units(folder)
    precisions = {unit.precision for unit in stored.values()}
    kind = (
        "q4_0" if precisions & {"q2_k", "q3_k", "q4_0", "q4_k", "q6_k"} else "q8_0" if "q8_0" in precisions else "f32"
    )
    path = cache / label.replace("/", "-") / "engine" / f"model-{kind}.gguf"
    record = path.with_suffix(".sha256")
    if path.exists():
        try:
            if not record.exists() or record.read_text() != _derived(folder, path):
                raise UserError("it is not what was made of this version")
            check_gguf(path, config, stored)
            return path
        except Exception as error:
            log.warning("%s: made again (%s)", path, error)
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    growing = path.with_name(f"{os.getpid()}-{kind}.gguf")
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
