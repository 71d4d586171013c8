"""The page of a study: how each arm ended by each measure, whether that is more than chance, and what it costs.

One self-contained HTML file and, beside it, the same numbers as JSON.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from flows.report import charts
from flows.report.templating import write_page
from flows.run.record import RunRecord, read_record
from flows.run.run_view import Point, Run
from flows.study.branch import branch_ratios, branch_warning
from flows.study.measures import Measure
from flows.study.study import Budget, Contrast, Study, Trial, budgets, contrast
from infra.durable import write_durably
from infra.json_objects import JsonObject
from infra.store import Store
from infra.units import count
from model.facts.training import PretrainMetrics

__all__ = ["Comparison", "compare", "comparison_rows", "write_comparison"]


@dataclass(frozen=True)
class Comparison:
    """All that the page shows."""

    study: Study
    costs: Mapping[str, Mapping[Budget, float]]
    contrasts: Mapping[str, list[Contrast]]
    """By measure, the one that decides first."""
    curves: Mapping[str, list[Point]]
    """Validation loss by step, mean over the seeds; none where no loss of pretraining is compared."""
    loads: Mapping[str, float]
    """Load of the busiest expert over an even share, mean over layers and seeds, at the end."""
    branches: Mapping[str, float]
    """How strong each arm's feed-forward branch begins, over the dense arm's."""
    runs: list[tuple[str, int, str, list[float]]]
    """Arm, seed, run and its value by each measure."""


def compare(study: Study, found: list[Trial], run_ids: Mapping[tuple[str, int], str], store: Store) -> Comparison:
    """Read the finished runs; UserError when one has not what is measured."""
    curves: dict[str, list[list[Point]]] = {}
    loads: dict[str, list[float]] = {}
    values: dict[str, dict[str, dict[int, float]]] = {name: {arm: {} for arm in study.arms} for name in study.measures}
    for trial in found:
        run_id = run_ids[trial.arm, trial.seed]
        run = Run(read_record(store, run_id) or RunRecord(run_id=run_id), store)
        for measure in study.measured:
            values[measure.name][trial.arm][trial.seed] = measure.value(run)
        pretrained = run.stage("pretrain")
        if "loss" in study.measures:
            curves.setdefault(trial.arm, []).append(pretrained.history()["validation_loss"])
        measured = pretrained.measured_as(PretrainMetrics)
        if measured is not None and measured.busiest_expert is not None:
            loads.setdefault(trial.arm, []).append(measured.busiest_expert)
    return Comparison(
        study=study,
        costs=budgets(found),
        contrasts={each.name: contrast(study, values[each.name], each.better) for each in study.measured},
        curves={arm: _mean_curve(each) for arm, each in curves.items()},
        loads={arm: statistics.fmean(each) for arm, each in loads.items()},
        branches=branch_ratios({t.arm: t.recipe for t in found if t.seed == study.seeds[0]}, study.reference),
        runs=[
            (t.arm, t.seed, run_ids[t.arm, t.seed], [values[name][t.arm][t.seed] for name in study.measures])
            for t in found
        ],
    )


def _mean_curve(curves: list[list[Point]]) -> list[Point]:
    return [(points[0][0], statistics.fmean(value for _, value in points)) for points in zip(*curves, strict=True)]


def comparison_rows(comparison: Comparison, measure: Measure) -> list[dict[str, str]]:
    """One row per arm, for tables: how it ended by `measure`."""
    reference = comparison.study.reference
    return [
        {
            "arm": each.arm,
            measure.label: measure.shown(each.mean),
            "by seed": measure.listed(each.values),
            "difference": "" if each.arm == reference else measure.difference(each.difference, each.half_width),
            "better in": "" if each.arm == reference else f"{each.wins} of {len(each.values)} seeds",
            "verdict": "baseline" if each.arm == reference else each.verdict,
        }
        for each in comparison.contrasts[measure.name]
    ]


def cost_rows(comparison: Comparison) -> list[dict[str, str]]:
    """One row per arm: what it costs, and how it begins."""
    branches, loads = comparison.branches, comparison.loads
    return [
        {
            "arm": arm,
            "parameters": count(cost[Budget.PARAMETERS]),
            "active": count(cost[Budget.ACTIVE]),
            "FLOP per token": count(cost[Budget.FLOPS]),
            "tokens": count(cost[Budget.TOKENS]),
            **({"branch at the start": _times(branches[arm]) if arm in branches else ""} if branches else {}),
            **({"busiest expert": _times(loads[arm]) if arm in loads else ""} if loads else {}),
        }
        for arm, cost in comparison.costs.items()
    ]


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write the page to `path` and the numbers beside it; returns `path`."""
    arms = list(comparison.curves)
    curves = charts.lines("study", comparison.curves, label="Validation loss by step", dotted=arms) if arms else ""
    loads = charts.bars("load", list(comparison.loads.items()), label="Load of the busiest expert", form=_times)
    measured = comparison.study.measured
    write_page(
        path,
        "study.html",
        study=comparison.study,
        results=[(each, comparison_rows(comparison, each)) for each in measured],
        costs=cost_rows(comparison),
        warning=branch_warning(comparison.branches),
        runs=[
            (arm, seed, run, [each.shown(value) for each, value in zip(measured, values, strict=True)])
            for arm, seed, run, values in comparison.runs
        ],
        curves=Markup(curves),
        loads=Markup(loads),
    )
    numbers = {
        "study": comparison.study.model_dump(mode="json"),
        "arms": [
            {
                "arm": arm,
                "budget": cost,
                "measures": {name: _numbers(each, arm) for name, each in comparison.contrasts.items()},
                "busiest_expert": comparison.loads.get(arm),
                "branch": comparison.branches.get(arm),
            }
            for arm, cost in comparison.costs.items()
        ],
        "runs": [
            {"arm": arm, "seed": seed, "run": run, "values": dict(zip(comparison.study.measures, values, strict=True))}
            for arm, seed, run, values in comparison.runs
        ],
    }
    write_durably(path.with_suffix(".json"), (json.dumps(numbers, indent=2) + "\n").encode("utf-8"))
    return path


def _numbers(contrasts: Sequence[Contrast], arm: str) -> JsonObject:
    each = next(each for each in contrasts if each.arm == arm)
    return {
        "values": each.values,
        "difference": each.difference,
        "half_width_95": each.half_width if math.isfinite(each.half_width) else None,
        "wins": each.wins,
        "verdict": each.verdict,
    }


def _times(value: float) -> str:
    return f"{value:.2f} ×"
