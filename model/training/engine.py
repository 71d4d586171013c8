"""What the training loop needs of an engine, and the engine that needs nothing but torch.

An engine owns model, optimizer and ranks: it does the passes and the steps, adds numbers up over the ranks, and tells
and takes its state in pieces that know no layout (`model.training.universal`). `SingleEngine` is one process;
`model.training.deepspeed_engine` is several, and `ReplicatedEngine` several that train adapters. Losses are given as
the share of the global batch's loss that this rank's micro-batch holds, so the sum over ranks and micro-batches is the
loss of the step whatever the layout.
"""

from __future__ import annotations

import datetime
import math
import os
import resource
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from infra import events
from infra.execution import Engine as EngineChoice
from infra.execution import execution
from model.architecture.devices import own_device, own_rank, world_size
from model.architecture.transformer import Transformer
from model.facts.training import LayoutFacts
from model.sections import OptimizerConfig, TrainingConfig
from model.training.balance import GateWatch
from model.training.batches import TrainingBatch
from model.training.lora import is_adapted
from model.training.optimizer import CLIP_MARGIN, make_optimizer, moments, set_learning_rate
from model.training.prepare import autocast, keep_memory, prepare
from model.training.text_loss import token_losses
from model.training.universal import BUFFER, MASTER, MOMENTS, CheckpointReader, Fragment, kept_buffers, shapes_of

__all__ = [
    "Engine",
    "ReplicatedEngine",
    "SingleEngine",
    "end_step",
    "make_engine",
    "own_weights",
    "peak_memory_bytes",
    "threads_for",
]


class Engine(Protocol):
    """Model, optimizer and ranks behind one face."""

    rank: int
    world: int
    layout: LayoutFacts
    shapes: dict[str, list[int]]
    """Of the plain model's parameters and buffers: what a checkpoint must have."""
    watch: GateWatch
    device: torch.device

    @property
    def optimizer_step(self) -> int:
        """Updates that the optimizer has made."""

    def forward(self, tokens_BT: Tensor, documents_BT: Tensor | None, positions_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V]."""

    def losses(self, batch: TrainingBatch, depths: int = 0, *, document_mask: bool = True) -> tuple[Tensor, ...]:
        """Summed losses [] of this rank's rows (`model.training.text_loss.token_losses`)."""

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's share of the step's loss; `last` marks its last micro-batch."""

    def step(self, learning_rate: float) -> Tensor:
        """Clip, update the weights, clear the gradients; returns the norm [] of the gradient before clipping.

        With a norm that is not finite nothing is updated, and the caller need not look: whoever wants a step thrown
        away multiplies its loss by NaN.
        """

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks, on their devices."""

    def all_reduce_host(self, values: Sequence[float]) -> list[float]:
        """Sum over the ranks of numbers that the processes know: no rank waits for its device."""

    def fragments(self) -> Iterator[Fragment]:
        """The pieces of the state that this rank writes into a checkpoint: live memory, not copies."""

    def load(self, reader: CheckpointReader) -> None:
        """Take this rank's state from a checkpoint, whatever layout wrote it."""

    def full_model(self) -> Transformer | None:
        """The whole model on rank 0, None elsewhere. Every rank must call it."""


def make_engine(model: Transformer, config: TrainingConfig) -> Engine:
    """The engine that the execution asks for: distributed ranks and `engine: deepspeed` take DeepSpeed, but not for
    adapters, which are too small to be shared out."""
    keep_memory()
    if is_adapted(model):
        return SingleEngine(model, config) if world_size() == 1 else ReplicatedEngine(model, config)
    if world_size() > 1 or execution().engine is EngineChoice.DEEPSPEED:
        from model.training.deepspeed_engine import DeepSpeedEngine

        return DeepSpeedEngine(model, config)
    return SingleEngine(model, config)


def end_step(
    engine: Engine, learning_rate: float, bias_speed: float, is_good: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Update the weights, and the selection biases by `bias_speed` unless the step is thrown away; every rank calls it.

    Args:
        is_good: [] whether the loss was one to learn from; where not, `poisoned` has kept the weights as they were.

    Returns:
        The norm [] of the gradient before clipping, whether anything moved [], and the tokens of all ranks per layer
        and expert [L, E].
    """
    norm = engine.step(learning_rate)
    is_good = is_good & norm.isfinite()
    counts_LE = engine.watch.counts()
    if counts_LE is not None:
        counts_LE = engine.all_reduce_sum(counts_LE)
    engine.watch.finish_step(counts_LE, torch.where(is_good, bias_speed, 0.0))
    return norm, is_good, counts_LE


def peak_memory_bytes() -> int:
    """Most memory that this process has held: of its GPU where it has one, else of the machine."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def threads_for(ranks: int) -> int:
    """torch threads of one of `ranks` processes on this machine: the cores this process may use, shared out.

    A single process keeps to ``OMP_NUM_THREADS`` where that is set: among other programs, threads that wait for each
    other cost more than they bring.
    """
    cores = len(os.sched_getaffinity(0))
    told = os.environ.get("OMP_NUM_THREADS", "") if "WORLD_SIZE" not in os.environ else ""  # a launcher sets it itself
    return min(cores, int(told)) if told.isdigit() and int(told) else max(1, cores // ranks)


def own_weights(model: Transformer) -> dict[str, Tensor]:
    """The state dict without a tied output layer, which safetensors would refuse."""
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return {name: value for name, value in model.state_dict().items() if name not in tied}


class SingleEngine:
    """One process and torch's own optimizers; fp32, with products in bf16 where the hardware has it."""

    def __init__(self, model: Transformer, config: OptimizerConfig) -> None:
        self.rank, self.world = 0, 1
        self.layout = LayoutFacts(ranks=1, expert_parallel=1, zero=0)
        self.shapes = shapes_of(model)
        self.device = own_device()
        prepare(model, self.device)
        self.model = model.to(self.device).train()
        self._clip_norm = config.clip_norm
        self.optimizer = make_optimizer(list(model.named_parameters()), config)
        self.watch = GateWatch(model, model.config, config, self._mean)

    @property
    def optimizer_step(self) -> int:
        """Updates that the optimizer has made."""
        return max((int(state["step"]) for state in self.optimizer.state.values()), default=0)

    def forward(self, tokens_BT: Tensor, documents_BT: Tensor | None, positions_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V]."""
        with autocast(self.device):
            logits: Tensor = self.model(tokens_BT, documents_BT=documents_BT, positions_BT=positions_BT)
        return logits

    def losses(self, batch: TrainingBatch, depths: int = 0, *, document_mask: bool = True) -> tuple[Tensor, ...]:
        """Summed losses [] of all rows."""
        with autocast(self.device):
            return token_losses(self.model, batch, self.device, depths, document_mask=document_mask)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's share of the step's loss."""
        loss.backward()

    def step(self, learning_rate: float) -> Tensor:
        """Clip, update the weights unless the norm is not finite, clear the gradients; returns the norm []."""
        norm = nn.utils.get_total_norm([value.grad for value in self.model.parameters() if value.grad is not None])
        # On a CPU looking at the norm costs nothing, and saves a pass that would multiply all gradients by one.
        if self.device.type != "cpu" or float(norm) + CLIP_MARGIN > self._clip_norm:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self._clip_norm, norm)
        set_learning_rate(self.optimizer, learning_rate)
        if isinstance(self.optimizer, torch.optim.AdamW):
            self.optimizer.found_inf = norm.isfinite().logical_not_().float()  # type: ignore[attr-defined]
            self.optimizer.step()  # the fused kernel reads it on the device, and leaves all as it is
        elif math.isfinite(float(norm)):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _mean(self, values: Tensor) -> Tensor:
        return values

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks: itself."""
        return values

    def all_reduce_host(self, values: Sequence[float]) -> list[float]:
        """Sum over the ranks: themselves."""
        return list(values)

    def fragments(self) -> Iterator[Fragment]:
        """Weights that are trained, moments and buffers, each in one piece."""
        for name, parameter in self._trained():
            yield Fragment(MASTER, name, 0, parameter.data.flatten())
            for kind, value in moments(self.optimizer.state.get(parameter, {})).items():
                yield Fragment(kind, name, 0, value.flatten())
        for name, buffer in kept_buffers(self.model):
            yield Fragment(BUFFER, name, 0, buffer.flatten())

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """A frozen weight is what it was when the training began, and is there already when it goes on."""
        return (pair for pair in self.model.named_parameters() if pair[1].requires_grad)

    @torch.no_grad()
    def load(self, reader: CheckpointReader) -> None:
        """Take weights, moments and buffers from a checkpoint, whatever layout wrote it."""
        for name, parameter in self._trained():
            parameter.copy_(reader.read(MASTER, name).view_as(parameter))
            found = {
                kind: reader.read(kind, name).view_as(parameter).to(self.device)
                for kind in MOMENTS
                if reader.has(kind, name)
            }
            if found:
                step = torch.tensor(float(reader.index.optimizer_step), device=self.device)
                self.optimizer.state[parameter] = {"step": step, **found}
        for name, buffer in kept_buffers(self.model):
            buffer.copy_(reader.read(BUFFER, name).view_as(buffer))

    def full_model(self) -> Transformer | None:
        """The whole model on rank 0."""
        return self.model.cpu().eval()


class ReplicatedEngine(SingleEngine):
    """One of several ranks that each hold the whole model and train its adapters on their share of every batch.

    The gradients are summed, and all ranks make the same update of the same bits. Adapters and their moments are so
    small that there is nothing to gain from sharing those out; the weights beside them are held by every rank.
    """

    def __init__(self, model: Transformer, config: OptimizerConfig) -> None:
        device, wide = own_device(), execution()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        timeout = datetime.timedelta(seconds=wide.timeout_seconds)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
        self._host_group = dist.new_group(backend="gloo", timeout=timeout) if device.type != "cpu" else None
        super().__init__(model, config)
        self.rank, self.world = own_rank(), world_size()
        self.layout = LayoutFacts(ranks=self.world, expert_parallel=1, zero=0)
        if self.rank == 0 and (wide.expert_parallel > 1 or wide.zero or wide.offload):
            events.note("adapters: every rank holds the whole model; expert_parallel, zero and offload are left aside")

    def step(self, learning_rate: float) -> Tensor:
        """Sum the gradients over the ranks, then as on one rank."""
        factors = [factor for _, factor in self._trained()]
        gradients = [torch.zeros_like(factor) if factor.grad is None else factor.grad for factor in factors]
        total = self.all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for factor, part in zip(factors, total.split([factor.numel() for factor in factors]), strict=True):
            factor.grad = part.view_as(factor)
        return super().step(learning_rate)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks, on their devices."""
        dist.all_reduce(values)
        return values

    def all_reduce_host(self, values: Sequence[float]) -> list[float]:
        """Sum over the ranks of numbers that the processes know, over a group that no device takes part in."""
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums, group=self._host_group)
        return sums.tolist()

    def _mean(self, values: Tensor) -> Tensor:
        return self.all_reduce_sum(values) / self.world

    def fragments(self) -> Iterator[Fragment]:
        """All of the state from rank 0: that of the others is the same."""
        return super().fragments() if self.rank == 0 else iter(())

    def full_model(self) -> Transformer | None:
        """The whole model on rank 0, None elsewhere."""
        return super().full_model() if self.rank == 0 else None
