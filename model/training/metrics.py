"""What the training stages report: one model per stage, written at the border as flat JSON and read back through it.

Light on purpose: whoever reads a manifest may load these without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = [
    "ContinuedMetrics",
    "DpoMetrics",
    "ExpertLoad",
    "GrpoMetrics",
    "LayoutFacts",
    "PretrainMetrics",
    "SftMetrics",
    "StageMetrics",
    "TrainingMetrics",
    "before_and_after",
]


class LayoutFacts(BaseModel):
    """How the ranks shared the work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ranks: int
    expert_parallel: int
    zero: int


class ExpertLoad(BaseModel):
    """The load of one layer's experts over the last steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: float
    """Share of an even load that the least used expert has."""
    max: float
    cv: float
    """Coefficient of variation; 0 is perfect balance."""


class StageMetrics(BaseModel):
    """The numbers of a stage. What is measured by a name that the data choose (a source) is an extra field."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def written(self) -> dict[str, Any]:
        """As JSON values, without what the stage has not measured."""
        return self.model_dump(mode="json", exclude_none=True)


class TrainingMetrics(StageMetrics):
    """What pretraining, continued pretraining and fine-tuning have in common.

    Held-out measures come before the first step and after the last: ``NAME_before``, ``NAME_after``.
    """

    steps: int
    tokens: int
    """Seen by all ranks, resumed steps included."""
    train_loss_first: float
    train_loss_last: float
    """Mean of the last ten steps."""
    skipped_steps: int
    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    checkpoints: int
    checkpoint_seconds: float
    layout: LayoutFacts
    loss_before: float | None = None
    loss_after: float | None = None
    bits_per_byte_before: float | None = None
    bits_per_byte_after: float | None = None
    expert_load: dict[str, ExpertLoad] | None = None
    """By layer; none for a dense model."""


class PretrainMetrics(TrainingMetrics):
    """Of `pretrain`."""

    parameters: int
    parameters_active: int


class ContinuedMetrics(TrainingMetrics):
    """Of `continued`; bits per byte of every source besides, before and after."""

    parameters: int
    bits_per_byte_domain_before: float | None = None
    bits_per_byte_domain_after: float | None = None
    bits_per_byte_general_before: float | None = None
    bits_per_byte_general_after: float | None = None
    forgetting: float | None = None
    """How much general bits per byte rose, as a share of what they were."""


class SftMetrics(TrainingMetrics):
    """Of `sft`, `sft_second` and `distill`."""

    rows: int
    epochs: float
    tasks_too_long: int
    accuracy: float | None = None
    trained_experts: int | None = None
    trained_experts_share: float | None = None
    trained_parameters: int | None = None
    trained_parameters_share: float | None = None


class DpoMetrics(StageMetrics):
    """Of `dpo`."""

    pairs: int
    steps: int
    train_loss_first: float
    train_loss_last: float
    preferred_last: float
    accuracy_before: float
    accuracy_after: float


class GrpoMetrics(StageMetrics):
    """Of `grpo` and `grpo_second`."""

    steps: int
    answers: int
    epochs: float
    skipped_steps: int
    reward_first: float
    reward_last: float
    rollout_seconds_share: float | None = None
    update_seconds_share: float | None = None
    kl_last: float | None = None
    entropy_last: float | None = None
    informative_last: float | None = None
    length_last: float | None = None
    program_share_last: float | None = None
    reward_before: float
    reward_after: float
    accuracy_before: float
    accuracy_after: float
    format_before: float
    format_after: float
    length_before: float
    length_after: float
    seconds: float
    layout: LayoutFacts


def before_and_after(first: Mapping[str, float], last: Mapping[str, float]) -> dict[str, float]:
    """The measures of two evaluations, as ``NAME_before`` and ``NAME_after``."""
    return {
        f"{name}_{place}": value
        for place, row in (("before", first), ("after", last))
        for name, value in row.items()
        if name != "step"
    }
