"""A checkpoint from elsewhere, looked at before anything is made for it: no weight is read, and no torch is loaded."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from infra.errors import UserError
from model.architecture.config import Family, ModelConfig
from model.architecture.hf_config import load_hf_config
from model.architecture.weight_files import block_size, instead, stored_shapes

if TYPE_CHECKING:
    from gguf import ReaderTensor

__all__ = ["look_at"]

Shape: TypeAlias = tuple[int, ...]
_EMBEDDING = "model.embed_tokens.weight"
_OUTSIDE = {_EMBEDDING, "model.norm.weight", "lm_head.weight"}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")


def look_at(checkpoint: Path) -> ModelConfig:
    """Its architecture; the model can be read.

    Raises:
        UserError: there is none, one that this project does not compute, or files that are not whole.
    """
    if checkpoint.is_dir():
        if not (checkpoint / "config.json").is_file() and (named := instead(checkpoint)):
            raise UserError(f"{checkpoint}: no config.json; {named}")
        config = load_hf_config(checkpoint)
        block_size(checkpoint / "config.json")
        _fits(checkpoint, config, stored_shapes(checkpoint))
        return config
    if checkpoint.suffix == ".gguf" and checkpoint.is_file():
        from model.architecture.gguf_metadata import describe
        from model.architecture.gguf_parts import open_gguf

        parts = open_gguf(checkpoint)
        config = describe(checkpoint, parts)
        _known(checkpoint, (tensor for part in parts for tensor in part.tensors))
        return config
    raise UserError(f"{checkpoint}: name one local folder of a checkpoint, or one GGUF file")


def _fits(folder: Path, config: ModelConfig, shapes: Mapping[str, Shape]) -> None:
    """Whether the weights are those of such a model, by names and shapes: half of a download, an adapter or another
    model's configuration is found before any is read.

    Raises:
        UserError: they are not.
    """
    layers: dict[int, dict[str, Shape]] = defaultdict(dict)
    for name, shape in shapes.items():
        if match := _LAYER.fullmatch(name):
            layers[int(match[1])][match[2]] = shape
        elif name not in _OUTSIDE:
            raise UserError(
                f"{folder}: {name} is no weight of a {config.model_type} model; save the model with transformers' "
                "save_pretrained, and name that"
            )
    count, there = config.num_hidden_layers, sorted(layers)
    if there[:count] != list(range(count)) or (there[count:] and config.model_type is not Family.DEEPSEEK_V3):
        raise UserError(f"{folder}: config.json says {count} layers, the files have {len(there)}; copy it again")
    wanted = (config.vocab_size, config.hidden_size)
    if (found := shapes.get(_EMBEDDING, wanted)) != wanted:
        raise UserError(f"{folder}: {_EMBEDDING} is {list(found)}, and config.json says {list(wanted)}; copy it again")
    for is_moe in (False, True):
        _alike(folder, {each: layers[each] for each in range(count) if config.is_moe_layer(each) == is_moe})


def _alike(folder: Path, layers: Mapping[int, Mapping[str, Shape]]) -> None:
    """Whether layers of one kind have the same weights."""
    whole = {name: shape for layer in layers.values() for name, shape in layer.items()}
    for (number, layer), (name, shape) in product(layers.items(), whole.items()):
        if layer.get(name) != shape:
            raise UserError(
                f"{folder}: model.layers.{number}.{name} is missing, or unlike that of other layers; copy it again"
            )


def _known(path: Path, tensors: Iterable[ReaderTensor]) -> None:
    """Whether every tensor is one that is read, in blocks that are."""
    from model.architecture.gguf_names import FREQUENCIES, unit_name
    from model.architecture.gguf_parts import worked_out

    seen: set[int] = set()
    for tensor in tensors:
        if tensor.name != FREQUENCIES and unit_name(tensor.name) is None:
            raise UserError(f"{path}: tensor {tensor.name} is of no model that this project computes")
        if tensor.tensor_type not in seen:
            seen.add(tensor.tensor_type)
            worked_out(path, tensor, rows=1)
