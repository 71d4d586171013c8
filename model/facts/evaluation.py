"""What `evaluate` finds, as ``evaluation.json`` keeps it: written through these models and read back through them."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, Field, ValidationError

from infra.errors import UserError
from infra.facts import Facts, StageMetrics
from infra.json_objects import JsonObject
from pipeline.dedup.removed import RemovedSet

__all__ = [
    "RELEASE",
    "CheckpointMarks",
    "Continuation",
    "EvaluateMetrics",
    "Evaluation",
    "Marks",
    "Sample",
    "SuiteMarks",
    "TaskMarks",
    "read_evaluation",
]

FILE = "evaluation.json"
RELEASE = "release"
"""What the served weights are called among the checkpoints, where they were measured themselves: they are another model
than the last checkpoint."""
TaskMarks = dict[str, int | float | list[float]]
"""Of one task of lm-eval: its measures by the names that the harness gives them, ``NAME_interval`` the limits of their
95 % interval, and `problems`."""


class EvaluateMetrics(StageMetrics):
    """The chief numbers of ``evaluation.json``, as ``MEASURE_CHECKPOINT`` and ``MEASURE_CHECKPOINT_SUITE``."""

    problems: int | None = None


class Marks(Facts):
    """How well problems were solved. Shares; `accuracy_low` and `accuracy_high` limit the 95 % interval."""

    problems: int | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    accuracy_by_task: dict[str, float] | None = None
    format_rate: float | None = None
    """Of answers in the asked-for format,"""
    program_rate: float | None = None
    """and of those that are programs."""
    answer_tokens: float | None = None
    """Mean length."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the accuracy."""
        low, high = self.accuracy_low, self.accuracy_high
        return None if low is None or high is None else (low, high)


class SuiteMarks(Marks):
    """Of one suite; what only one kind of suite has is None in the others."""

    accuracy_normalised: float | None = None
    """Multiple choice: of the likeliest choice per byte."""
    chance: float | None = None
    """Multiple choice: what guessing gets."""
    tasks: dict[str, TaskMarks] | None = None
    """lm-eval: by task."""


class CheckpointMarks(Marks):
    """Of one checkpoint. Sampled measures (``pass@K``, ``maj@K`` and their ``_interval``) are further fields."""

    model_config = ConfigDict(extra="allow")

    samples_per_problem: int | None = None
    sampled_problems: int | None = None
    loss: float | None = None
    """Nats per token of held-out text."""
    bits_per_byte: dict[str, float] = Field(default_factory=dict)
    """Of held-out text, by source."""
    bits_per_byte_domain: float | None = None
    bits_per_byte_general: float | None = None
    suites: dict[str, SuiteMarks] | None = None

    @property
    def sampled(self) -> dict[str, float]:
        """pass@k and maj@k."""
        found = self.model_extra or {}
        return {
            name: value
            for name, value in found.items()
            if name.startswith(("pass@", "maj@")) and not name.endswith("_interval")
        }

    def sampled_interval(self, name: str) -> tuple[float, float]:
        """Limits of the 95 % interval of one of `sampled`."""
        low, high = (self.model_extra or {})[f"{name}_interval"]
        return low, high


class Sample(Facts):
    """One answer of a checkpoint, to be read."""

    checkpoint: str = ""
    question: str = ""
    reasoning: str = ""
    answer: str = ""
    value: str = ""
    """What the answer comes to."""
    program: str = ""
    """How a program ended; empty where the answer is none."""
    expected: str = ""
    correct: bool = False


class Continuation(Facts):
    """What a checkpoint makes of a beginning."""

    checkpoint: str = ""
    prompt: str = ""
    text: str = ""


class Evaluation(Facts):
    """Everything; what an earlier version did not write is empty."""

    checkpoints: dict[str, CheckpointMarks] = Field(default_factory=dict)
    order: list[str] = Field(default_factory=list)
    """Of the checkpoints, as they were trained."""
    samples: list[Sample] = Field(default_factory=list)
    continuations: list[Continuation] = Field(default_factory=list)
    decontamination: dict[str, RemovedSet] = Field(default_factory=dict)
    """By set of problems: what was removed of it from the training text."""
    training_questions_left_out: dict[str, int] = Field(default_factory=dict)
    """By suite."""

    def written(self) -> JsonObject:
        """As JSON values, without what was not measured."""
        return self.model_dump(mode="json", exclude_unset=True)

    def with_release(self, release: Evaluation) -> Evaluation:
        """With what was measured of the served weights behind the checkpoints."""
        if not release.checkpoints:
            return self
        return self.model_copy(
            update={
                "checkpoints": self.checkpoints | release.checkpoints,
                "order": [*self.order, *release.order],
                "samples": [*self.samples, *release.samples],
                "continuations": [*self.continuations, *release.continuations],
            }
        )

    @property
    def ordered(self) -> list[tuple[str, CheckpointMarks]]:
        """The checkpoints as they were trained."""
        return [(name, self.checkpoints[name]) for name in self.order or sorted(self.checkpoints)]


def read_evaluation(folder: Path) -> Evaluation:
    """What the artifact in `folder` says.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / FILE
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: not readable ({error}); make evaluate again") from None
