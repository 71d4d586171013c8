"""A checkpoint from elsewhere, looked at before anything is made for it: no weight is read, and no torch is loaded."""

from __future__ import annotations

from pathlib import Path

from infra.errors import UserError
from model.architecture.hf_config import load_hf_config
from model.architecture.weight_files import block_size, weight_files

__all__ = ["look_at"]


def look_at(checkpoint: Path) -> None:
    """See that the model can be read.

    Raises:
        UserError: there is none, or one that this project does not compute.
    """
    if checkpoint.is_dir():
        load_hf_config(checkpoint)
        weight_files(checkpoint)
        block_size(checkpoint / "config.json")
    elif checkpoint.suffix == ".gguf" and checkpoint.is_file():
        from model.architecture.gguf_metadata import describe
        from model.architecture.gguf_parts import open_gguf

        describe(checkpoint, open_gguf(checkpoint))
    else:
        raise UserError(f"{checkpoint}: name one local folder of a checkpoint, or one GGUF file")
