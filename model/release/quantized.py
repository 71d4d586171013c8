"""A quantized model on disk: ``config.json``, ``model.safetensors``, ``generation_config.json`` and the tokenizer.

Quantized matrices are stored as llama.cpp's blocks (a float16 scale before the codes of 32 weights of a row), uint8
[..., R, bytes of a row], under the names of `model.release.units`; ``config.json`` is the checkpoint's with one key
more, ``deepmill_quantization``, that names the precision of each. Layers of multi-token prediction, which the model is
whole without, are in a file of their own, ``prediction.safetensors``. The same weights give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from gguf import QK_K, GGMLQuantizationType
from gguf import dequantize as gguf_dequantize
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from infra.errors import UserError
from infra.json_objects import JsonObject, read_object
from model.architecture.checkpoint import GENERATION, load_config, write_json
from model.architecture.config import ModelConfig
from model.architecture.grid import GROUP, Grid, dequantize, pack, round_to_nearest, unpack
from model.architecture.skeleton import empty_model
from model.architecture.transformer import Transformer
from model.release.units import Role, role_of, units
from model.sections import Precision
from pipeline.tokens.files import copy_tokenizer

__all__ = [
    "K_QUANTS",
    "PREDICTION",
    "Plan",
    "Unit",
    "load_quantized",
    "make_plan",
    "plain_unit",
    "read_units",
    "rounded_unit",
    "save_quantized",
]

KEY = "deepmill_quantization"
FORMAT, FORMAT_K = 1, 2
"""The second has K-quants among its precisions."""
K_QUANTS = (Precision.Q2_K, Precision.Q3_K, Precision.Q4_K, Precision.Q6_K)
WEIGHTS, PREDICTION = "model.safetensors", "prediction.safetensors"

Plan = dict[str, Precision | None]
"""Precision of each unit; None keeps it in fp32."""


@dataclass(frozen=True)
class Unit:
    """One stored weight: packed blocks with their grid, blocks of another GGUF type, or plain numbers."""

    stored: Tensor
    """uint8 [..., R, bytes] in blocks, else float32 or float16 in the weight's own shape."""
    grid: Grid | None = None
    """Ours: blocks of codes with their scale."""
    kind: GGMLQuantizationType | None = None
    """Blocks that llama.cpp made (`model.release.kquants`)."""

    @classmethod
    def packed(cls, codes: Tensor, scales: Tensor, grid: Grid) -> Unit:
        """From codes [..., R, C] and scales [..., R, G]."""
        blocks = torch.from_numpy(pack(codes.reshape(-1, codes.shape[-1]), scales.reshape(-1, scales.shape[-1]), grid))
        return cls(blocks.view(*codes.shape[:-1], -1), grid)

    @property
    def precision(self) -> str:
        """The GGUF type's name, in small letters."""
        if self.kind is not None:
            return self.kind.name.lower()
        return self.grid.value if self.grid else {torch.float16: "f16", torch.float32: "f32"}[self.stored.dtype]

    def weight(self) -> Tensor:
        """The float32 weights."""
        if self.kind is not None:
            return torch.from_numpy(gguf_dequantize(self.stored.numpy(), self.kind))
        if self.grid is None:
            return self.stored.float()
        codes, scales = unpack(self.stored.flatten(0, -2).numpy(), self.grid)
        return dequantize(codes, scales).view(*self.stored.shape[:-1], -1)


def make_plan(model: Transformer, precisions: Mapping[Role, Precision]) -> Plan:
    """The precision of every unit by its role. Rows that do not divide into groups stay in 16 bits."""
    plan: Plan = {}
    for name, weight in units(model).items():
        precision = precisions.get(role_of(name, weight))
        if precision in K_QUANTS and weight.shape[-1] % QK_K:
            precision = Precision.Q8_0 if precision is Precision.Q6_K else Precision.Q4_0
        plan[name] = Precision.F16 if precision and weight.shape[-1] % GROUP else precision
    return plan


def rounded_unit(weight: Tensor, grid: Grid) -> Unit:
    """Rounded to nearest, without calibration."""
    codes, scales = round_to_nearest(weight.reshape(-1, weight.shape[-1]), grid)
    return Unit.packed(codes.view(weight.shape), scales.view(*weight.shape[:-1], -1), grid)


def plain_unit(weight: Tensor, precision: Precision | None) -> Unit:
    """Not quantized: fp32, or 16 bits."""
    return Unit((weight.half() if precision is Precision.F16 else weight.float()).contiguous().clone())


def save_quantized(
    folder: Path, stored: Mapping[str, Unit], checkpoint: Path, prediction: Mapping[str, Unit] | None = None
) -> None:
    """Write `stored`, and the layers of multi-token `prediction` where the checkpoint has some that are to be kept; all
    else is copied from the folder of the checkpoint that it was made from."""
    folder.mkdir(parents=True, exist_ok=True)
    config = read_object(checkpoint / "config.json")
    form = FORMAT_K if any(unit.kind for unit in stored.values()) else FORMAT
    config[KEY] = {"format": form, "group": GROUP, "tensors": {name: unit.precision for name, unit in stored.items()}}
    if prediction:
        config[KEY]["prediction"] = {name: unit.precision for name, unit in prediction.items()}
        weights = {name: unit.stored for name, unit in prediction.items()}
        save_file(weights, folder / PREDICTION, metadata={"format": "pt"})
    elif "num_nextn_predict_layers" in config:
        config["num_nextn_predict_layers"] = 0
    write_json(folder / "config.json", config)
    copy_tokenizer(checkpoint, folder, GENERATION)
    save_file({name: unit.stored for name, unit in stored.items()}, folder / WEIGHTS, metadata={"format": "pt"})


def read_units(folder: Path, *, prediction: bool = False) -> tuple[ModelConfig, dict[str, Unit]]:
    """The architecture and the stored weights; UserError when the folder holds none of ours, or a damaged one.

    Layers of multi-token prediction are left out unless `prediction` asks for them and there are some.
    """
    config = load_config(folder)
    settings: JsonObject = read_object(folder / "config.json").get(KEY, {})
    if settings.get("format") not in (FORMAT, FORMAT_K):
        raise UserError(
            f"{folder / 'config.json'}: no {KEY} of format {FORMAT} or {FORMAT_K}; no model of the quantize stage "
            "is here"
        )
    stored = _read(folder / WEIGHTS, settings["tensors"])
    if prediction and "prediction" in settings:
        return config, stored | _read(folder / PREDICTION, settings["prediction"])
    return config.model_copy(update={"num_nextn_predict_layers": 0}), stored


def _read(path: Path, precisions: Mapping[str, str]) -> dict[str, Unit]:
    """The units of a file; UserError when it is damaged."""
    grids = {grid.value: grid for grid in Grid}
    kinds = {kind.value: GGMLQuantizationType[kind.name] for kind in K_QUANTS}
    try:
        tensors = load_file(path)
        return {name: Unit(tensors[name], grids.get(each), kinds.get(each)) for name, each in precisions.items()}
    except (SafetensorError, FileNotFoundError, KeyError) as error:
        raise UserError(f"{path}: not readable ({error}); make the quantize artifact again") from None


def load_quantized(folder: Path, *, prediction: bool = False) -> Transformer:
    """The model with its weights worked out in fp32, in eval mode: the very numbers that the blocks stand for.

    Layers of multi-token prediction come along where `prediction` asks for them and there are some.
    """
    config, stored = read_units(folder, prediction=prediction)
    model = empty_model(config)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    fill(model, stored, folder)
    return model.eval()


@torch.no_grad()
def fill(model: Transformer, stored: Mapping[str, Unit], folder: Path | str = "weights") -> None:
    """Write the stored weights into `model`; UserError when they are not exactly the ones it has."""
    wanted = units(model)
    if stored.keys() != wanted.keys():
        odd = sorted(stored.keys() ^ wanted.keys())[0]
        raise UserError(f"{folder}: the weights do not fit config.json: {odd}; make the quantize artifact again")
    for name, view in wanted.items():
        view.copy_(stored[name].weight())
