"""Which files of a checkpoint's folder hold its weights, and how."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from infra.errors import UserError
from infra.json_objects import read_object
from pipeline.sources.signatures import unreadable

__all__ = ["WEIGHTS", "block_size", "instead", "our_names", "stored_shapes", "weight_files"]

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
COMPUTED = re.compile(r"(.*\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)")
"""What older files keep although it follows from the configuration."""
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
    others = (file for file in sorted(folder.glob("*.safetensors")) if file.is_file())
    if files := [file for file in others if not file.name.startswith("adapter_")]:
        return files
    raise UserError(f"{folder}: no safetensors weights; {instead(folder) or 'copy the folder again'}")


def instead(folder: Path) -> str | None:
    """What to name or to do where a folder holds no safetensors, by what it has; None where nothing is known."""
    if broken := [file.name for file in sorted(folder.iterdir()) if file.is_symlink() and not file.exists()]:
        return f"its {broken[0]} is a link to a file that is not there: fetch it again"
    if named := sorted(folder.glob("*.gguf")):
        return f"name its GGUF file itself ({named[0].name})" + f", one of {len(named)}" * (len(named) > 1)
    if kept := sorted(folder.glob("snapshots/*/config.json")):
        return f"it is of Hugging Face's cache: name {kept[-1].parent}"
    if (folder / "adapter_config.json").is_file():
        return "it holds an adapter alone: merge it into its model (peft's merge_and_unload), and name that"
    if (folder / "params.json").is_file() or list(folder.glob("consolidated*")):
        return "it is in the layout of its makers: take the folder that transformers reads"
    if [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]:
        return "its weights are pickled, which is never read: save it with transformers' save_pretrained, and name that"
    return None


def our_names(stored: Collection[str]) -> dict[str, str]:
    """Our name of every stored weight; a model that was saved without its output layer has no prefix."""
    bare = "embed_tokens.weight" in stored
    return {
        name: f"model.{name}" if bare and not name.startswith("lm_head.") else name
        for name in stored
        if not COMPUTED.fullmatch(name)
    }


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every stored weight by our name: the files' headers are read, and their lengths compared with them.

    Raises:
        UserError: as of `weight_files`; or a file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, "np") as file:
                found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise unreadable(path, error) from None
    return {name: found[stored] for stored, name in our_names(found).items()}


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
