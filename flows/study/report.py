"""The page of a study: what each arm costs, how it ended, and whether the difference is more than chance.

One self-contained HTML file and, beside it, the same numbers as JSON.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from flows.report import charts
from flows.report.templating import write_page
from flows.run.record import RunRecord, read_record
from flows.run.run_view import Point, Run
from flows.study.branch import branch_ratios, branch_warning
from flows.study.study import Budget, Contrast, Study, Trial, budgets, contrast
from infra.durable import write_durably
from infra.errors import UserError
from infra.store import Store
from infra.units import count
from model.facts.training import PretrainMetrics

__all__ = ["Comparison", "compare", "comparison_rows", "write_comparison"]


@dataclass(frozen=True)
class Comparison:
    """All that the page shows."""

    study: Study
    costs: Mapping[str, Mapping[Budget, float]]
    contrasts: list[Contrast]
    curves: Mapping[str, list[Point]]
    """Validation loss by step, mean over the seeds."""
    loads: Mapping[str, float]
    """Load of the busiest expert over an even share, mean over layers and seeds, at the end."""
    branches: Mapping[str, float]
    """How strong each arm's feed-forward branch begins, over the dense arm's."""
    runs: list[tuple[str, int, str, float]]
    """Arm, seed, run and final loss."""


def compare(study: Study, found: list[Trial], run_ids: Mapping[tuple[str, int], str], store: Store) -> Comparison:
    """Read the finished runs; UserError when one has no validation loss."""
    curves: dict[str, dict[int, list[Point]]] = {}
    loads: dict[str, list[float]] = {}
    losses: dict[str, dict[int, float]] = {}
    for trial in found:
        run_id = run_ids[trial.arm, trial.seed]
        stage = Run(read_record(store, run_id) or RunRecord(run_id=run_id), store).stage("pretrain")
        points = stage.history().get("validation_loss", [])
        if not points:
            raise UserError(
                f"study {study.name}: run {run_id} has no validation loss; set pretrain.validation_sequences"
            )
        curves.setdefault(trial.arm, {})[trial.seed] = points
        losses.setdefault(trial.arm, {})[trial.seed] = points[-1][1]
        measured = stage.measured_as(PretrainMetrics)
        if measured is not None and measured.busiest_expert is not None:
            loads.setdefault(trial.arm, []).append(measured.busiest_expert)
    return Comparison(
        study=study,
        costs=budgets(found),
        contrasts=contrast(study, losses),
        curves={arm: _mean_curve(list(by_seed.values())) for arm, by_seed in curves.items()},
        loads={arm: statistics.fmean(values) for arm, values in loads.items()},
        branches=branch_ratios({t.arm: t.recipe for t in found if t.seed == study.seeds[0]}, study.reference),
        runs=[(t.arm, t.seed, run_ids[t.arm, t.seed], losses[t.arm][t.seed]) for t in found],
    )


def _mean_curve(curves: list[list[Point]]) -> list[Point]:
    return [(points[0][0], statistics.fmean(value for _, value in points)) for points in zip(*curves, strict=True)]


def comparison_rows(comparison: Comparison) -> list[dict[str, str]]:
    """One row per arm, for tables."""
    return [
        {
            "arm": each.arm,
            "parameters": count(comparison.costs[each.arm][Budget.PARAMETERS]),
            "active": count(comparison.costs[each.arm][Budget.ACTIVE]),
            "FLOP per token": count(comparison.costs[each.arm][Budget.FLOPS]),
            "tokens": count(comparison.costs[each.arm][Budget.TOKENS]),
            "validation loss": f"{each.mean:.4f}",
            "difference": "" if each.arm == comparison.study.reference else _difference(each),
            "better in": "" if each.arm == comparison.study.reference else f"{each.wins} of {len(each.values)} seeds",
            "busiest expert": f"{comparison.loads[each.arm]:.2f} ×" if each.arm in comparison.loads else "",
            "branch at the start": f"{comparison.branches[each.arm]:.2f} ×" if each.arm in comparison.branches else "",
            "verdict": "baseline" if each.arm == comparison.study.reference else each.verdict,
        }
        for each in comparison.contrasts
    ]


def _difference(each: Contrast) -> str:
    half_width = f" ± {each.half_width:.4f}" if each.half_width != float("inf") else ""
    return f"{each.difference:+.4f}{half_width}"


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write the page to `path` and the numbers beside it; returns `path`."""
    curves = charts.lines("study", comparison.curves, label="Validation loss by step", dotted=list(comparison.curves))
    loads = charts.bars("load", list(comparison.loads.items()), label="Load of the busiest expert", form=_times)
    write_page(
        path,
        "study.html",
        study=comparison.study,
        rows=comparison_rows(comparison),
        warning=branch_warning(comparison.branches),
        runs=comparison.runs,
        curves=Markup(curves),
        loads=Markup(loads),
    )
    numbers = {
        "study": comparison.study.model_dump(mode="json"),
        "arms": [
            {
                "arm": each.arm,
                "budget": comparison.costs[each.arm],
                "losses": each.values,
                "difference": each.difference,
                "half_width_95": None if each.half_width == float("inf") else each.half_width,
                "wins": each.wins,
                "busiest_expert": comparison.loads.get(each.arm),
                "branch": comparison.branches.get(each.arm),
            }
            for each in comparison.contrasts
        ],
        "runs": [{"arm": arm, "seed": seed, "run": run, "loss": loss} for arm, seed, run, loss in comparison.runs],
    }
    write_durably(path.with_suffix(".json"), (json.dumps(numbers, indent=2) + "\n").encode("utf-8"))
    return path


def _times(value: float) -> str:
    return f"{value:.2f} ×"
