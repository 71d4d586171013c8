"""What the report shows of a domain: what was gained and forgotten for it, which experts its tasks use, how its suites
were solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.report import charts
from flows.run.records import Point, number
from infra.units import count, percent

__all__ = ["accuracy_by_suite", "experts_of_the_tasks", "gained_and_forgotten"]

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


def experts_of_the_tasks(experts: Mapping[str, Any]) -> tuple[str, str]:
    """Figure and caption of expert-selective fine-tuning, from ``experts.json``: the use of each expert, by layer."""
    use: dict[str, list[Point]] = {}
    trained: list[str] = []
    total = 0
    for layer in sorted(experts, key=lambda name: (len(name), name)):
        found = experts[layer]
        shares = found.get("use") if isinstance(found, Mapping) else None
        chosen = found.get("trained") if isinstance(found, Mapping) else None
        if not isinstance(shares, list) or not isinstance(chosen, list):
            continue
        values = [number({"share": share}, "share") for share in shares]
        use[f"layer {layer}"] = [(float(expert), value) for expert, value in enumerate(values) if value is not None]
        trained.append(f"layer {layer}: {', '.join(map(str, chosen))}")
        total += len(chosen)
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


def accuracy_by_suite(checkpoints: Mapping[str, Mapping[str, Any]], left_out: Any) -> tuple[str, str]:
    """Figure and caption of the evaluation's further suites, and how many training questions each did without."""
    shares: dict[str, dict[str, float]] = {}
    for name, values in checkpoints.items():
        taken = values.get("suites")
        for suite, marks in taken.items() if isinstance(taken, Mapping) else ():
            if (value := number(marks, "accuracy")) is not None:
                shares.setdefault(name, {})[str(suite)] = value
    svg = charts.group_bars("suites", shares, label="Share right of further suites, by checkpoint", form=percent)
    caption = "Intervals and further measures are in samples.html and evaluation.json of the stage evaluate."
    numbers = {suite: number(left_out, suite) for suite in left_out} if isinstance(left_out, Mapping) else {}
    passed = [f"{count(value)} of {suite}" for suite, value in numbers.items() if value]
    if passed:
        caption += f" Left out, for they are training questions: {', '.join(passed)}."
    return svg, caption
