"""Several ranks with DeepSpeed: ZeRO-1 data parallelism, and expert parallelism by AutoEP.

AutoEP swaps each mixture-of-experts block for one that holds this rank's experts and exchanges tokens; balancing is
added by `GateWatch`. State is saved rank by rank as safetensors, not through DeepSpeed's checkpoints, which pickle, and
which load under another expert-parallel width without an error and then train on wrong moments.
"""

from __future__ import annotations

import datetime
import logging
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infra.execution import execution
from model.config import Family
from model.sections import TrainingConfig
from model.training.balance import GateWatch
from model.transformer import Transformer

__all__ = ["DeepSpeedEngine"]

TIMEOUT = datetime.timedelta(minutes=10)


def _import_deepspeed() -> Any:
    """Import DeepSpeed quietly, and without the C++ ops that it would compile on first use (100 s)."""
    os.environ.setdefault("DS_SKIP_CUDA_CHECK", "1")
    logging.disable(logging.WARNING)
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    logging.disable(logging.NOTSET)
    __compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return deepspeed


class DeepSpeedEngine:
    """This process is one rank of ``WORLD_SIZE``, started by `infra.launch` or torchrun.

    Raises ValueError when the expert-parallel width divides neither ranks nor experts.
    """

    def __init__(self, model: Transformer, config: TrainingConfig) -> None:
        os.environ.setdefault("RANK", "0")
        os.environ.setdefault("WORLD_SIZE", "1")
        os.environ.setdefault("LOCAL_RANK", "0")
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29500")
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        architecture = model.config
        width = execution().expert_parallel if architecture.moe_layers else 1
        if self.world % width or (architecture.moe_layers and architecture.n_routed_experts % width):
            raise ValueError(
                f"expert_parallel {width} must divide the {self.world} ranks and the {architecture.n_routed_experts} "
                "routed experts"
            )
        self.layout = {"ranks": self.world, "expert_parallel": width}
        is_cuda = torch.cuda.is_available()
        self.device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if is_cuda else "cpu")
        deepspeed = _import_deepspeed()
        deepspeed.init_distributed("nccl" if is_cuda else "gloo", timeout=TIMEOUT, verbose=False)

        micro = config.micro_batch or config.batch_size
        settings: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": micro // self.world,
            "gradient_accumulation_steps": config.batch_size // micro,
            "gradient_clipping": config.clip_norm,
            "optimizer": {
                "type": "AdamW",
                "params": {
                    "lr": config.learning_rate,
                    "betas": [config.beta1, config.beta2],
                    "weight_decay": config.weight_decay,
                    "torch_adam": True,
                },
            },
            "zero_optimization": {"stage": 1},
            "steps_per_print": 1 << 60,
        }
        if width > 1:
            sigmoid = architecture.model_type is Family.DEEPSEEK_V3
            settings["expert_parallel"] = {
                "enabled": True,
                "autoep_size": width,
                "preset_model": "deepseek_v3" if sigmoid else "deepseek_v2",
                "moe_layer_pattern": r"model\.layers\.\d+\.mlp",
                "score_func": "sigmoid" if sigmoid else "softmax",
                "route_norm": architecture.norm_topk_prob,
                "has_shared_experts": architecture.n_shared_experts > 0,
                "shared_experts_pattern": "shared_experts",
            }
        self._accumulation = config.batch_size // micro
        self._plain = model.config
        self.engine, *_ = deepspeed.initialize(model=model, config=settings)
        self.engine.train()
        self.watch = GateWatch(self.engine.module, architecture, config, self._mean)

    def forward(self, tokens_BT: Tensor, documents_BT: Tensor | None, *, further: bool = False) -> tuple[Tensor, ...]:
        """Logits [B, T, V] of this rank's rows; with `further`, those of each depth of multi-token prediction too."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.engine(tokens_BT, documents_BT=documents_BT, further=further)
        return logits if further else (logits,)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's share of the step's loss."""
        self.engine.set_gradient_accumulation_boundary(last)
        # DeepSpeed averages over ranks and micro-batches; shares are to be summed.
        self.engine.backward(loss * (self.world * self._accumulation))

    def step(self, learning_rate: float) -> float:
        """Clip, update the weights, clear the gradients; returns the norm of the gradient before clipping."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def discard(self) -> None:
        """Throw the gradients of an unfinished step away."""
        self.engine.optimizer.zero_grad(set_to_none=True)

    def total(self, values: Tensor) -> Tensor:
        """Sum over the ranks."""
        dist.all_reduce(values)
        return values

    def _mean(self, values: Tensor) -> Tensor:
        return self.total(values) / self.world

    def _state(self) -> dict[str, Tensor]:
        """This rank's share of the optimizer: master weights and moments of every parameter group."""
        optimizer = self.engine.optimizer
        state: dict[str, Tensor] = {}
        for number, master in enumerate(optimizer.single_partition_of_fp32_groups):
            state[f"{number}/master"] = master.data
            for key, value in optimizer.optimizer.state[master].items():
                state[f"{number}/{key}"] = value
        return state

    def save(self, folder: Path) -> None:
        """Write this rank's weights and share of the optimizer; returns when every rank has."""
        weights = dict(self.engine.module.state_dict())
        if self._plain.tie_word_embeddings:
            weights.pop("lm_head.weight")
        save_file({name: value.clone() for name, value in weights.items()}, folder / f"weights-{self.rank}.safetensors")
        moments = {name: value.clone() for name, value in self._state().items()}
        save_file(moments, folder / f"optimizer-{self.rank}.safetensors")
        dist.barrier()

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Restore what `save` wrote, in the same layout."""
        weights = load_file(folder / f"weights-{self.rank}.safetensors")
        if self._plain.tie_word_embeddings:
            weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        self.engine.module.load_state_dict(weights)
        optimizer = self.engine.optimizer
        masters = optimizer.single_partition_of_fp32_groups
        for name, value in load_file(folder / f"optimizer-{self.rank}.safetensors").items():
            number, key = name.split("/")
            if key == "master":
                masters[int(number)].data.copy_(value)
            else:
                optimizer.optimizer.state[masters[int(number)]][key] = value.to(self.device) if value.dim() else value
        dist.barrier()

    def full_model(self) -> Transformer | None:
        """The whole model on rank 0, its experts gathered from the ranks that hold them; None elsewhere."""
        module: nn.Module = self.engine.module
        weights: dict[str, Tensor] = {}
        for name, value in module.state_dict().items():
            if ".mlp.experts.w" not in name:
                weights[name.replace(".mlp.router.gate.", ".mlp.gate.").replace(".mlp.router.", ".mlp.gate.")] = value
        if self.layout["expert_parallel"] > 1:
            for number in self.watch.layers:
                moe: Any = module.get_submodule(f"model.layers.{number}.mlp")
                gate, down, up = (
                    self._gathered(part, moe.ep_group) for part in (moe.experts.w1, moe.experts.w2, moe.experts.w3)
                )
                weights[f"model.layers.{number}.mlp.experts.gate_up_proj"] = torch.cat((gate, up), dim=1)
                weights[f"model.layers.{number}.mlp.experts.down_proj"] = down
        dist.barrier()
        if self.rank:
            return None
        with torch.device("meta"):
            model = Transformer(self._plain)
        # assign from clones: the live weights are slices of one flat buffer
        model.load_state_dict({name: value.detach().cpu().clone() for name, value in weights.items()}, assign=True)
        if self._plain.tie_word_embeddings:
            model.lm_head.weight = model.model.embed_tokens.weight
        return model.eval()

    def _gathered(self, part_exx: Tensor, group: Any) -> Tensor:
        parts = [torch.empty_like(part_exx) for _ in range(self.layout["expert_parallel"])]
        dist.all_gather(parts, part_exx.detach().contiguous(), group=group)
        return torch.cat(parts)
