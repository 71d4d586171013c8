"""What the training stages report, a model each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from pydantic import BaseModel, ConfigDict

from infra.facts import Facts, StageMetrics

__all__ = [
    "ContinuedMetrics",
    "DpoMetrics",
    "ExpertLoad",
    "ExpertUse",
    "Forgetting",
    "GrpoMetrics",
    "LayoutFacts",
    "PretrainMetrics",
    "RejectionMetrics",
    "SftMetrics",
    "StartMetrics",
    "TrainedShare",
    "TrainingMetrics",
    "before_and_after",
    "forgetting",
    "rise",
]


class ExpertUse(Facts):
    """Of one layer, in the ``experts.json`` of expert-selective fine-tuning."""

    use: list[float]
    """Share of each expert; they add up to 1."""
    trained: list[int]
    """Numbers of the experts that were trained."""


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


class TrainedShare(StageMetrics):
    """How much of the model was trained, where that is adapters or some of the experts; None where it is all."""

    trained_parameters: int | None = None
    trained_parameters_share: float | None = None


class TrainingMetrics(StageMetrics):
    """What pretraining, continued pretraining and fine-tuning have in common.

    Held-out measures come before the first step and after the last: ``NAME_before``, ``NAME_after``.
    """

    steps: int | None = None
    tokens: int | None = None
    """Seen by all ranks, resumed steps included."""
    train_loss_first: float | None = None
    train_loss_last: float | None = None
    """Mean of the last ten steps."""
    skipped_steps: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    checkpoints: int | None = None
    checkpoint_seconds: float | None = None
    layout: LayoutFacts | None = None
    attention: str | None = None
    """What computed attention over packed documents on a GPU: torch, or a package and its version. None on a CPU."""
    loss_before: float | None = None
    loss_after: float | None = None
    bits_per_byte_before: float | None = None
    bits_per_byte_after: float | None = None
    expert_load: dict[str, ExpertLoad] | None = None
    """By layer; none for a dense model."""

    @property
    def busiest_expert(self) -> float | None:
        """Load of the busiest expert over an even share, mean over the layers."""
        return fmean(load.max for load in self.expert_load.values()) if self.expert_load else None


class StartMetrics(StageMetrics):
    """Of `start`."""

    parameters: int | None = None
    tokens_added: int | None = None
    """Of the chat format, that its tokenizer lacked."""


class PretrainMetrics(TrainingMetrics):
    """Of `pretrain`."""

    parameters: int | None = None
    parameters_active: int | None = None


class ContinuedMetrics(TrainingMetrics, TrainedShare):
    """Of `continued`; bits per byte of every source besides, before and after."""

    parameters: int | None = None
    bits_per_byte_domain_before: float | None = None
    bits_per_byte_domain_after: float | None = None
    bits_per_byte_general_before: float | None = None
    bits_per_byte_general_after: float | None = None
    forgetting: float | None = None
    """How much general bits per byte rose, as a share of what they were."""


class Forgetting(StageMetrics):
    """What a stage did to the text of the corpus; ``bits_per_byte_SOURCE_before`` and ``_after`` are further fields."""

    forgetting: float | None = None
    """By which share bits per byte rose on the source that they rose most on."""
    most_forgotten: str | None = None
    """That source."""


class SftMetrics(TrainingMetrics, TrainedShare, Forgetting):
    """Of `sft`, `sft_second` and `distill`."""

    rows: int | None = None
    epochs: float | None = None
    tasks_too_long: int | None = None
    answers_too_long: int | None = None
    """Of conversations."""
    accuracy: float | None = None
    trained_experts: int | None = None
    trained_experts_share: float | None = None


class DpoMetrics(TrainedShare, Forgetting):
    """Of `dpo`."""

    pairs: int | None = None
    steps: int | None = None
    train_loss_first: float | None = None
    train_loss_last: float | None = None
    preferred_last: float | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None


class GrpoMetrics(TrainedShare, Forgetting):
    """Of `grpo` and `grpo_second`."""

    steps: int | None = None
    answers: int | None = None
    epochs: float | None = None
    skipped_steps: int | None = None
    reward_first: float | None = None
    reward_last: float | None = None
    rollout_seconds_share: float | None = None
    update_seconds_share: float | None = None
    kl_last: float | None = None
    entropy_last: float | None = None
    informative_last: float | None = None
    length_last: float | None = None
    program_share_last: float | None = None
    reward_before: float | None = None
    reward_after: float | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    format_before: float | None = None
    format_after: float | None = None
    length_before: float | None = None
    length_after: float | None = None
    seconds: float | None = None
    layout: LayoutFacts | None = None


class RejectionMetrics(StageMetrics):
    """Of `rejection`."""

    questions: int | None = None
    answers: int | None = None
    accepted_share: float | None = None
    """Of the answers: right and well-formed ones, before those that were said already are left out."""
    questions_solved: int | None = None
    rows_sampled: int | None = None
    rows_general: int | None = None
    train_tasks: int | None = None


def rise(before: float, after: float) -> float:
    """How much bits per byte rose, as a share of what they were; negative where they fell."""
    return after / before - 1


def forgetting(evaluations: Sequence[Mapping[str, float]]) -> dict[str, str | float]:
    """Of the sources that were measured before and after, the one whose bits per byte rose most; empty without any."""
    measure = "bits_per_byte_"
    first, last = (evaluations[0], evaluations[-1]) if evaluations else ({}, {})
    rises = {
        name.removeprefix(measure): rise(before, last[name])
        for name, before in first.items()
        if name.startswith(measure) and name in last and before > 0
    }
    if not rises:
        return {}
    source, most = max(rises.items(), key=lambda item: item[1])
    return {"forgetting": round(most, 5), "most_forgotten": source}


def before_and_after(first: Mapping[str, float], last: Mapping[str, float]) -> dict[str, float]:
    """The measures of two evaluations, as ``NAME_before`` and ``NAME_after``."""
    return {
        f"{name}_{place}": value
        for place, row in (("before", first), ("after", last))
        for name, value in row.items()
        if name != "step"
    }
