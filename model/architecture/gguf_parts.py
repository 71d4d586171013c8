"""Opens GGUF files: one, or all parts of one that was split."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from gguf import GGUFEndian, GGUFReader, ReaderTensor, dequantize

from infra.errors import UserError
from pipeline.sources.signatures import unreadable

__all__ = ["is_gguf", "open_gguf", "worked_out"]

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


def is_gguf(path: Path) -> bool:
    """Whether a checkpoint is one GGUF file."""
    return path.is_file() and path.suffix == ".gguf"


def open_gguf(path: Path) -> list[GGUFReader]:
    """Readers of a file, or of all parts of the split one whose first part is `path`; the first has the metadata.

    Raises:
        UserError: a part cannot be read, is not there, or `path` is not the first; the numbers are big-endian.
    """
    first = _open(path)
    field = first.fields.get("split.count")
    count = 1 if field is None else int(field.contents())
    if count <= 1:
        return [first]
    named = _PART.fullmatch(path.name)
    if named is None or int(named[3]) != count:
        raise UserError(
            f"{path}: one of {count} parts, and not named so; give it back its name (-00001-of-{count:05}.gguf)"
        )
    parts = [path.with_name(f"{named[1]}-{number:05}-of-{named[3]}.gguf") for number in range(1, count + 1)]
    if path != parts[0]:
        raise UserError(f"{path}: not the first of its {count} parts; name {parts[0].name}")
    if missing := [part.name for part in parts if not part.is_file()]:
        raise UserError(f"{path}: its part {missing[0]} is not there; copy all {count} parts beside it")
    return [first, *map(_open, parts[1:])]


def _open(path: Path) -> GGUFReader:
    try:
        reader = GGUFReader(path)
    except Exception as error:  # of whatever kind a damaged file makes it
        if "is not a valid GGMLQuantizationType" in str(error):
            raise UserError(
                f"{path}: blocks of a type not known here ({error}); take Q8_0 or another older one"
            ) from None
        raise unreadable(path, error) from None
    if reader.endianess is not GGUFEndian.LITTLE:
        raise UserError(f"{path}: its numbers are big-endian; convert it for little-endian machines")
    return reader


def worked_out(path: Path, tensor: ReaderTensor, rows: int | None = None) -> np.ndarray:
    """The fp32 numbers of a tensor, or of its first `rows`.

    Raises:
        UserError: its blocks are of a type that only llama.cpp reads.
    """
    try:
        return np.array(dequantize(tensor.data[:rows], tensor.tensor_type), dtype=np.float32)
    except NotImplementedError as error:
        raise UserError(f"{path}: tensor {tensor.name}: {error}; take a file of other blocks, such as Q8_0") from None
