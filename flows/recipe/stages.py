"""The table of stages: what each is called, what runs it, and what it reads. The whole graph, at a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from infra.errors import UserError
from infra.facts import StageMetrics
from model.facts.evaluation import EvaluateMetrics
from model.facts.release import ExportMetrics, QuantizeMetrics
from model.facts.training import (
    ContinuedMetrics,
    DpoMetrics,
    GrpoMetrics,
    PretrainMetrics,
    RejectionMetrics,
    SftMetrics,
    StartMetrics,
)
from pipeline.dedup.removed import DecontaminateMetrics
from pipeline.index.card import IndexMetrics
from pipeline.reasoning.conversations import ConversationsMetrics
from pipeline.reasoning.problems import ReasoningMetrics
from pipeline.recall.rounds import RecallMetrics
from pipeline.tasks.ledger import DocumentMetrics
from pipeline.tokens.metrics import ShardMetrics, TokenizerMetrics

__all__ = [
    "ACTIONS",
    "BASES",
    "CHECKPOINTS",
    "STAGES",
    "Family",
    "Input",
    "Node",
    "Stage",
    "StageName",
    "downstream",
    "graph",
    "metrics_of",
    "stage",
    "stage_names",
]


class Family(StrEnum):
    """One Prefect flow each."""

    CORPUS = "corpus"
    PRETRAIN = "pretrain"
    FINETUNE = "finetune"
    RELEASE = "release"


@dataclass(frozen=True)
class Input:
    """One input of a stage."""

    role: str
    """What the stage's function calls it."""
    choices: tuple[str, ...]
    """Stages that can fill the role: the first that the recipe has does."""
    optional: bool = False


def read(*stages: str, role: str = "", optional: bool = False) -> Input:
    """The first of `stages` that the recipe has; the function knows it by its role, or else by the stage's name."""
    return Input(role or stages[0], stages, optional)


@dataclass(frozen=True)
class Stage:
    """One row. The recipe section has the stage's name."""

    name: str
    family: Family
    entrypoint: str
    inputs: tuple[Input, ...]
    version: int
    """Raised when the meaning of the artifact changes in a way that older ones must not be reused."""
    title: str
    metrics: type[StageMetrics] = DocumentMetrics
    """What its metrics are read through, by whatever version of the stage they were written."""

    @property
    def imports(self) -> tuple[str, ...]:
        """What it imports only as it runs, for the ranks of a training do it themselves."""
        return ("torch",) if self.entrypoint.startswith("model.") else ()


@dataclass(frozen=True)
class Node:
    """A stage as it stands in the graph of one recipe."""

    stage: Stage
    inputs: Mapping[str, str]
    """Role to stage."""


RELEASED = ("grpo_second", "sft_second", "grpo", "dpo", "sft", "continued", "start", "pretrain")
"""What is quantized and served: the most finished model."""

BASES = ("start", "pretrain", "continued")
"""What fine-tuning starts from: the first that there is is what a released model may not have forgotten."""

REPLAYED = (read("shards", optional=True), read("conversations", optional=True))
"""What fine-tuning goes on reading, and is measured on."""

STAGES: tuple[Stage, ...] = (
    Stage("extract", Family.CORPUS, "pipeline.extract:extract", (), 4, "raw files to documents"),
    Stage("clean", Family.CORPUS, "pipeline.clean.stage:clean", (read("extract"),), 3, "quality rules"),
    Stage("dedup", Family.CORPUS, "pipeline.dedup.stage:dedup", (read("clean"),), 3, "exact and near duplicates"),
    Stage(
        "recall",
        Family.CORPUS,
        "pipeline.recall.stage:recall",
        (read("dedup"),),
        2,
        "pages of a field: maths, code",
        RecallMetrics,
    ),
    Stage(
        "quality",
        Family.CORPUS,
        "pipeline.recall.quality:quality",
        (read("recall", "dedup", role="dedup"),),
        1,
        "the best by a learned score",
    ),
    Stage(
        "reasoning",
        Family.CORPUS,
        "pipeline.reasoning.stage:reasoning",
        (),
        1,
        "problems with chains of thought",
        ReasoningMetrics,
    ),
    Stage(
        "conversations",
        Family.CORPUS,
        "pipeline.reasoning.conversations:conversations",
        (read("reasoning"),),
        1,
        "conversations of several turns",
        ConversationsMetrics,
    ),
    Stage(
        "decontaminate",
        Family.CORPUS,
        "pipeline.dedup.decontaminate:decontaminate",
        (read("quality", "recall", "dedup", role="dedup"), read("reasoning")),
        3,
        "no evaluation text in training",
        DecontaminateMetrics,
    ),
    Stage(
        "tokenizer",
        Family.CORPUS,
        "pipeline.tokens.tokenizer:tokenizer",
        (read("decontaminate"), read("reasoning")),
        3,
        "byte-level BPE",
        TokenizerMetrics,
    ),
    Stage(
        "shards",
        Family.CORPUS,
        "pipeline.tokens.shards:shards",
        (read("decontaminate"), read("tokenizer")),
        2,
        "packed token rows",
        ShardMetrics,
    ),
    Stage(
        "index",
        Family.CORPUS,
        "pipeline.index.stage:index",
        (read("shards"),),
        2,
        "where a text stands in them",
        IndexMetrics,
    ),
    Stage(
        "pretrain",
        Family.PRETRAIN,
        "model.training.pretrain:pretrain",
        (read("shards"), read("tokenizer")),
        1,
        "base model",
        PretrainMetrics,
    ),
    Stage(
        "student",
        Family.PRETRAIN,
        "model.training.pretrain:pretrain",
        (read("shards"), read("tokenizer")),
        1,
        "small base model",
        PretrainMetrics,
    ),
    Stage(
        "start",
        Family.PRETRAIN,
        "model.training.start:start",
        (read("tokenizer"),),
        1,
        "a model that exists",
        StartMetrics,
    ),
    Stage(
        "continued",
        Family.PRETRAIN,
        "model.training.continued:continued",
        (read("start", "pretrain", optional=True), read("shards"), read("tokenizer")),
        1,
        "base model of a domain",
        ContinuedMetrics,
    ),
    Stage(
        "sft",
        Family.FINETUNE,
        "model.training.sft:sft",
        (read("continued", "start", "pretrain", role="start"), read("tokenizer"), read("reasoning"), *REPLAYED),
        1,
        "fine-tuned on chains of thought",
        SftMetrics,
    ),
    Stage(
        "dpo",
        Family.FINETUNE,
        "model.rl.dpo:dpo",
        (read("sft", "continued", "start", "pretrain", role="start"), read("tokenizer"), read("reasoning"), *REPLAYED),
        1,
        "taught preferences",
        DpoMetrics,
    ),
    Stage(
        "grpo",
        Family.FINETUNE,
        "model.rl.grpo:grpo",
        (
            read("dpo", "sft", "continued", "start", "pretrain", role="start"),
            read("tokenizer"),
            read("reasoning"),
            *REPLAYED,
        ),
        2,
        "reinforced by verified answers",
        GrpoMetrics,
    ),
    Stage(
        "rejection",
        Family.FINETUNE,
        "model.rl.rejection:rejection",
        (read("grpo", "dpo", "sft", role="start"), read("tokenizer"), read("reasoning")),
        1,
        "right answers of its own",
        RejectionMetrics,
    ),
    Stage(
        "distill",
        Family.FINETUNE,
        "model.training.sft:sft",
        (read("student", role="start"), read("tokenizer"), read("rejection", role="reasoning"), *REPLAYED),
        1,
        "student taught by the model",
        SftMetrics,
    ),
    Stage(
        "sft_second",
        Family.FINETUNE,
        "model.training.sft:sft",
        (
            read("continued", "start", "pretrain", role="start"),
            read("tokenizer"),
            read("rejection", role="reasoning"),
            *REPLAYED,
        ),
        1,
        "fine-tuned again on its own answers",
        SftMetrics,
    ),
    Stage(
        "grpo_second",
        Family.FINETUNE,
        "model.rl.grpo:grpo",
        (read("sft_second", "grpo", "sft", role="start"), read("tokenizer"), read("reasoning"), *REPLAYED),
        1,
        "reinforced on all tasks",
        GrpoMetrics,
    ),
    Stage(
        "on_policy",
        Family.FINETUNE,
        "model.rl.on_policy:on_policy",
        (
            read("distill", "student", role="start"),
            read("grpo_second", "sft_second", "grpo", "dpo", "sft", role="teacher"),
            read("tokenizer"),
            read("reasoning"),
            *REPLAYED,
        ),
        1,
        "student taught on its own answers",
        GrpoMetrics,
    ),
    Stage(
        "evaluate",
        Family.FINETUNE,
        "model.evaluation.evaluate:evaluate",
        (
            *(read(name, optional=True) for name in (*reversed(RELEASED), "student", "distill", "on_policy")),
            *(read("shards"), read("reasoning"), read("tokenizer"), read("decontaminate")),
        ),
        4,
        "held-out quality",
        EvaluateMetrics,
    ),
    Stage(
        "quantize",
        Family.RELEASE,
        "model.release.quantize:quantize",
        (
            *(read(*RELEASED, role="model"), read("shards"), read("reasoning"), read("tokenizer")),
            read("conversations", optional=True),
        ),
        3,
        "8 and 4 bits per weight",
        QuantizeMetrics,
    ),
    Stage(
        "export",
        Family.RELEASE,
        "model.release.export:export",
        (read("quantize"), read(*RELEASED, role="model"), read("evaluate"), read("tokenizer")),
        4,
        "Hugging Face, vLLM, GGUF, MLflow",
        ExportMetrics,
    ),
)

ACTIONS = ("register", "promote")
"""What the release flow does in the registry after its last stage: not artifacts, but safe to repeat."""

CHECKPOINTS = ("student", "distill", "on_policy", *reversed(RELEASED))
"""Stages that end in a model, the most finished last; the small model stands apart from the line, before it."""

StageName = StrEnum("StageName", [(row.name, row.name) for row in STAGES])  # type: ignore[misc]
"""The names, as a form offers them."""

_BY_NAME = {row.name: row for row in STAGES}


def stage(name: str) -> Stage:
    """The row of a stage."""
    return _BY_NAME[name]


def metrics_of(name: str) -> type[StageMetrics] | None:
    """The model of a stage's metrics; None for what is no stage, of this version."""
    return _BY_NAME[name].metrics if name in _BY_NAME else None


def entrypoints() -> dict[str, str]:
    """Module and function of each stage."""
    return {stage.name: stage.entrypoint for stage in STAGES}


def stage_names() -> list[str]:
    """All stages, in the order they run."""
    return [row.name for row in STAGES]


def graph(has: Callable[[str], bool]) -> list[Node]:
    """The stages that a recipe has, in order, each with the stages that fill its inputs.

    Raises:
        UserError: the recipe leaves out a stage that another one reads.
    """
    nodes: list[Node] = []
    for row in STAGES:
        if not has(row.name):
            continue
        inputs: dict[str, str] = {}
        for each in row.inputs:
            filled = next((name for name in each.choices if has(name)), None)
            if filled:
                inputs[each.role] = filled
            elif not each.optional:
                needed = " or ".join(each.choices)
                raise UserError(f"{row.name} reads {needed}, which the recipe leaves out; leave out {row.name} as well")
        nodes.append(Node(row, inputs))
    return nodes


def downstream(names: Iterable[str], nodes: Iterable[Node]) -> set[str]:
    """The named stages and every one of `nodes` that reads from them, however far."""
    found = set(names)
    for node in nodes:  # the table is in order, so one pass is enough; a test holds it
        if found.intersection(node.inputs.values()):
            found.add(node.stage.name)
    return found
