"""What the report shows of a domain: what was gained and forgotten for it, which experts its tasks use, how its suites
were solved."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from flows.report import charts
from flows.run.run_view import Point, StageView
from infra.units import count, percent
from model.facts.evaluation import CheckpointMarks
from model.facts.training import ExpertUse, rise

__all__ = ["accuracy_by_suite", "expert_uses", "experts_of_the_tasks", "gained_and_forgotten", "text_kept"]

LAYERS_NAMED = 8
"""Layers whose trained experts the caption names."""


def gained_and_forgotten(series: Mapping[str, Sequence[Point]]) -> tuple[str, str]:
    """Figure and caption of the stage `continued`, from its history: the domain's bits per byte beside all others'."""
    start = "validation_bits_per_byte_"
    both = {name: series[start + name] for name in ("domain", "general") if series.get(start + name)}
    svg = charts.lines("domain", {name: list(both[name]) for name in both}, label="Bits per byte by step")
    caption = "Bits per byte of held-out text; less is better."
    if "general" in both and both["general"][0][1]:
        change = both["general"][-1][1] / both["general"][0][1] - 1
        caption += f" What the general sources lost: {change:+.2%}."
    return svg, caption


def text_kept(histories: Mapping[str, Mapping[str, Sequence[Point]]]) -> tuple[str, str]:
    """Figure and caption of what fine-tuning did to text, from the histories of its stages in their order."""
    start = "validation_bits_per_byte_"
    bars: dict[str, dict[str, float]] = {}
    worst, told = 0.0, ""
    for stage, series in histories.items():
        read = {
            name.removeprefix(start): points for name, points in series.items() if name.startswith(start) and points
        }
        if not read:
            continue
        if not bars:
            bars[f"before {stage}"] = {source: points[0][1] for source, points in read.items()}
        bars[f"after {stage}"] = {source: points[-1][1] for source, points in read.items()}
        for source, points in read.items():
            rose = rise(points[0][1], points[-1][1]) if points[0][1] else 0.0
            if rose > worst:
                worst, told = rose, f" Most was forgotten of {source} in {stage}: {rose:+.1%}."
    svg = charts.group_bars("text-kept", bars, label="Bits per byte of held-out text, by source and stage")
    return svg, f"Bits per byte of each source's held-out text before and after; less is better.{told}"


def expert_uses(stage: StageView) -> dict[str, ExpertUse]:
    """Contents of a stage's ``experts.json``, by layer, as far as they can be read."""
    found = {}
    for layer, values in stage.json("experts.json").items():
        with contextlib.suppress(ValidationError):
            found[layer] = ExpertUse.model_validate(values)
    return found


def experts_of_the_tasks(experts: Mapping[str, ExpertUse]) -> tuple[str, str]:
    """Figure and caption of expert-selective fine-tuning: the use of each expert, by layer."""
    layers = sorted(experts, key=lambda name: (len(name), name))
    use = {
        f"layer {layer}": [(float(place), share) for place, share in enumerate(experts[layer].use)] for layer in layers
    }
    trained = [f"layer {layer}: {', '.join(map(str, experts[layer].trained))}" for layer in layers]
    total = sum(len(experts[layer].trained) for layer in layers)
    svg = charts.heat_map(
        "experts-used",
        use,
        label="Use of each expert by the tasks",
        bar_label="of a layer",
        x_label="expert",
        form=percent,
    )
    named = "; ".join(trained[:LAYERS_NAMED]) + ("; ..." if len(trained) > LAYERS_NAMED else "")
    return svg, f"Share of the tasks' tokens (or gates) that go to each expert. {total} were trained: {named}."


def accuracy_by_suite(checkpoints: Mapping[str, CheckpointMarks], left_out: Mapping[str, int]) -> tuple[str, str]:
    """Figure and caption of the evaluation's further suites, and how many training questions each did without."""
    shares: dict[str, dict[str, float]] = {}
    for name, marks in checkpoints.items():
        for suite, taken in (marks.suites or {}).items():
            if taken.accuracy is not None:
                shares.setdefault(name, {})[suite] = taken.accuracy
    svg = charts.group_bars("suites", shares, label="Share right of further suites, by checkpoint", form=percent)
    caption = "Intervals and further measures are in samples.html and evaluation.json of the stage evaluate."
    passed = [f"{count(value)} of {suite}" for suite, value in left_out.items() if value]
    if passed:
        caption += f" Left out, for they are training questions: {', '.join(passed)}."
    return svg, caption
