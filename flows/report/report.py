"""The report of a run: one HTML page that needs nothing else, and asks nothing of the network.

Everything in it comes from the run's record and the artifacts it names, so it can be written again at any time. A run
that failed gets the sections that its artifacts allow.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from flows.recipe.stages import STAGES
from flows.report import charts
from flows.report.commands import in_store, next_commands
from flows.report.corpus_figures import corpus_section
from flows.report.domain_figures import (
    accuracy_by_suite,
    expert_uses,
    experts_of_the_tasks,
    gained_and_forgotten,
    text_kept,
)
from flows.report.figures import Chart, Section, chart, section
from flows.report.summary import LAST_CHECKPOINTS, outcome, quantization_points
from flows.report.templating import write_page
from flows.run.record import GateRecord, RunRecord
from flows.run.run_view import Point, Run, StageView
from infra.manifest import split_address
from infra.store import Store
from infra.units import count, decimal, duration, percent, size
from model.facts.evaluation import RELEASE, Sample
from model.facts.training import PretrainMetrics
from pipeline.tasks.ledger import DocumentMetrics
from pipeline.tokens.metrics import ShardMetrics

__all__ = ["write_report"]

ROW = 54
"""Height in pixels of a stage's row, which the lineage beside it must meet."""
SAMPLES_SHOWN = 12
FILES_SHOWN = 50
LAYERS_AS_LINES = 6
SMOOTHING = 0.9


def write_report(record: RunRecord, store: Store, path: Path) -> Path:
    """Write the page of a run to `path`, whole or not at all, and return `path`."""
    run = Run(record, store)
    return write_page(
        path,
        "report.html",
        run=run,
        revision=run.record.revision,
        dirty=run.record.dirty,
        started=_moment(run.record.started),
        cards=list(_cards(run)),
        row=ROW,
        lineage=_lineage(run),
        outcomes={
            stage.name: outcome(stage, run) or (run.error if stage.state == "failed" else stage.why)
            for stage in run.stages
        },
        sections=[made for make in SECTIONS if (made := make(run))],
        samples=_samples(run),
        continuations=run.evaluation.continuations[:SAMPLES_SHOWN],
        gates=[_gate(gate) for gate in run.release.gates],
        recipe=yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True, width=100) if run.recipe else "",
        environment=_environment(run),
        packages=_packages(run),
        commands=[f"{in_store(run)} rerun {shlex.quote(run.run_id)}", *next_commands(run)],
        files_shown=FILES_SHOWN,
    )


def _moment(text: Any) -> str:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC).strftime("%-d %B %Y, %H:%M UTC")
    except ValueError:
        return ""


def _cards(run: Run) -> Iterator[tuple[str, str, str]]:
    """The few numbers at the top: value, what it is, and a remark."""
    first, last = (run.stage(name).measured_as(DocumentMetrics) for name in ("extract", "decontaminate"))
    if last is not None:
        yield count(last.documents_out), "documents kept", f"of {count(first.documents_out)} extracted" if first else ""
    shards = run.stage("shards").measured_as(ShardMetrics)
    if shards is not None:
        yield count(shards.train_tokens), "training tokens", f"{count(seen)} seen" if (seen := _seen(run)) else ""
    base = run.stage("pretrain").measured_as(PretrainMetrics)
    if base is not None and base.parameters is not None:
        active = base.parameters_active
        yield count(base.parameters), "parameters", f"{count(active)} active per token" if active else ""
    for name in LAST_CHECKPOINTS:
        marks = run.evaluation.checkpoints.get(name)
        if marks is not None and marks.accuracy is not None:
            interval = ", {} to {}".format(*map(percent, marks.interval)) if marks.interval else ""
            when = "as it is served" if name == RELEASE else f"after {name}"
            yield percent(marks.accuracy), "problems solved", f"{when}{interval}"
            break
    points = quantization_points(run)
    if points:
        name, length, divergence = points[-1]
        bits = run.quantization.precisions[name].bits_per_weight
        at = f"at {name}, {bits:.1f} bits per weight" if bits else f"at {name}"
        yield size(length), at, f"KL {decimal(divergence)} from {points[0][0]}"
    spent = [stage.cost for stage in run.stages if stage.state == "made" and stage.cost]
    if spent:
        cpu, gpu = (sum(cost.get(name, 0.0) for cost in spent) / 3600 for name in ("cpu_seconds", "gpu_seconds"))
        yield decimal(cpu), "CPU hours", f"{decimal(gpu)} GPU hours" if gpu else "of the stages made"
    if run.seconds is not None:
        saved = run.saved_seconds
        yield duration(run.seconds), "in all", f"{duration(saved)} saved by the cache" if saved >= 1 else ""


def _seen(run: Run) -> float | None:
    base = run.stage("pretrain").measured_as(PretrainMetrics)
    return base.tokens if base else None


def _lineage(run: Run) -> Markup:
    table = {row.name: tuple(each.choices[-1] for each in row.inputs) for row in STAGES}
    nodes = [
        charts.Node(
            stage.name,
            stage.state,
            tuple(split_address(where)[0] for where in stage.manifest.inputs.values())
            if stage.manifest
            else table.get(stage.name, ()),
        )
        for stage in run.stages
    ]
    return Markup(charts.lineage(nodes, row=ROW))


def _smooth(points: list[Point]) -> list[Point]:
    """Exponential moving average, corrected for its start."""
    mean = weight = 0.0
    found = []
    for step, value in points:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        found.append((step, mean / weight))
    return found


def _pretraining(run: Run) -> Section | None:
    series = run.stage("pretrain").history()
    return section(
        "pretraining",
        "Pretraining",
        "The base model, from random weights.",
        _loss("pretrain", series),
        chart(
            "Learning rate",
            charts.lines(
                "rate", {"learning rate": series.get("learning_rate", [])}, label="Learning rate by step", floor=0
            ),
        ),
        chart(
            "Bits per byte",
            charts.lines(
                "bits",
                {"validation": series.get("validation_bits_per_byte", [])},
                label="Validation bits per byte by step",
                dotted=["validation"],
            ),
            "Of held-out text; comparable across tokenizers.",
        ),
        _expert_load(series),
    )


def _loss(name: str, series: Mapping[str, list[Point]]) -> list[Chart]:
    shown = {
        "training": _smooth(series.get("loss", [])),
        "validation": series.get("validation_loss", []),
    }
    svg = charts.lines(f"{name}-loss", shown, label="Training and validation loss by step", dotted=["validation"])
    return chart("Loss", svg, "Nats per token; training is a moving average.")


def _expert_load(series: Mapping[str, list[Point]]) -> list[Chart]:
    start = "expert_load_max/layer_"
    layers = sorted((name.removeprefix(start) for name in series if name.startswith(start)), key=lambda n: (len(n), n))
    greatest = {f"layer {layer}": series[f"{start}{layer}"] for layer in layers}
    caption = "Load of the busiest expert of each layer as a multiple of an even share; 1 is perfect balance."
    if len(layers) > LAYERS_AS_LINES:
        return chart(
            "Expert load",
            charts.heat_map("experts", greatest, label="Load of the busiest expert, by layer", bar_label="× even"),
            caption,
        )
    least = {f"layer {layer}": series.get(f"expert_load_min/layer_{layer}", []) for layer in layers}
    return chart(
        "Expert load",
        charts.lines("experts", greatest, label="Load of the busiest and the idlest expert, by layer", dashed=least),
        "The busiest (solid) and the idlest expert (dashed), as multiples of an even share; 1 is perfect balance.",
    )


GRPO_SERIES: tuple[tuple[str, str, str, Callable[[float], str]], ...] = (
    ("Reward", "Mean of a step's completions.", "reward", decimal),
    ("Accuracy", "Share of completions with the right answer.", "accuracy", percent),
    ("Format", "Share of completions in the asked-for format.", "format", percent),
    ("KL", "Divergence from the reference model, nats per token.", "kl", decimal),
    ("Length", "Tokens per completion.", "length", count),
)


TUNED = ("sft", "dpo", "grpo", "sft_second", "grpo_second")
"""Stages that move a model away from text."""


def _reasoning(run: Run) -> Section | None:
    series = run.stage("grpo").history()
    figures = []
    for title, caption, name, form in GRPO_SERIES:
        both = {"training": series.get(name), "validation": series.get(f"validation_{name}")}
        shown = {place: points for place, points in both.items() if points}
        svg = charts.lines(
            f"grpo-{title.lower()}", shown, label=f"{title} by step", form=form, dotted=["validation"], height=2.1
        )
        figures += chart(f"GRPO: {title.lower()}" if title != "KL" else "GRPO: KL", svg, caption)
    tuned = [
        Chart(f"Fine-tuning: {each.title.lower()}", each.svg, each.caption)
        for each in _loss("sft", run.stage("sft").history())
    ]
    return section(
        "reasoning",
        "Reasoning",
        _taught(run),
        chart("Domain and general text", *gained_and_forgotten(run.stage("continued").history())),
        chart("Experts that the tasks use", *experts_of_the_tasks(expert_uses(run.stage("sft")))),
        tuned,
        figures,
        chart("What fine-tuning did to text", *text_kept({name: run.stage(name).history() for name in TUNED})),
    )


def _taught(run: Run) -> str:
    """How the run taught it, by the stages that it had."""
    ways = {
        "sft": "fine-tuned on chains of thought",
        "dpo": "taught which of two answers people prefer (DPO)",
        "grpo": "reinforced by answers that a program can check (GRPO)",
    }
    found = [text for name, text in ways.items() if run.stage(name).identity]
    told = ", then ".join(found) or "trained on text of its domain"
    return f"{told[0].upper()}{told[1:]}."


def _quality(run: Run) -> Section | None:
    found = run.evaluation.checkpoints
    checkpoints = {name: found[name] for name in reversed(LAST_CHECKPOINTS) if name in found}
    accuracy = [
        (name, marks.accuracy, *(marks.interval or (marks.accuracy, marks.accuracy)))
        for name, marks in checkpoints.items()
        if marks.accuracy is not None
    ]
    problems = next((marks.problems for marks in checkpoints.values() if marks.problems), None)
    bits = {name: marks.bits_per_byte for name, marks in checkpoints.items() if marks.bits_per_byte}
    formats = [(name, marks.format_rate) for name, marks in checkpoints.items() if marks.format_rate is not None]
    points = quantization_points(run)
    return section(
        "quality",
        "Quality",
        "Measured on problems and text that no stage before had seen.",
        chart(
            "Accuracy by checkpoint",
            charts.intervals("accuracy", accuracy, label="Share of held-out problems solved, by checkpoint"),
            f"{count(problems)} held-out problems; 95 % intervals." if problems else "",
        ),
        chart("Accuracy by suite", *accuracy_by_suite(checkpoints, run.evaluation.training_questions_left_out)),
        chart(
            "Size against quality",
            charts.scatter(
                "quantization",
                points,
                label="Bytes and divergence of each precision",
                x_label="bytes",
                y_label="KL, nats per token",
            ),
            "Divergence of the quantized weights from full precision; lower and further left is better.",
        ),
        chart(
            "Answers in the asked-for format",
            charts.bars("format", formats, label="Share of answers in the asked-for format", form=percent),
        ),
        chart(
            "Bits per byte by source",
            charts.group_bars("bits-source", bits, label="Bits per byte of held-out text, by source and checkpoint"),
            "Of held-out text; less is better.",
        ),
    )


def _samples(run: Run) -> list[Sample]:
    """Answers of the most finished checkpoint first."""
    order = {name: place for place, name in enumerate(LAST_CHECKPOINTS)}
    rows = sorted(run.evaluation.samples, key=lambda row: order.get(row.checkpoint, len(order)))
    return rows[:SAMPLES_SHOWN]


def _gate(gate: GateRecord) -> dict[str, str | bool]:
    return {
        "gate": gate.gate,
        "passed": gate.passed,
        "value": "" if gate.value is None else f"{gate.value:.4g}",
        "limit": "" if gate.limit is None else f"{gate.limit:.4g}",
        "text": gate.text,
    }


def _last_made(run: Run) -> StageView | None:
    return next((stage for stage in reversed(run.stages) if stage.manifest), None)


def _environment(run: Run) -> dict[str, str]:
    stage = _last_made(run)
    manifest = stage.manifest if stage else None
    rows = dict(manifest.environment) if manifest else {}
    execution = run.recipe.get("execution")
    if isinstance(execution, Mapping):
        rows |= {f"execution.{key}": str(value) for key, value in execution.items() if value is not None}
    return rows


def _packages(run: Run) -> dict[str, str]:
    """All packages that some stage of the run recorded."""
    found: dict[str, str] = {}
    for stage in run.stages:
        if stage.manifest:
            found |= stage.manifest.packages
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


SECTIONS = (corpus_section, _pretraining, _reasoning, _quality)
