"""How a training stage runs its ranks: in this process when one is enough, else in processes of their own."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.errors import UserError
from infra.execution import Engine, Launcher, execution
from infra.launch import run_job
from infra.section import Section

__all__ = ["leave", "run_ranks", "run_target"]


def run_ranks(target: str, config: Section, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Call ``target`` ("package.module:function") on every rank of the execution and wait for all.

    The function gets a dictionary with the dumped `config`, the folders `inputs` and `out_dir`; what its rank 0 writes
    to ``.work/metrics.json`` is returned.

    Raises:
        UserError: the execution contradicts itself, or what a rank raised.
    """
    wide = execution()
    if wide.engine is Engine.SINGLE and wide.ranks > 1:
        raise UserError("engine: single runs one rank; set ranks to 1, or engine to auto")
    out_dir = Path(out_dir).resolve()
    (out_dir / ".work").mkdir(parents=True, exist_ok=True)
    argument = {
        "config": config.model_dump(mode="json"),
        "inputs": {name: str(Path(path).resolve()) for name, path in inputs.items()},
        "out_dir": str(out_dir),
    }
    # Always a name, never a function: ranks of their own must be able to import it.
    call = {"target": target, "argument": argument}
    if wide.ranks > 1 or wide.engine is Engine.DEEPSPEED or wide.launcher is not Launcher.LOCAL:
        run_job("model.training.ranks:run_target", call, wide, out_dir / ".work")
    else:
        run_target(call)
    metrics: dict[str, Any] = json.loads((out_dir / ".work" / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def run_target(call: Mapping[str, Any]) -> None:
    """What each rank does: call ``call["target"]`` with ``call["argument"]``, and leave the others in order."""
    module, function = call["target"].split(":")
    getattr(importlib.import_module(module), function)(call["argument"])
    leave()


def leave() -> None:
    """Wait for the other ranks and part from them: a process that just ends may abort in the threads of its network."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
