"""Several ranks with DeepSpeed: data parallelism under ZeRO 0 to 3, and expert parallelism by AutoEP.

AutoEP swaps each mixture-of-experts block for one that holds this rank's experts and exchanges tokens; balancing is
added by `GateWatch`. State goes into checkpoints in pieces of the plain model (`model.training.pieces`), not through
DeepSpeed's checkpoints, which pickle, and which load under another expert-parallel width without an error and then
train on wrong moments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from model.architecture.devices import own_device, own_rank, world_size
from model.architecture.skeleton import model_of
from model.architecture.transformer import Transformer
from model.sections import TrainingConfig
from model.training.balance import GateWatch
from model.training.batches import TrainingBatch
from model.training.deepspeed_setup import initialise, layout_of, settings_for, stage_of, zero_optimizer
from model.training.exchange import exchange_compactly
from model.training.muon import Muon
from model.training.optimizer import CLIP_MARGIN, make_optimizer, set_learning_rate
from model.training.pieces import is_expert, pieces_of, plain_name
from model.training.prepare import computing_under_autocast, prepare, without_autocast
from model.training.text_loss import token_losses
from model.training.universal import BUFFER, MASTER, MOMENTS, CheckpointReader, Fragment, kept_buffers, shapes_of

__all__ = ["DeepSpeedEngine"]


class DeepSpeedEngine:
    """This process is one rank of ``WORLD_SIZE``, started by `infra.launch` or torchrun.

    Raises:
        UserError: the execution's widths do not go together.
    """

    def __init__(self, model: Transformer, config: TrainingConfig) -> None:
        self.rank, self.world = own_rank(), world_size()
        self.layout = layout_of(model.config, config, self.world)
        self.device = own_device()
        prepare(model, self.device)
        deepspeed = initialise(self.device)
        self._plain, self.shapes = model.config, shapes_of(model)
        self._zero, self._clip_norm = stage_of(config, self.layout), config.clip_norm
        self._accumulation = config.batch_size // (config.micro_batch or config.batch_size)

        def own_optimizer(parameters: Any) -> torch.optim.Optimizer:
            named = [(plain_name(name), value) for name, value in model.named_parameters()]
            return zero_optimizer(named, config) if self._zero else make_optimizer(named, config)

        self.engine, *_ = deepspeed.initialize(
            model=computing_under_autocast(model, self.device),
            config=settings_for(model.config, config, self.layout),
            optimizer=own_optimizer,
        )
        self.engine.train()
        if self.device.type == "cpu":
            exchange_compactly(self.engine.module)
        for layer in self.engine.module.modules():
            if getattr(layer, "_is_autoep_layer", False):
                without_autocast(layer.router)
        self.watch = GateWatch(self.engine.module, model.config, config, self._mean)
        experts = next((part for part in self.engine.module.modules() if hasattr(part, "ep_group")), None)
        self._host_group = dist.new_group(backend="gloo") if self.device.type != "cpu" else None
        self._ep_group = experts.ep_group if experts is not None else None
        self._ep_rank = dist.get_rank(self._ep_group) if self._ep_group is not None else 0
        self._shares_out = self._zero != self.layout.zero
        """Muon under ZeRO-1: every parameter has one rank that steps it, and whose value the others take."""
        if self._shares_out:
            self._copies_group = self._group_of_copies()
            inner: Muon = self.engine.optimizer
            inner.own(parameter for _, parameter, _, _ in self._owned())

    # -- passes and steps --------------------------------------------------------------------------------------------

    def forward(self, tokens_BT: Tensor, documents_BT: Tensor | None, positions_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of this rank's rows."""
        logits: Tensor = self.engine(tokens_BT, documents_BT=documents_BT, positions_BT=positions_BT)
        return logits

    def losses(self, batch: TrainingBatch, depths: int = 0, *, document_mask: bool = True) -> tuple[Tensor, ...]:
        """Summed losses [] of this rank's rows."""
        return token_losses(self.engine, batch, self.device, depths, document_mask=document_mask)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's share of the step's loss."""
        self.engine.set_gradient_accumulation_boundary(last)
        # DeepSpeed averages over ranks and micro-batches; shares are to be summed.
        self.engine.backward(loss * (self.world * self._accumulation))

    def step(self, learning_rate: float) -> Tensor:
        """Clip, update the weights unless the norm is not finite, clear the gradients; returns the norm [].

        DeepSpeed looks at the norm itself: here the device is waited for.
        """
        set_learning_rate(self.engine.optimizer, learning_rate)
        if self._zero:
            self.engine.step()  # ZeRO leaves the weights alone when the norm is not finite
            norm = math.inf if self.engine.optimizer.overflow else float(self.engine.get_global_grad_norm())
        else:
            norm = self._clip()
            if math.isfinite(norm):
                self.engine.step()
                if self._shares_out:
                    self._take_from_owners()
            else:
                self.engine.optimizer.zero_grad(set_to_none=True)
        return torch.tensor(norm, dtype=torch.float64, device=self.device)

    def _group_of_copies(self) -> Any:
        """The ranks that hold the same experts as this one; every rank must call it."""
        width = self.layout.expert_parallel
        groups = [dist.new_group(list(range(first, self.world, width))) for first in range(width)]
        return groups[self.rank % width]

    def _owner(self, number: int, name: str) -> int:
        """The rank that writes a whole parameter, and under Muon's ZeRO-1 steps it: whole parameters that several ranks
        hold alike go round among them."""
        width = self.layout.expert_parallel if is_expert(name) else 1
        return number % (self.world // width) * width + self.rank % width

    @torch.no_grad()
    def _take_from_owners(self) -> None:
        for number, (name, parameter) in enumerate(self.engine.module.named_parameters()):
            group = self._copies_group if is_expert(name) else None
            dist.broadcast(parameter.data, self._owner(number, name), group=group)

    def _clip(self) -> float:
        """Clip the averaged gradients by their norm over all ranks: the same on each."""
        named = [(name, value) for name, value in self.engine.module.named_parameters() if value.grad is not None]
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for name, parameter in named:
            sums[int(is_expert(name))] += parameter.grad.double().square().sum()
        if self._ep_group is not None:
            experts = sums[1].clone()
            dist.all_reduce(experts, group=self._ep_group)
            sums[1] = experts
        norm = math.sqrt(float(sums.sum())) if bool(sums.isfinite().all()) else math.inf
        if norm > self._clip_norm and math.isfinite(norm):
            for _, parameter in named:
                parameter.grad.mul_(self._clip_norm / (norm + CLIP_MARGIN))
        return norm

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks, on their devices."""
        dist.all_reduce(values)
        return values

    def all_reduce_host(self, values: Sequence[float]) -> list[float]:
        """Sum over the ranks of numbers that the processes know, over a group that no device takes part in."""
        if self.world == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums, group=self._host_group)
        return sums.tolist()

    def _mean(self, values: Tensor) -> Tensor:
        return self.all_reduce_sum(values) / self.world

    # -- state -------------------------------------------------------------------------------------------------------

    @property
    def optimizer_step(self) -> int:
        """Updates that the optimizer has made."""
        inner = self.engine.optimizer.optimizer if self._zero else self.engine.optimizer
        return max((int(state["step"]) for state in inner.state.values() if "step" in state), default=0)

    def _owned(self) -> Iterator[tuple[str, Any, int, int]]:
        """Parameters of which this rank writes flat values: name, parameter, start and length of the run.

        ZeRO's partitions have one owner each, and so have whole parameters.
        """
        for number, (name, parameter) in enumerate(self.engine.module.named_parameters()):
            if self._zero == 0:
                if self._owner(number, name) == self.rank:
                    yield name, parameter, 0, parameter.numel()
            elif self._zero == 3:
                size = parameter.ds_tensor.ds_numel
                start = size * dist.get_rank(parameter.ds_process_group)
                if start < parameter.ds_numel:
                    yield name, parameter, start, min(size, parameter.ds_numel - start)
            elif (address := getattr(parameter, "_hp_mapping", None)) is not None:
                yield name, parameter, address.lp_fragment_address.start, address.lp_fragment_address.numel

    def _state(self, parameter: Any, *, create: bool = False) -> dict[str, Tensor]:
        """The optimizer's share of one parameter by kind, each flat, in live memory; `create` makes missing moments."""
        if self._zero == 0:
            state = self.engine.optimizer.state[parameter]
            if create and not state:
                raise AssertionError("made by load itself")
            found = {kind: state[kind].flatten() for kind in MOMENTS if kind in state}
            return {MASTER: parameter.data.flatten(), **found}
        optimizer = self.engine.optimizer
        if self._zero == 3:
            group, offset, length = optimizer.grad_position[optimizer.get_param_id(parameter)]
            flat = optimizer.fp32_partitioned_groups_flat[group]
        else:
            mapping = parameter._hp_mapping
            flat = optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
            offset, length = mapping.hp_fragment_address.start, mapping.hp_fragment_address.numel
        state = optimizer.optimizer.state[flat]
        if create and "exp_avg" not in state:
            state.update(step=torch.zeros(()), exp_avg=torch.zeros_like(flat), exp_avg_sq=torch.zeros_like(flat))
        found = {kind: state[kind] for kind in MOMENTS if kind in state}
        return {kind: value.narrow(0, offset, length) for kind, value in {MASTER: flat.data, **found}.items()}

    def _pieces(self, name: str, parameter: Any, start: int, length: int) -> list[Any]:
        shape = getattr(parameter, "ds_shape", parameter.shape)
        return pieces_of(name, shape, self.shapes, self._ep_rank, start, length)

    def fragments(self) -> Iterator[Fragment]:
        """The pieces of weights, moments and buffers that this rank writes."""
        for name, parameter, start, length in self._owned():
            state = self._state(parameter)
            for offset, piece in self._pieces(name, parameter, start, length):
                for kind, values in state.items():
                    yield Fragment(kind, piece.name, piece.start, values[offset : offset + piece.length])
        if self.rank == 0:
            for name, buffer in kept_buffers(self.engine.module):
                yield Fragment(BUFFER, plain_name(name), 0, buffer.flatten())

    @torch.no_grad()
    def load(self, reader: CheckpointReader) -> None:
        """Take this rank's weights, moments and buffers from a checkpoint, whatever layout wrote it."""
        step = float(reader.index.optimizer_step)
        for name, buffer in kept_buffers(self.engine.module):
            buffer.copy_(reader.read(BUFFER, plain_name(name)).view_as(buffer))
        if self._zero == 0:
            self._load_whole(reader, step)
            dist.barrier()
            return
        optimizer = self.engine.optimizer
        persistent = getattr(optimizer, "persistent_parameters", [])
        if persistent:
            persistent[0].partition(persistent)
        for name, parameter, start, length in self._owned():
            state = self._state(parameter, create=step > 0)
            for offset, piece in self._pieces(name, parameter, start, length):
                for kind, values in state.items():
                    if kind == MASTER or reader.has(kind, piece.name):
                        values[offset : offset + piece.length].copy_(
                            reader.read(kind, piece.name, piece.start, piece.length)
                        )
            if self._zero == 3:
                parameter.ds_tensor.data[:length].copy_(state[MASTER][:length])
        for state in optimizer.optimizer.state.values():
            if "step" in state:
                state["step"].fill_(step)
        if self._zero < 3:
            optimizer.update_lp_params()
        elif persistent:
            persistent[0].all_gather(persistent)
        dist.barrier()

    def _load_whole(self, reader: CheckpointReader, step: float) -> None:
        mine = {parameter for _, parameter, _, _ in self._owned()} if self._shares_out else None
        for name, parameter in self.engine.module.named_parameters():
            pieces = [piece for _, piece in self._pieces(name, parameter, 0, parameter.numel())]
            parameter.copy_(torch.cat([*reader.read_pieces(MASTER, pieces)]).view_as(parameter))
            kinds = [kind for kind in MOMENTS if reader.has(kind, pieces[0].name)]
            if kinds and (mine is None or parameter in mine):
                moments = {kind: torch.cat([*reader.read_pieces(kind, pieces)]).view_as(parameter) for kind in kinds}
                self.engine.optimizer.state[parameter] = {
                    "step": torch.tensor(step, device=self.device),
                    **{kind: value.to(self.device) for kind, value in moments.items()},
                }

    def full_model(self) -> Transformer | None:
        """The whole model on rank 0, its experts gathered from the ranks that hold them; None elsewhere."""
        weights: dict[str, Tensor] = {}
        for name, parameter in self.engine.module.named_parameters():
            whole = self._whole(parameter)
            if is_expert(name):
                whole = self._all_experts(whole)
            if self.rank:
                continue
            whole = whole.detach().cpu()
            prefix, _, which = name.rpartition(".")
            if not is_expert(name):
                weights[plain_name(name)] = whole.clone()  # the live weights are slices of one flat buffer
            elif which == "w2":
                weights[f"{prefix}.down_proj"] = whole
            else:
                fused = weights.setdefault(
                    f"{prefix}.gate_up_proj", torch.empty(whole.shape[0], 2 * whole.shape[1], whole.shape[2])
                )
                fused[:, (0 if which == "w1" else whole.shape[1]) :][:, : whole.shape[1]] = whole
        dist.barrier()
        if self.rank:
            return None
        for name, buffer in kept_buffers(self.engine.module):
            weights[plain_name(name)] = buffer.detach().cpu().clone()
        return model_of(self._plain, weights)

    def _whole(self, parameter: Any) -> Tensor:
        """All values of one parameter of this rank's model."""
        if self._zero < 3:
            return parameter.data
        group = parameter.ds_process_group
        mine = parameter.ds_tensor.data.to(self.device)
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, mine, group=group)
        return torch.cat(parts)[: parameter.ds_numel].view(parameter.ds_shape)

    def _all_experts(self, part_exx: Tensor) -> Tensor:
        parts = [torch.empty_like(part_exx) for _ in range(self.layout.expert_parallel)]
        dist.all_gather(parts, part_exx.detach().contiguous(), group=self._ep_group)
        return torch.cat(parts)
