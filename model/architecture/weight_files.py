"""Which files of a checkpoint's folder hold its weights, and how."""

from __future__ import annotations

from pathlib import Path

from infra.errors import UserError
from infra.json_objects import read_object

__all__ = ["WEIGHTS", "block_size", "weight_files"]

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
BLOCK = (128, 128)


def weight_files(folder: Path) -> list[Path]:
    """As `transformers` chooses: one file, else those that the index names; others may be of another layout.

    Raises:
        UserError: there are none, or one of them is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if index.is_file():
        named = read_object(index).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
            raise UserError(f"{index}: has no weight_map; copy it again")
        files = [folder / Path(name).name for name in sorted(set(named.values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise UserError(f"{index}: names {missing[0]}, which is not there; copy the folder again")
        return files
    if files := sorted(folder.glob("*.safetensors")):
        return files
    raise UserError(f"{folder}: no safetensors weights; other formats are not read, convert the checkpoint first")


def block_size(config: Path) -> tuple[int, int]:
    """Rows and columns that share a scale, where weights are in blocks of 8 bits.

    Raises:
        UserError: ``config.json`` says that they were quantized in another way.
    """
    stated = read_object(config).get("quantization_config") if config.is_file() else None
    if stated is None:
        return BLOCK
    method = stated.get("quant_method") if isinstance(stated, dict) else stated
    if method != "fp8":
        raise UserError(f"{config}: its weights are quantized ({method}); take the checkpoint they were made from")
    rows, columns = stated.get("weight_block_size") or BLOCK
    return int(rows), int(columns)
