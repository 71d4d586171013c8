"""Low-rank adapters (LoRA, arXiv 2106.09685): the weights stay, and what is learned is ``s B A`` beside them.

``s = alpha / rank``; A is drawn, B begins at zero, so the adapted model begins as the model that it adapts. The
modules that compute with them are in `model.training.adapted`. Here a model gets them, and loses them again: they are
read and written in peft's format (``adapter_config.json``, ``adapter_model.safetensors``), and merged into the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infra import events
from infra.errors import UserError
from infra.facts import Facts
from model.architecture.checkpoint import write_json
from model.architecture.devices import own_rank
from model.architecture.moe import FeedForward, RoutedExperts
from model.architecture.transformer import Transformer
from model.finetune_sections import LoraConfig, LoraTarget
from model.sections import OptimizerConfig
from model.training.adapted import EXPERT_WEIGHTS, AdaptedExperts, AdaptedLinear

__all__ = ["Adapters", "adapt", "adapter_files", "is_adapted", "without_moving_bias"]

Config = TypeVar("Config", bound=OptimizerConfig)

ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."


class PeftConfig(Facts):
    """What ``adapter_config.json`` says that concerns us, by peft's names."""

    peft_type: str
    r: int
    lora_alpha: float
    use_dora: bool = False
    use_rslora: bool = False
    bias: str = "none"
    rank_pattern: dict[str, int] = Field(default_factory=dict)
    alpha_pattern: dict[str, float] = Field(default_factory=dict)


class Adapters:
    """The adapted modules of a model, whose other weights are frozen."""

    def __init__(self, model: Transformer, config: LoraConfig) -> None:
        self.model, self.config = model, config
        self._total = sum(parameter.numel() for parameter in model.parameters())
        self._trained = 0

    def modules(self) -> Iterator[tuple[str, AdaptedLinear | AdaptedExperts]]:
        """The adapted modules, in order."""
        for name, module in self.model.named_modules():
            if isinstance(module, (AdaptedLinear, AdaptedExperts)):
                yield name, module

    def count(self) -> None:
        """Note how much is trained, while it is apart from the weights."""
        self._trained = sum(value.numel() for value in self.model.parameters() if value.requires_grad)
        if own_rank():
            return
        events.note(
            f"training {self._trained:,} parameters of adapters, {self._trained / self._total:.1%} of the model's"
        )

    def shares(self) -> dict[str, float]:
        """What is trained, for the stage's metrics."""
        return {
            "trained_parameters": self._trained,
            "trained_parameters_share": round(self._trained / self._total, 4),
        }

    def factors(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    @contextmanager
    def holding(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Let the model compute with other factors, of these names; for passes without gradients."""
        own = {name: factor.data for name, factor in self.factors().items()}
        try:
            self._hold(values)
            yield
        finally:
            self._hold(own)

    def _hold(self, values: Mapping[str, Tensor]) -> None:
        for name, factor in self.factors().items():
            factor.data = values[name]

    @torch.no_grad()
    def merge(self) -> None:
        """Add what was learned to the weights, and make the model a plain one again. Held weights are what their codes
        say: the model that was trained and measured."""
        for _, module in list(self.modules()):
            module.merge()
        self.model.requires_grad_(True)

    def write(self, folder: Path) -> None:
        """In peft's format, for ``PeftModel.from_pretrained`` over the checkpoint that the training began with."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            key: value.detach().float().cpu().contiguous().clone()
            for name, module in self.modules()
            for key, value in module.peft(f"{PREFIX}{name}").items()
        }
        save_file(tensors, folder / ADAPTER, metadata={"format": "pt"})
        settings = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": None,
            "inference_mode": True,
            "r": self.config.rank,
            "lora_alpha": self.config.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            **self._targets(),
        }
        write_json(folder / CONFIG, settings)

    def _targets(self) -> dict[str, list[str] | None]:
        """What is adapted, as peft wants to be told: in a model with experts it takes a module named ``gate_proj`` for
        an expert of an older layout, so those of feed-forward layers are named as parameters there."""
        modules, parameters = set[str](), set[str]()
        has_experts = bool(self.model.config.moe_layers)
        for name, module in self.modules():
            owner, _, leaf = name.rpartition(".")
            if isinstance(module, AdaptedExperts):
                parameters.update(f"mlp.experts.{weight}" for weight in EXPERT_WEIGHTS)
            elif has_experts and ".self_attn." not in name:
                parameters.add(f"{owner.rpartition('.')[2]}.{leaf}.weight")
            else:
                modules.add(leaf)
        # gate_up_proj first: peft wraps the second around it
        order = sorted(parameters, key=lambda name: (not name.endswith(EXPERT_WEIGHTS[0]), name))
        return {"target_modules": sorted(modules) or None, "target_parameters": order or None}

    @torch.no_grad()
    def read(self, folder: Path) -> None:
        """Go on from an adapter of peft's or ours.

        Raises:
            UserError: it is none, of another kind, or does not fit the model and the section.
        """
        _check(folder, self.config)
        try:
            found = load_file(folder / ADAPTER)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder / ADAPTER}: not a readable adapter ({error})") from None
        for name, module in self.modules():
            for key, value in module.peft(f"{PREFIX}{name}").items():
                there = found.pop(key, None)
                if there is None or there.shape != value.shape:
                    said = "absent" if there is None else list(there.shape)
                    raise UserError(
                        f"{folder}: {key} is {said}, the model wants {list(value.shape)}; set rank and targets as they "
                        "were when it was trained"
                    )
                value.copy_(there)
        if found:
            raise UserError(f"{folder}: nothing here takes {min(found)}; set lora.targets to what it was trained on")


def _check(folder: Path, config: LoraConfig) -> None:
    try:
        said = PeftConfig.model_validate_json((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / CONFIG}: not an adapter's configuration ({error})") from None
    if said.peft_type != "LORA" or said.use_dora or said.bias != "none" or said.rank_pattern or said.alpha_pattern:
        raise UserError(f"{folder}: plain LoRA of one rank, without DoRA and bias, is what can be gone on from")
    scale = said.lora_alpha / (math.sqrt(said.r) if said.use_rslora else said.r)
    if said.r != config.rank or not math.isclose(scale, config.alpha / config.rank):
        alpha = f"{scale * said.r:g}"
        raise UserError(f"{folder}: its rank is {said.r} and its alpha {alpha}; set lora.rank and lora.alpha so")


def adapt(model: Transformer, config: LoraConfig, seed: int) -> Adapters:
    """Freeze `model` and give adapters to what `config` targets, the same for the same seed.

    Raises:
        UserError: nothing to adapt, an adapter to start from that does not fit.
    """
    model.requires_grad_(False)
    adapters = Adapters(model, config)
    generator = torch.Generator().manual_seed(seed)
    for _, module in list(_targets(model, config)):
        if isinstance(module, RoutedExperts):
            AdaptedExperts.take(module, config, generator)
        elif isinstance(module, nn.Linear):
            AdaptedLinear.take(module, config, generator)
    if not any(True for _ in adapters.modules()):
        raise UserError(f"lora.targets: the model has no {' or '.join(config.targets)} to adapt")
    if config.adapter:
        adapters.read(Path(config.adapter[0]))
    adapters.count()
    return adapters


def adapter_files(config: LoraConfig | None) -> list[Path]:
    """The files that training goes on from, which its identity depends on."""
    folders = () if config is None else config.adapter
    return [Path(folder) / name for folder in folders for name in (CONFIG, ADAPTER)]


def is_adapted(model: nn.Module) -> bool:
    """Whether `model` has adapters."""
    return any(isinstance(module, (AdaptedLinear, AdaptedExperts)) for module in model.modules())


def without_moving_bias(config: Config) -> Config:
    """`config` that moves nothing but adapters: a selection bias has no gradient, and is none of an adapter's."""
    return config.model_copy(update={"bias_update_speed": 0.0})


def _targets(model: Transformer, config: LoraConfig) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if isinstance(module, RoutedExperts):
            kind = LoraTarget.EXPERTS
        elif not isinstance(module, nn.Linear) or ".layers." not in name:
            continue
        elif ".self_attn." in name:
            kind = LoraTarget.ATTENTION
        elif isinstance(model.get_submodule(name.rpartition(".")[0]), FeedForward):
            kind = LoraTarget.FEED_FORWARD
        else:
            continue
        if kind in config.targets:
            yield name, module
