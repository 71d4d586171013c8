"""Where and how wide a stage runs. No part of an artifact's identity: the bytes must not depend on it.

The flow writes an `Execution` into the environment of the stage's process; the stage reads it with `execution()`.
"""

from __future__ import annotations

import os
from enum import StrEnum

from pydantic import Field

from infra.section import Section

__all__ = ["ENVIRONMENT_KEY", "Engine", "Execution", "Layout", "execution"]

ENVIRONMENT_KEY = "DEEPMILL_EXECUTION"


class Engine(StrEnum):
    """What drives the training loop."""

    AUTO = "auto"
    """DeepSpeed when more than one rank is asked for, else a plain single process."""
    DEEPSPEED = "deepspeed"
    SINGLE = "single"


class Execution(Section):
    """How wide the stages run."""

    workers: int = Field(0, ge=0)
    """Processes for a data stage; 0 means one per core."""
    ranks: int = Field(1, ge=1)
    """Training processes on this machine."""
    expert_parallel: int = Field(1, ge=1)
    """How many ranks share one copy of the experts; divides `ranks`."""
    engine: Engine = Engine.AUTO

    @property
    def processes(self) -> int:
        """Data-stage processes, with 0 resolved to the cores this process may use."""
        return self.workers or len(os.sched_getaffinity(0))


class Layout(Execution):
    """How wide the stages run, and which of them run otherwise."""

    stages: dict[str, Execution] = Field(default_factory=dict)
    """Stage to the layout of its own: ``{sft: {ranks: 1}}``; what it does not name has the default."""

    def of(self, stage: str) -> Execution:
        """The layout of one stage."""
        shared = Execution.model_validate({name: getattr(self, name) for name in Execution.model_fields})
        return self.stages.get(stage, shared)


def execution() -> Execution:
    """The `Execution` of the running stage; the defaults outside of one."""
    text = os.environ.get(ENVIRONMENT_KEY)
    return Execution.model_validate_json(text) if text else Execution()
