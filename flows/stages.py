"""The table of stages: what each is called, what runs it, and what it reads. The whole graph, at a glance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["ACTIONS", "STAGES", "Family", "Stage", "downstream", "family_stages", "stage", "stage_names"]


class Family(StrEnum):
    """One Prefect flow each."""

    CORPUS = "corpus"
    PRETRAIN = "pretrain"
    FINETUNE = "finetune"
    RELEASE = "release"


@dataclass(frozen=True)
class Stage:
    """One row. The recipe section has the stage's name."""

    name: str
    family: Family
    entrypoint: str
    inputs: tuple[str, ...]
    version: int
    """Raised when the meaning of the artifact changes in a way that older ones must not be reused."""
    title: str


STAGES: tuple[Stage, ...] = (
    Stage("extract", Family.CORPUS, "pipeline.extract:extract", (), 1, "raw files to documents"),
    Stage("clean", Family.CORPUS, "pipeline.clean:clean", ("extract",), 1, "quality rules"),
    Stage("dedup", Family.CORPUS, "pipeline.dedup:dedup", ("clean",), 1, "exact and near duplicates"),
    Stage("reasoning", Family.CORPUS, "pipeline.reasoning:reasoning", (), 1, "problems with chains of thought"),
    Stage(
        "decontaminate",
        Family.CORPUS,
        "pipeline.decontaminate:decontaminate",
        ("dedup", "reasoning"),
        1,
        "no evaluation text in training",
    ),
    Stage(
        "tokenizer",
        Family.CORPUS,
        "pipeline.tokenizer:tokenizer",
        ("decontaminate", "reasoning"),
        1,
        "byte-level BPE",
    ),
    Stage("shards", Family.CORPUS, "pipeline.shards:shards", ("decontaminate", "tokenizer"), 1, "packed token rows"),
    Stage("pretrain", Family.PRETRAIN, "model.training.pretrain:pretrain", ("shards", "tokenizer"), 1, "base model"),
    Stage(
        "sft",
        Family.FINETUNE,
        "model.training.sft:sft",
        ("pretrain", "tokenizer", "reasoning"),
        1,
        "fine-tuned on chains of thought",
    ),
    Stage(
        "grpo",
        Family.FINETUNE,
        "model.rl.grpo:grpo",
        ("sft", "tokenizer", "reasoning"),
        1,
        "reinforced by verified answers",
    ),
    Stage(
        "evaluate",
        Family.FINETUNE,
        "model.evaluate:evaluate",
        ("pretrain", "sft", "grpo", "shards", "reasoning", "tokenizer"),
        1,
        "held-out quality",
    ),
    Stage(
        "quantize",
        Family.RELEASE,
        "model.release.quantize:quantize",
        ("grpo", "shards", "reasoning", "tokenizer"),
        1,
        "8 and 4 bits per weight",
    ),
    Stage(
        "export",
        Family.RELEASE,
        "model.release.export:export",
        ("quantize", "grpo", "evaluate", "tokenizer"),
        1,
        "Hugging Face, GGUF, MLflow",
    ),
)

ACTIONS = ("register", "promote")
"""What the release flow does in the registry after its last stage: not artifacts, but safe to repeat."""

_BY_NAME = {row.name: row for row in STAGES}


def stage(name: str) -> Stage:
    """The row of a stage."""
    return _BY_NAME[name]


def stage_names() -> list[str]:
    """All stages, in the order they run."""
    return [row.name for row in STAGES]


def family_stages(family: Family) -> list[Stage]:
    """The stages of one flow, in order."""
    return [row for row in STAGES if row.family is family]


def downstream(names: Iterable[str]) -> set[str]:
    """The named stages and every stage that reads from them, however far."""
    found = set(names)
    for row in STAGES:  # the table is in order, so one pass is enough; a test holds it
        if found.intersection(row.inputs):
            found.add(row.name)
    return found
