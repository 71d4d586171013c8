"""What the training loop needs of an engine, and the engine that needs nothing but torch.

An engine owns model, optimizer and ranks: it does the passes and the steps, adds numbers up over the ranks, and
saves and restores its state. `SingleEngine` is one process; `model.training.deepspeed_engine` is several.
Losses are given as the share of the global batch's loss that this rank's micro-batch holds, so the sum over ranks and
micro-batches is the loss of the step whatever the layout.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infra.execution import Engine as EngineChoice
from infra.execution import execution
from model.sections import OptimizerConfig, TrainingConfig
from model.training.balance import GateWatch
from model.transformer import Transformer

__all__ = ["Engine", "SingleEngine", "make_engine", "own_weights", "set_weights"]


class Engine(Protocol):
    """Model, optimizer and ranks behind one face."""

    rank: int
    world: int
    layout: dict[str, int]
    """Ranks and expert-parallel width: a checkpoint resumes in the same layout only."""
    watch: GateWatch
    device: torch.device

    def forward(self, tokens_BT: Tensor, documents_BT: Tensor | None, *, further: bool = False) -> tuple[Tensor, ...]:
        """Logits [B, T, V]; with `further`, those of each depth of multi-token prediction after them."""

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's share of the step's loss; `last` marks its last micro-batch."""

    def step(self, learning_rate: float) -> float:
        """Clip, update the weights, clear the gradients; returns the norm of the gradient before clipping."""

    def discard(self) -> None:
        """Throw the gradients of an unfinished step away."""

    def total(self, values: Tensor) -> Tensor:
        """Sum over the ranks."""

    def save(self, folder: Path) -> None:
        """Write this rank's state into `folder`; returns when every rank has."""

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote."""

    def full_model(self) -> Transformer | None:
        """The whole model on rank 0, None elsewhere. Every rank must call it."""


def make_engine(model: Transformer, config: TrainingConfig) -> Engine:
    """The engine that the execution asks for; distributed ranks and `engine: deepspeed` take DeepSpeed."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    choice = execution().engine
    if world > 1 or choice is EngineChoice.DEEPSPEED:
        from model.training.deepspeed_engine import DeepSpeedEngine

        return DeepSpeedEngine(model, config)
    return SingleEngine(model, config)


def peak_memory_bytes() -> int:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def threads_for(ranks: int) -> int:
    """torch threads of one of `ranks` processes on this machine: the cores this process may use, shared out."""
    return max(1, len(os.sched_getaffinity(0)) // ranks)


def own_weights(model: Transformer) -> dict[str, Tensor]:
    """The state dict without a tied output layer, which safetensors would refuse."""
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return {name: value for name, value in model.state_dict().items() if name not in tied}


def set_weights(model: Transformer, weights: dict[str, Tensor]) -> None:
    """Copy what `own_weights` gave into `model`."""
    if model.config.tie_word_embeddings:
        weights = weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}
    model.load_state_dict(weights)


class SingleEngine:
    """One process, torch's own AdamW; fp32 on a CPU, bf16 autocast where a GPU has it."""

    def __init__(self, model: Transformer, config: OptimizerConfig) -> None:
        self.rank, self.world = 0, 1
        self.layout = {"ranks": 1, "expert_parallel": 1}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device).train()
        self._clip_norm = config.clip_norm
        betas = (config.beta1, config.beta2)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), config.learning_rate, betas, weight_decay=config.weight_decay, fused=True
        )
        self.watch = GateWatch(model, model.config, config, lambda values: values)

    def forward(self, tokens_BT: Tensor, documents_BT: Tensor | None, *, further: bool = False) -> tuple[Tensor, ...]:
        """Logits [B, T, V]; with `further`, those of each depth of multi-token prediction after them."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(tokens_BT, documents_BT=documents_BT, further=further)
        return logits if further else (logits,)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's share of the step's loss."""
        loss.backward()

    def step(self, learning_rate: float) -> float:
        """Clip, update the weights, clear the gradients; returns the norm of the gradient before clipping."""
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def discard(self) -> None:
        """Throw the gradients of an unfinished step away."""
        self.optimizer.zero_grad(set_to_none=True)

    def total(self, values: Tensor) -> Tensor:
        """Sum over the ranks: itself."""
        return values

    def save(self, folder: Path) -> None:
        """Write weights and moments."""
        save_file(own_weights(self.model), folder / "weights-0.safetensors")
        moments = {
            f"{key}/{name}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }
        save_file(moments, folder / "optimizer-0.safetensors")

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote."""
        set_weights(self.model, load_file(folder / "weights-0.safetensors"))
        parameters = dict(self.model.named_parameters())
        for name, value in load_file(folder / "optimizer-0.safetensors").items():
            key, parameter = name.split("/", 1)
            self.optimizer.state[parameters[parameter]][key] = value.to(
                "cpu" if key == "step" and self.device.type == "cpu" else self.device
            )

    def full_model(self) -> Transformer | None:
        """The whole model on rank 0."""
        return self.model.cpu().eval()
