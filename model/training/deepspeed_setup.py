"""DeepSpeed, imported quietly, and its configuration for one of our layouts."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from infra.errors import UserError
from infra.execution import Execution, execution
from infra.json_objects import JsonObject
from model.architecture.config import Family, ModelConfig
from model.facts.training import LayoutFacts
from model.sections import OptimizerKind, TrainingConfig
from model.training.optimizer import parameter_groups
from model.training.uncompiled import AdamW

__all__ = ["initialise", "layout_of", "settings_for", "stage_of", "zero_optimizer"]

PRESETS = ("deepseek_v2", "deepseek_v3")
"""AutoEP's, for gates of softmax and of sigmoid."""


def initialise(device: torch.device) -> Any:
    """Import DeepSpeed without the C++ ops that it would compile on first use (100 s), and join the other ranks."""
    os.environ.setdefault("DS_SKIP_CUDA_CHECK", "1")
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "127.0.0.1")):
        os.environ.setdefault(name, value)
    os.environ.setdefault("MASTER_PORT", "29500")
    logging.disable(logging.WARNING)
    with _without_what_it_imports_in_vain():
        import deepspeed
        import deepspeed.runtime.zero.muon.muon_optimizer  # ZeRO asks for it
    from deepspeed.ops import __compatible_ops__

    logging.disable(logging.NOTSET)
    __compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    timeout = datetime.timedelta(seconds=execution().timeout_seconds)
    # Groups made later (the experts') would wait for half an hour, whatever the first group's time is.
    torch.distributed.distributed_c10d.default_pg_timeout = timeout
    vars(torch.distributed.distributed_c10d)["default_pg_nccl_timeout"] = timeout
    _ask_for_no_transformers()
    deepspeed.init_distributed("nccl" if device.type == "cuda" else "gloo", timeout=timeout, verbose=False)
    return deepspeed


@contextlib.contextmanager
def _without_what_it_imports_in_vain() -> Iterator[None]:
    """Its tuner imports MLflow, its Muon torch's compiler: half of what DeepSpeed takes to be there, and 120 MB."""

    def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    of_torch, modules = vars(torch), cast(dict[str, Any], sys.modules)
    hides, compiler = "mlflow" not in modules, of_torch["compile"]
    of_torch["compile"] = uncompiled
    if hides:
        modules["mlflow"] = None  # as if it were not installed
    try:
        yield
    finally:
        of_torch["compile"] = compiler
        if hides:
            del modules["mlflow"]


def _ask_for_no_transformers() -> None:
    """AutoEP's presets want a version of transformers for models of theirs; ours are none, and need it nowhere."""
    from deepspeed.module_inject.auto_ep_config import PRESET_MODELS

    for name in PRESETS:
        PRESET_MODELS[name] = replace(PRESET_MODELS[name], min_transformers_version=None)


def layout_of(architecture: ModelConfig, config: TrainingConfig, world: int) -> LayoutFacts:
    """How this run shares its work.

    Raises:
        UserError: what the execution asks for does not go together.
    """
    wide: Execution = execution()
    width = wide.expert_parallel if architecture.moe_layers else 1
    if world % width or (architecture.moe_layers and architecture.n_routed_experts % width):
        raise UserError(
            f"execution.expert_parallel {width} must divide the {world} ranks and the "
            f"{architecture.n_routed_experts} routed experts"
        )
    is_muon = config.optimizer is OptimizerKind.MUON
    zero = wide.zero if wide.zero is not None else 0 if is_muon else 1
    if is_muon and zero > 1:
        raise UserError(f"optimizer muon needs whole matrices, and execution.zero {zero} splits them; set it to 0 or 1")
    if is_muon and wide.offload:
        raise UserError(
            "execution.offload moves what ZeRO has split flat, which optimizer muon cannot use; switch it off"
        )
    if wide.offload and not zero:
        raise UserError("execution.offload moves what ZeRO has split; set execution.zero to 1, 2 or 3")
    return LayoutFacts(ranks=world, expert_parallel=width, zero=zero)


def stage_of(config: TrainingConfig, layout: LayoutFacts) -> int:
    """DeepSpeed's stage of ZeRO: none for Muon, whose state is shared out by whole parameters and not by DeepSpeed."""
    return 0 if config.optimizer is OptimizerKind.MUON else layout.zero


def settings_for(architecture: ModelConfig, config: TrainingConfig, layout: LayoutFacts) -> JsonObject:
    """DeepSpeed's configuration."""
    micro = config.micro_batch or config.batch_size
    stage = stage_of(config, layout)
    zero: JsonObject = {"stage": stage}
    if stage == 3:
        # It replaces torch's `linear` by one that does not keep weights for the backward pass. Recomputation keeps
        # nothing anyway, and fails with it ("backward through the graph a second time").
        zero["memory_efficient_linear"] = not execution().recompute
    if execution().offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    settings: JsonObject = {
        "train_micro_batch_size_per_gpu": max(1, micro // layout.ranks),
        "gradient_accumulation_steps": config.batch_size // micro,
        # without ZeRO the engine clips itself, for DeepSpeed then clips before anyone could look at the norm
        "gradient_clipping": config.clip_norm if stage else 0.0,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # that one is compiled on first use
        "zero_allow_untested_optimizer": True,  # ours is torch's under another name
        "steps_per_print": 1 << 60,
    }
    if layout.expert_parallel > 1:
        sigmoid = architecture.model_type is Family.DEEPSEEK_V3
        settings["expert_parallel"] = {
            "enabled": True,
            "autoep_size": layout.expert_parallel,
            "preset_model": PRESETS[sigmoid],
            "moe_layer_pattern": r"model\.layers\.\d+\.mlp",
            "score_func": "sigmoid" if sigmoid else "softmax",
            "route_norm": architecture.norm_topk_prob,
            "has_shared_experts": architecture.n_shared_experts > 0,
            "shared_experts_pattern": "shared_experts",
        }
    return settings


def zero_optimizer(named: Sequence[tuple[str, nn.Parameter]], config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW for ZeRO to split; experts of AutoEP have groups of their own."""
    from deepspeed.moe.utils import is_moe_param, split_params_into_different_moe_groups_for_optimizer

    groups = [
        group | {"params": [parameter for _, parameter in group["params"]], "name": f"group-{number}"}
        for number, group in enumerate(parameter_groups(named, config))
    ]
    if any(is_moe_param(parameter) for _, parameter in named):
        groups = split_params_into_different_moe_groups_for_optimizer(groups)
    betas = (config.beta1, config.beta2)
    return AdamW(groups, config.learning_rate, betas, weight_decay=config.weight_decay)
