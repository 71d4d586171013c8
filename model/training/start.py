"""The stage `start`: a checkpoint from elsewhere becomes the model that the recipe begins with.

It is read, given rows for the tokens of the chat format that its tokenizer lacks, and kept as an artifact: to all that
follows it is like one that was pretrained here, and what is gained and forgotten is measured from it.

Artifact: ``model/`` (a Hugging Face checkpoint with the tokenizer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infra import events
from infra.errors import UserError
from infra.json_objects import read_object
from model.facts.training import StartMetrics
from model.finetune_sections import StartConfig

if TYPE_CHECKING:
    from model.architecture.transformer import Transformer

__all__ = ["check_finite", "checkpoint_folder", "start"]


def start(config: StartConfig, inputs: Mapping[str, Path], out_dir: Path) -> StartMetrics:
    """Read the checkpoint.

    Raises:
        UserError: there is none, it is of a family that is not known, or its vocabulary is not the tokenizer's.
    """
    from model.architecture.checkpoint import load_model, save_model
    from model.architecture.config import count_parameters
    from model.architecture.vocabulary import fit_vocabulary

    folder, tokenizer = checkpoint_folder(config.checkpoint, "start.checkpoint"), inputs["tokenizer"]
    model = load_model(folder, prediction=True)
    check_finite(model, folder)
    _tell(model, folder, tokenizer)
    fitted = fit_vocabulary(model, folder, tokenizer)
    save_model(fitted, out_dir / "model", tokenizer)
    return StartMetrics(
        parameters=count_parameters(fitted.config),
        tokens_added=fitted.config.vocab_size - model.config.vocab_size,
    )


def check_finite(model: Transformer, folder: Path) -> None:
    """UserError where a weight from elsewhere is no number, which training would only tell as its loss."""
    for name, weight in model.state_dict().items():
        if not bool(weight.isfinite().all()):
            raise UserError(f"{folder}: {name} holds numbers that are not finite; copy it again")


def _tell(model: Transformer, folder: Path, tokenizer: Path) -> None:
    """What will be otherwise than its makers had it: now, and not when the model is exported."""
    from model.architecture.gguf_limits import unsupported
    from model.architecture.transformers_limits import read_otherwise

    context = model.config.max_position_embeddings
    stated = read_object(folder / "config.json").get("max_position_embeddings") if folder.is_dir() else None
    if isinstance(stated, int) and stated > context:
        events.note(f"{folder}: its sliding window bounds the context to {context} tokens, of {stated}")
    if reason := unsupported(model.config, tokenizer):
        events.note(f"no GGUF files of this model will be exported: {reason}")
    for what, why in read_otherwise(model.config, tokenizer).items():
        events.note(f"do not load its export with {what}: {why}")


def checkpoint_folder(named: Sequence[str], key: str) -> Path:
    """The folder or GGUF file that a key names; UserError where it does not name one."""
    from model.architecture.gguf_parts import is_gguf

    if len(named) != 1 or not (Path(named[0]).is_dir() or is_gguf(Path(named[0]))):
        raise UserError(f"{key}: {', '.join(named)}: name one local folder of a checkpoint, or one GGUF file")
    return Path(named[0])
