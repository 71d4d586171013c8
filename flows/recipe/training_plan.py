"""What `plan` says about the training of a recipe: size, work, memory by layout, time, cost, the scaling laws' view.

Everything is worked out from the recipe; nothing is run and torch is not loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from flows.recipe.recipe import Recipe
from infra.errors import UserError
from infra.execution import Engine, Execution
from infra.units import count, duration, size
from model.architecture.config import ModelConfig, count_parameters
from model.planning.cluster import (
    DEVICES,
    UTILISATION,
    Cluster,
    ScalingAdvice,
    Suggestion,
    scaling_advice,
    suggest,
    training_days,
)
from model.planning.costs import Layout, Memory, flops_per_token, scaled_flops_per_token, training_memory
from model.sections import OptimizerKind

__all__ = ["TrainingPlan", "cluster_of", "layout_table", "plan_training", "show_training", "training_lines"]

SHOWN = 4


@dataclass(frozen=True)
class TrainingPlan:
    """The pretraining of one recipe in numbers."""

    parameters: int
    active: int
    prediction: int
    """Parameters of multi-token prediction, on top."""
    tokens: int
    batch_size: int
    """Sequences."""
    batch_tokens: int
    flops_per_token: float
    learning_rate: float
    advice: ScalingAdvice
    scaled_flops: float
    memory: Memory
    """Of one rank, as the recipe's `execution` has it."""
    layout: Layout
    cluster: Cluster | None
    suggestions: tuple[Suggestion, ...]
    days: float


def cluster_of(text: str, *, per_node: int = 8, utilisation: float | None = None, price: float = 0.0) -> Cluster:
    """A cluster from ``64xh100``; UserError when it is written otherwise or the device is unknown."""
    number, _, kind = text.lower().partition("x")
    if not number.isdigit() or int(number) < 1 or kind not in DEVICES:
        raise UserError(f"--cluster {text}: write it as 8xh100; there are {', '.join(DEVICES)}")
    return Cluster(int(number), DEVICES[kind], per_node, utilisation or UTILISATION, price)


def plan_training(recipe: Recipe, cluster: Cluster | None = None) -> TrainingPlan:
    """Work out the pretraining of `recipe`, on `cluster` if there is one.

    Raises:
        UserError: the recipe leaves pretraining out.
    """
    training, length = recipe.pretrain, recipe.shards.sequence_length
    if training is None:
        raise UserError(f"{recipe.name}: the recipe leaves pretraining out: there is no training to plan")
    config = _resolved(training.model, recipe.tokenizer.vocabulary)
    tokens = training.steps * training.batch_size * length
    wide = recipe.execution.of("pretrain")
    micro = training.micro_batch or training.batch_size
    layout = Layout(
        devices=wide.ranks,
        expert_parallel=wide.expert_parallel if config.moe_layers else 1,
        zero=_zero(wide, training.optimizer),
        rows=max(1, micro // wide.ranks),
        accumulation=training.batch_size // micro,
        recompute=wide.recompute,
    )
    suggestions = suggest(config, length, training.batch_size, cluster) if cluster else []
    recompute = bool(suggestions) and suggestions[0].layout.recompute
    total = count_parameters(config)
    scaled = scaled_flops_per_token(config, length)
    return TrainingPlan(
        parameters=total,
        active=count_parameters(config, active=True),
        prediction=count_parameters(config, prediction=True) - total,
        tokens=tokens,
        batch_size=training.batch_size,
        batch_tokens=training.batch_size * length,
        flops_per_token=flops_per_token(config, length),
        learning_rate=training.learning_rate,
        advice=scaling_advice(scaled * tokens),
        scaled_flops=scaled,
        memory=training_memory(config, length, layout, documents=training.document_mask),
        layout=layout,
        cluster=cluster,
        suggestions=tuple(suggestions),
        days=training_days(config, length, tokens, cluster, recompute=recompute) if cluster else 0.0,
    )


def _zero(wide: Execution, optimizer: OptimizerKind) -> int:
    """The ZeRO stage that the engine would take."""
    if wide.ranks == 1 and wide.engine is not Engine.DEEPSPEED:
        return 0
    if wide.zero is not None:
        return wide.zero
    return 0 if optimizer is OptimizerKind.MUON else 1


def _resolved(model: ModelConfig, vocabulary: int) -> ModelConfig:
    """The architecture with the vocabulary that the tokenizer is asked for."""
    return model if model.vocab_size else model.model_copy(update={"vocab_size": vocabulary})


def training_lines(plan: TrainingPlan) -> list[str]:
    """The plan as sentences, one aspect each."""
    more = f", and {count(plan.prediction)} for multi-token prediction" if plan.prediction else ""
    advice = plan.advice
    lines = [
        f"{count(plan.parameters)} parameters, {count(plan.active)} active{more}",
        f"{count(plan.tokens)} tokens in batches of {count(plan.batch_tokens)}; {count(plan.flops_per_token)}FLOP per "
        f"token, {plan.flops_per_token * plan.tokens:.2e} in all",
        *([] if plan.cluster else [_memory_line(plan)]),
        f"scaling laws (DeepSeek-LLM, fitted to dense models) for this much compute: learning rate "
        f"{advice.learning_rate:.2g} (recipe: {plan.learning_rate:.2g}), batch {count(advice.batch_tokens)} tokens, "
        f"{count(advice.tokens)} tokens through a model of {count(advice.flops_per_token)}FLOP per token "
        f"(recipe: {count(plan.scaled_flops)})",
    ]
    cluster = plan.cluster
    if cluster is None:
        return lines
    if not plan.suggestions:
        return [*lines, _why_nothing_fits(plan, cluster)]
    hours = plan.days * 24 * cluster.devices
    cost = f", {hours * cluster.price:,.0f} at {cluster.price:g} an hour" if cluster.price else ""
    return [
        *lines,
        f"{cluster.devices} devices at {cluster.utilisation:.0%} of their peak: {duration(plan.days * 86_400)}, "
        f"{count(hours)} device hours{cost}",
    ]


def _memory_line(plan: TrainingPlan) -> str:
    one = plan.memory
    ranks = f"{plan.layout.devices} rank{'s' if plan.layout.devices > 1 else ''}, {_layout(plan.layout)}"
    return (
        f"memory of a rank as the recipe has it ({ranks}): {size(one.peak)} at the peak; weights {size(one.weights)}, "
        f"gradients {size(one.gradients)}, optimizer {size(one.optimizer)}, activations {size(one.activations)}, "
        f"logits {size(one.logits)}"
    )


def _why_nothing_fits(plan: TrainingPlan, cluster: Cluster) -> str:
    if plan.batch_size % cluster.devices:
        fitting = next(number for number in range(cluster.devices, 0, -1) if plan.batch_size % number == 0)
        return (
            f"{plan.batch_size} sequences of a batch do not divide among {cluster.devices} devices; {fitting} would do"
        )
    return f"no layout fits {size(cluster.device.memory)} a device; take more devices, or larger ones"


def _layout(layout: Layout) -> str:
    parts = [f"ep {layout.expert_parallel}"] if layout.expert_parallel > 1 else []
    parts += [f"ZeRO-{layout.zero}"] if layout.zero else []
    parts.append(f"{layout.rows} row{'s' if layout.rows > 1 else ''}")
    return ", ".join(parts) + (" *" if layout.recompute else "")


def layout_table(plan: TrainingPlan) -> Table:
    """The best layouts of a cluster, best first: memory of a device and the time of a step."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in ("layout", "peak", "weights", "grads", "Adam", "kept", "logits", "step"):
        table.add_column(column, justify="left" if column == "layout" else "right", no_wrap=True)
    for each in _distinct(plan.suggestions):
        memory = each.memory
        table.add_row(
            _layout(each.layout),
            *(size(value) for value in (memory.peak, memory.weights, memory.gradients, memory.optimizer)),
            *(size(value) for value in (memory.activations, memory.logits)),
            duration(each.step_seconds),
        )
    return table


def _distinct(suggestions: tuple[Suggestion, ...]) -> list[Suggestion]:
    """The best of each combination of expert parallelism and ZeRO."""
    best: dict[Any, Suggestion] = {}
    for each in suggestions:
        best.setdefault((each.layout.expert_parallel, each.layout.zero), each)
    return list(best.values())[:SHOWN]


def show_training(recipe: Recipe, cluster: Cluster | None, console: Console) -> None:
    """Print what the pretraining of `recipe` takes."""
    plan = plan_training(recipe, cluster)
    console.print("\n[bold]training[/]")
    for line in training_lines(plan):
        console.print(Padding(line, (0, 0, 0, 2)))
    if plan.suggestions:
        console.print(layout_table(plan))
        console.print("[dim]of one device; kept: activations, * recomputed in the backward pass[/]")
