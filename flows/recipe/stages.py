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
from pipeline.reasoning.chats import ConversationsMetrics
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
    """One row. The recipe's section has the stage's name, unless `Recipe.section` says otherwise."""

    name: str
    title: str
    family: Family
    entrypoint: str
    inputs: tuple[Input, ...] = ()
    metrics: type[StageMetrics] = DocumentMetrics
    """What its metrics are read through, by whatever version of the stage they were written."""
    version: int = 1
    """Raised when the meaning of the artifact changes in a way that older ones must not be reused."""

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
    Stage("extract", "raw files to documents", Family.CORPUS, "pipeline.extract:extract", version=4),
    Stage("clean", "quality rules", Family.CORPUS, "pipeline.clean.stage:clean", (read("extract"),), version=3),
    Stage(
        "dedup", "exact and near duplicates", Family.CORPUS, "pipeline.dedup.stage:dedup", (read("clean"),), version=3
    ),
    Stage(
        "recall",
        "pages of a field: maths, code",
        Family.CORPUS,
        "pipeline.recall.stage:recall",
        (read("dedup"),),
        metrics=RecallMetrics,
        version=2,
    ),
    Stage(
        "quality",
        "the best by a learned score",
        Family.CORPUS,
        "pipeline.recall.quality:quality",
        (read("recall", "dedup", role="dedup"),),
    ),
    Stage(
        "reasoning",
        "problems with chains of thought",
        Family.CORPUS,
        "pipeline.reasoning.stage:reasoning",
        metrics=ReasoningMetrics,
    ),
    Stage(
        "conversations",
        "conversations of several turns",
        Family.CORPUS,
        "pipeline.reasoning.conversations:conversations",
        (read("reasoning"),),
        metrics=ConversationsMetrics,
    ),
    Stage(
        "decontaminate",
        "no evaluation text in training",
        Family.CORPUS,
        "pipeline.dedup.decontaminate:decontaminate",
        (read("quality", "recall", "dedup", role="dedup"), read("reasoning")),
        metrics=DecontaminateMetrics,
        version=3,
    ),
    Stage(
        "tokenizer",
        "byte-level BPE",
        Family.CORPUS,
        "pipeline.tokens.tokenizer:tokenizer",
        (read("decontaminate"), read("reasoning")),
        metrics=TokenizerMetrics,
        version=3,
    ),
    Stage(
        "shards",
        "packed token rows",
        Family.CORPUS,
        "pipeline.tokens.shards:shards",
        (read("decontaminate"), read("tokenizer")),
        metrics=ShardMetrics,
        version=2,
    ),
    Stage(
        "index",
        "where a text stands in them",
        Family.CORPUS,
        "pipeline.index.stage:index",
        (read("shards"),),
        metrics=IndexMetrics,
        version=2,
    ),
    Stage(
        "pretrain",
        "base model",
        Family.PRETRAIN,
        "model.training.pretrain:pretrain",
        (read("shards"), read("tokenizer")),
        metrics=PretrainMetrics,
    ),
    Stage(
        "student",
        "small base model",
        Family.PRETRAIN,
        "model.training.pretrain:pretrain",
        (read("shards"), read("tokenizer")),
        metrics=PretrainMetrics,
    ),
    Stage(
        "start",
        "a model that exists",
        Family.PRETRAIN,
        "model.training.start:start",
        (read("tokenizer"),),
        metrics=StartMetrics,
    ),
    Stage(
        "continued",
        "base model of a domain",
        Family.PRETRAIN,
        "model.training.continued:continued",
        (read("start", "pretrain", optional=True), read("shards"), read("tokenizer")),
        metrics=ContinuedMetrics,
    ),
    Stage(
        "sft",
        "fine-tuned on chains of thought",
        Family.FINETUNE,
        "model.training.sft:sft",
        (read("continued", "start", "pretrain", role="start"), read("tokenizer"), read("reasoning"), *REPLAYED),
        metrics=SftMetrics,
    ),
    Stage(
        "dpo",
        "taught preferences",
        Family.FINETUNE,
        "model.rl.dpo:dpo",
        (read("sft", "continued", "start", "pretrain", role="start"), read("tokenizer"), read("reasoning"), *REPLAYED),
        metrics=DpoMetrics,
    ),
    Stage(
        "grpo",
        "reinforced by verified answers",
        Family.FINETUNE,
        "model.rl.grpo:grpo",
        (
            read("dpo", "sft", "continued", "start", "pretrain", role="start"),
            read("tokenizer"),
            read("reasoning"),
            *REPLAYED,
        ),
        metrics=GrpoMetrics,
        version=2,
    ),
    Stage(
        "rejection",
        "right answers of its own",
        Family.FINETUNE,
        "model.rl.rejection:rejection",
        (read("grpo", "dpo", "sft", role="start"), read("tokenizer"), read("reasoning")),
        metrics=RejectionMetrics,
    ),
    Stage(
        "distill",
        "student taught by the model",
        Family.FINETUNE,
        "model.training.sft:sft",
        (read("student", role="start"), read("tokenizer"), read("rejection", role="reasoning"), *REPLAYED),
        metrics=SftMetrics,
    ),
    Stage(
        "sft_second",
        "fine-tuned again on its own answers",
        Family.FINETUNE,
        "model.training.sft:sft",
        (
            read("continued", "start", "pretrain", role="start"),
            read("tokenizer"),
            read("rejection", role="reasoning"),
            *REPLAYED,
        ),
        metrics=SftMetrics,
    ),
    Stage(
        "grpo_second",
        "reinforced on all tasks",
        Family.FINETUNE,
        "model.rl.grpo:grpo",
        (read("sft_second", "grpo", "sft", role="start"), read("tokenizer"), read("reasoning"), *REPLAYED),
        metrics=GrpoMetrics,
    ),
    Stage(
        "on_policy",
        "student taught on its own answers",
        Family.FINETUNE,
        "model.rl.on_policy:on_policy",
        (
            read("distill", "student", role="start"),
            read("grpo_second", "sft_second", "grpo", "dpo", "sft", role="teacher"),
            read("tokenizer"),
            read("reasoning"),
            *REPLAYED,
        ),
        metrics=GrpoMetrics,
    ),
    Stage(
        "evaluate",
        "held-out quality",
        Family.FINETUNE,
        "model.evaluation.evaluate:evaluate",
        (
            *(read(name, optional=True) for name in (*reversed(RELEASED), "student", "distill", "on_policy")),
            *(read("shards"), read("reasoning"), read("tokenizer"), read("decontaminate")),
        ),
        metrics=EvaluateMetrics,
        version=4,
    ),
    Stage(
        "quantize",
        "8 and 4 bits per weight",
        Family.RELEASE,
        "model.release.quantize:quantize",
        (
            *(read(*RELEASED, role="model"), read("shards"), read("reasoning"), read("tokenizer")),
            read("conversations", optional=True),
        ),
        metrics=QuantizeMetrics,
        version=3,
    ),
    Stage(
        "evaluate_release",
        "quality of what is served",
        Family.RELEASE,
        "model.evaluation.evaluate:evaluate_release",
        (read("quantize"), read("shards"), read("reasoning"), read("tokenizer"), read("decontaminate")),
        metrics=EvaluateMetrics,
    ),
    Stage(
        "export",
        "Hugging Face, vLLM, GGUF, MLflow",
        Family.RELEASE,
        "model.release.export:export",
        (
            *(read("quantize"), read(*RELEASED, role="model"), read("evaluate"), read("tokenizer")),
            read("evaluate_release", optional=True),
            read("on_policy", "distill", "student", role="student", optional=True),
        ),
        metrics=ExportMetrics,
        version=4,
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
