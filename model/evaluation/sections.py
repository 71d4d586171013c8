"""Sections of the stages `evaluate` and `evaluate_release`. Light on purpose: the command line loads them to plan."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from infra.section import Added, ExternalPaths, Section
from model.sections import ServedPrecision

__all__ = ["EvaluateConfig", "EvaluateReleaseConfig", "Suite", "SuiteKind"]


class SuiteKind(StrEnum):
    """What a suite holds."""

    PROBLEMS = "problems"
    """Questions with an exact answer, from files (own, GSM8K's or MATH's form; see docs/domain.md)."""
    CHOICE = "choice"
    """Multiple choice, from files."""
    REASONING_GYM = "reasoning_gym"
    """Questions that reasoning-gym makes."""
    LM_EVAL = "lm_eval"
    """Tasks of EleutherAI's harness, from a folder of its task files; wants the extra lm-eval (see docs/domain.md)."""


class Suite(Section):
    """Further problems that every checkpoint is measured on."""

    kind: SuiteKind = SuiteKind.PROBLEMS
    """What it holds."""
    paths: ExternalPaths = ()
    """JSON, Parquet, Arrow or CSV files, for problems and multiple choice. For lm_eval one local folder of task files
    (YAML) and their data; code that a task file names is run. Name the data in `decontaminate.evaluation_sets` too."""
    tasks: Annotated[tuple[str, ...], Added] = ()
    """Tasks, groups or tags of that folder; all tasks when empty."""
    dataset: str = ""
    """Data set of reasoning-gym."""
    options: dict[str, bool | int | float | str | tuple[str, ...]] = Field(default_factory=dict)
    """Options of that data set."""
    problems: int = Field(1000, ge=1)
    """Most problems that are asked, the first ones; of each task of lm_eval."""
    seed: int = Field(7, ge=0)
    """Of generated problems; another than that of `reasoning`."""
    training_questions: bool = False
    """Ask questions of the training split too. Else they are passed over, with the next ones in their place as far as
    there are; those of lm_eval are asked all the same, and the report says how many they are."""

    @model_validator(mode="after")
    def _complete(self) -> Suite:
        if self.kind is SuiteKind.REASONING_GYM and not self.dataset:
            raise ValueError("kind reasoning_gym wants a dataset")
        if self.kind is not SuiteKind.REASONING_GYM and not self.paths:
            raise ValueError(f"kind {self.kind} wants paths")
        if self.tasks and self.kind is not SuiteKind.LM_EVAL:
            raise ValueError("tasks are of kind lm_eval")
        return self


class EvaluateConfig(Section):
    """What is measured on each checkpoint."""

    problems: int = Field(1000, ge=1)
    """Tasks of the test split that are asked."""
    max_new_tokens: int = Field(1024, ge=1)
    """Most tokens of an answer."""
    temperature: float = Field(0.0, ge=0)
    """0 takes the likeliest token; R1 is evaluated at 0.6."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability (R1: 0.95)."""
    seed: int = Field(0, ge=0)
    """Of the samples, where the temperature is not 0."""
    samples_per_problem: int = Field(0, ge=0)
    """Sampled answers to each problem, for maj@k and pass@k; 0 for none (DeepSeekMath: maj@64)."""
    sampled_problems: int = Field(200, ge=1)
    """Problems of the test split that are sampled so."""
    sampled_temperature: float = Field(0.6, gt=0)
    """Of these samples (R1: 0.6)."""
    sampled_top_p: float = Field(0.95, gt=0, le=1)
    """Of these samples (R1: 0.95)."""
    programs: bool = True
    """Run answers that are one block of Python, sandboxed; what they print is the answer."""
    suites: dict[str, Suite] = Field(default_factory=dict)
    """Further sets by name: GSM8K-style files, multiple choice, data sets of reasoning-gym."""
    domain: tuple[str, ...] = ()
    """Sources whose bits per byte are reported together as the domain's, against all others as general."""
    sequences: int = Field(64, ge=1)
    """Held-out rows of each source that bits per byte are measured on."""
    batch_size: int = Field(64, ge=1)
    """Answers written at once; rows of text go in proportion."""
    samples: int = Field(8, ge=0)
    """Answers of each checkpoint that are kept to be read, to the same questions."""
    prompts: tuple[str, ...] = ("In the beginning", "The city of", "Return the")
    """Beginnings of text that each checkpoint continues."""
    continuation_tokens: int = Field(48, ge=1)
    """Most tokens of a continuation."""


class EvaluateReleaseConfig(EvaluateConfig):
    """What is measured on the served weights. No recipe writes it: it has the keys of `evaluate`, and of `export`."""

    precision: ServedPrecision = ServedPrecision.INT4
    """Which of the quantized models is served."""
