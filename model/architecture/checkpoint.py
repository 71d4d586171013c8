"""Checkpoints on disk: a folder that `transformers` and other engines open as it is.

``config.json``, ``generation_config.json``, ``model.safetensors`` and the tokenizer's files. Experts are stored one by
one (``mlp.experts.0.gate_proj.weight``), the published DeepSeek layout, and stacked on loading; stacked files are read
too. Layers of multi-token prediction follow the model's own, with copies of embedding and output layer, as published.
The same weights give the same bytes. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from infra.errors import UserError
from infra.json_objects import read_object
from model.architecture.config import Family, ModelConfig
from model.architecture.gguf_checkpoint import read_gguf
from model.architecture.gguf_parts import is_gguf
from model.architecture.hf_config import load_hf_config
from model.architecture.skeleton import model_of, skeleton
from model.architecture.stored_weights import prediction_depths, read_weights
from model.architecture.transformer import Transformer
from model.architecture.weight_files import WEIGHTS
from pipeline.tokens.files import copy_tokenizer

__all__ = [
    "from_hf_names",
    "load_config",
    "load_model",
    "prediction_bytes",
    "save_model",
    "to_hf_names",
    "with_prediction",
]

GENERATION = "generation_config.json"

_COPY = re.compile(r"model\.layers\.\d+\.(embed_tokens|shared_head\.head)\.weight")
_EXPERT = re.compile(r"(.+\.mlp\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight")


def to_hf_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split stacked experts [E, 2F, D] and [E, D, F] into one matrix per expert and projection."""
    split: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.endswith(".experts.gate_up_proj"):
            prefix = name.removesuffix(".gate_up_proj")
            for expert, matrix in enumerate(weight.unbind(0)):
                split[f"{prefix}.{expert}.gate_proj.weight"], split[f"{prefix}.{expert}.up_proj.weight"] = matrix.chunk(
                    2
                )
        elif name.endswith(".experts.down_proj"):
            prefix = name.removesuffix(".down_proj")
            for expert, matrix in enumerate(weight.unbind(0)):
                split[f"{prefix}.{expert}.down_proj.weight"] = matrix
        else:
            split[name] = weight
    return split


def from_hf_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack single experts; the inverse of `to_hf_names`."""
    stacked: dict[str, Tensor] = {}
    experts: dict[str, dict[str, dict[int, Tensor]]] = defaultdict(lambda: defaultdict(dict))
    for name, weight in weights.items():
        if match := _EXPERT.fullmatch(name):
            prefix, expert, projection = match.groups()
            experts[prefix][projection][int(expert)] = weight
        else:
            stacked[name] = weight
    for prefix, projections in experts.items():
        gate, up, down = (
            torch.stack([matrices[expert] for expert in range(len(matrices))])
            for matrices in (projections["gate_proj"], projections["up_proj"], projections["down_proj"])
        )
        stacked[f"{prefix}.gate_up_proj"] = torch.cat((gate, up), dim=1)
        stacked[f"{prefix}.down_proj"] = down
    return stacked


def write_json(path: Path, value: Any) -> None:
    """Write `value` as this project writes all its JSON."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _special_tokens(tokenizer: Path) -> dict[str, int]:
    """Ids of the bos, eos and pad tokens by those names, as the tokenizer's files say."""
    settings = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    added = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    ids = {token["content"]: token["id"] for token in added}
    special = {}
    for role in ("bos", "eos", "pad"):
        token = settings.get(f"{role}_token")
        content = token["content"] if isinstance(token, dict) else token
        if content in ids:
            special[role] = ids[content]
    return special


def save_model(model: Transformer, folder: Path, tokenizer: Path | None) -> None:
    """Write a checkpoint of fp32 weights to `folder`, with the tokenizer's files copied from the folder `tokenizer`."""
    folder.mkdir(parents=True, exist_ok=True)
    special: dict[str, int] = {}
    if tokenizer is not None:
        special = _special_tokens(tokenizer)
        copy_tokenizer(tokenizer, folder)
    write_json(folder / "config.json", model.config.to_hf(**special))
    adopted = None if tokenizer is None else tokenizer / GENERATION
    kept = read_object(adopted) if adopted is not None and adopted.is_file() else {}
    generation = {f"{role}_token_id": token for role, token in special.items()} | kept
    write_json(folder / GENERATION, generation)
    weights = model.state_dict()
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight")
    for number in model.config.prediction_layers:
        weights[f"model.layers.{number}.embed_tokens.weight"] = model.model.embed_tokens.weight
        weights[f"model.layers.{number}.shared_head.head.weight"] = model.lm_head.weight
    # clone: slices of the stacked experts must not drag their whole storage along
    plain = {name: weight.detach().float().cpu().clone() for name, weight in to_hf_names(weights).items()}
    save_file(plain, folder / WEIGHTS, metadata={"format": "pt"})


def load_config(folder: Path) -> ModelConfig:
    """The architecture of a checkpoint, a folder or a GGUF file; UserError when there is none or of another kind."""
    if is_gguf(folder):
        return read_gguf(folder)[0]
    return load_hf_config(folder)


def _is_left_out(name: str, layers: tuple[int, ...]) -> bool:
    """Whether a stored weight belongs to one of `layers`, or is a copy of another."""
    return bool(_COPY.fullmatch(name)) or name.startswith(tuple(f"model.layers.{number}." for number in layers))


def prediction_bytes(folder: Path) -> int:
    """Bytes of ``model.safetensors`` that hold layers of multi-token prediction, and the copies that belong to them."""
    layers = load_config(folder).prediction_layers
    if not layers:
        return 0
    with safe_open(folder / WEIGHTS, "pt") as file:
        left_out = [file.get_tensor(name) for name in file.keys() if _is_left_out(name, layers)]  # noqa: SIM118
    return sum(tensor.numel() * tensor.element_size() for tensor in left_out)


def _read_folder(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    config, weights = load_config(folder), read_weights(folder)
    depths = prediction_depths(weights, config.num_hidden_layers)
    there = depths if config.model_type is Family.DEEPSEEK_V3 else 0
    return config.model_copy(update={"num_nextn_predict_layers": there}), weights


def _tied(config: ModelConfig, weights: dict[str, Tensor]) -> ModelConfig:
    """The config, untied where the files hold an output layer of its own, and tied where they hold none and nothing is
    said; fills in the one that is not there."""
    embedding, output = "model.embed_tokens.weight", "lm_head.weight"
    if "tie_word_embeddings" not in config.model_fields_set and output not in weights:
        config = config.model_copy(update={"tie_word_embeddings": True})
    if not config.tie_word_embeddings:
        return config
    if embedding in weights and output in weights and not torch.equal(weights[embedding], weights[output]):
        return config.model_copy(update={"tie_word_embeddings": False})
    for name, other in ((output, embedding), (embedding, output)):
        if other in weights:
            weights.setdefault(name, weights[other])
    return config


def load_model(folder: Path, *, prediction: bool = False) -> Transformer:
    """The model of a checkpoint (a folder, or a GGUF file), fp32 on the CPU, in eval mode.

    UserError when weights are missing or do not fit.

    Layers of multi-token prediction are left out unless `prediction` asks for them: they serve training and drafts, and
    the model is whole without them (DeepSeek-V3, section 2.2).
    """
    config, weights = read_gguf(folder) if is_gguf(folder) else _read_folder(folder)
    left_out = () if prediction else config.prediction_layers
    if left_out:
        config = config.model_copy(update={"num_nextn_predict_layers": 0})
    weights = {name: weight for name, weight in weights.items() if not _is_left_out(name, left_out)}
    weights = {name: weight.float() for name, weight in from_hf_names(weights).items()}
    config = _tied(config, weights)
    model = skeleton(config)
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError:
        said = _difference(model.state_dict(), weights)
        raise UserError(f"{folder}: the weights are not those of its configuration: {said}; copy it again") from None
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.requires_grad_(True)
    return model.eval()


def _difference(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What is missing, too much or of another shape, the first few of each by name."""
    groups = {
        "missing": [name for name in wanted if name not in found],
        "not known": [name for name in found if name not in wanted],
        "of another shape": [
            name for name, weight in wanted.items() if name in found and found[name].shape != weight.shape
        ],
    }
    few = {kind: names[:2] + [f"{len(names) - 2} more"] * (len(names) > 2) for kind, names in groups.items()}
    return "; ".join(f"{' and '.join(names)} {kind}" for kind, names in few.items() if names)


def with_prediction(model: Transformer, folder: Path) -> Transformer:
    """`model` with the layers of multi-token prediction of the checkpoint `folder`, which it began from; the same where
    it has some already, or that has none.

    What trains a model without them hands them on so: they go on drafting for a model that has moved a little.
    """
    if model.config.num_nextn_predict_layers or not load_config(folder).num_nextn_predict_layers:
        return model
    begun, trained = load_model(folder, prediction=True), model.state_dict()
    depths = begun.config.num_nextn_predict_layers
    weights = {name: trained.get(name, weight) for name, weight in begun.state_dict().items()}
    return model_of(model.config.model_copy(update={"num_nextn_predict_layers": depths}), weights)
