"""The page of a ladder: compute and time that each arm saves against the dense one, and all that the numbers rest on.

One self-contained HTML file and, beside it, the same numbers as JSON. The same measurements give the same bytes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from markupsafe import Markup
from pydantic import TypeAdapter

from flows.recipe.recipe import Recipe
from flows.report import charts
from flows.report.templating import write_page
from flows.study.branch import branch_ratios, branch_warning
from flows.study.ladder import (
    Ladder,
    LadderTrial,
    Measured,
    Results,
    climbed,
    is_at_edge,
    recipe_of,
    sweep,
    swept_best,
    wanted,
)
from flows.study.law import Law, Multiplier, fit_laws, multiplier
from infra.durable import write_durably
from infra.errors import UserError
from infra.json_objects import JsonObject
from infra.units import count
from model.architecture.config import count_parameters

__all__ = ["Standing", "standings", "write_ladder"]

PAIR = 2
"""Least seeds of an interval, and budgets of a law."""


@dataclass(frozen=True)
class Standing:
    """An arm at the largest budget that it and the baseline were trained at."""

    arm: str
    flops: float
    parameters: int
    active: int
    losses: Mapping[int, float]
    """By seed."""
    compute: Multiplier | None
    """Against the baseline; None for the baseline itself."""
    time: float | None
    """The compute multiplier's value, for the seconds that both took."""
    branch: float | None
    rate: float
    strength: float

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.compute is None:
            return "baseline"
        if self.compute.low > 1:
            slower = self.time is not None and self.time < 1
            return "saves compute" + (", and costs more time than it saves" if slower else "")
        return "costs compute" if self.compute.high < 1 else "not told apart"


def standings(ladder: Ladder, results: Results) -> tuple[list[Standing], dict[str, Law]]:
    """Every arm that has climbed, and the laws.

    Raises:
        UserError: too little has been measured.
    """
    reached = _reached(ladder, results)
    laws = fit_laws(
        {
            arm: {ladder.rungs[rung].flops: _losses(found) for rung, found in rungs.items()}
            for arm, rungs in reached.items()
        }
    )
    plain = reached[ladder.baseline]
    tops = {
        arm: max(rung for rung in rungs if plain.get(rung, {}).keys() & rungs[rung].keys())
        for arm, rungs in reached.items()
    }
    recipes = {arm: recipe_of(ladder, _at(ladder, arm, tops[arm], results)) for arm in reached}
    ratios = branch_ratios(recipes, ladder.baseline)
    standing = []
    for arm, top in tops.items():
        mine, theirs, flops = reached[arm][top], plain[top], ladder.rungs[top].flops
        saved = None if arm == ladder.baseline else multiplier(laws[arm], _losses(mine), _losses(theirs), flops)
        parameters, active = _sizes(recipes[arm])
        best = swept_best(ladder, arm, results)
        standing.append(
            Standing(
                arm=arm,
                flops=flops,
                parameters=parameters,
                active=active,
                losses=_losses(mine),
                compute=saved,
                time=None if saved is None else saved.value * _seconds(theirs) / max(_seconds(mine), 1e-9),
                branch=ratios.get(arm),
                rate=best.rate,
                strength=best.strength,
            )
        )
    return standing, laws


def _reached(ladder: Ladder, results: Results) -> dict[str, dict[int, dict[int, Measured]]]:
    """What was measured by arm, rung and seed, of the arms whose sweep is done and that climbed two rungs."""
    swept = [arm for arm in ladder.arms if all(trial in results for trial in sweep(ladder, arm, results))]
    reached = {
        arm: {rung: found for rung in range(len(ladder.rungs)) if (found := climbed(ladder, arm, rung, results))}
        for arm in swept
    }
    reached = {arm: rungs for arm, rungs in reached.items() if len(rungs) >= PAIR}
    if ladder.baseline not in reached or len(reached) < PAIR:
        raise UserError(f"ladder {ladder.name}: two arms have not climbed two rungs yet; run it again, it goes on")
    return reached


def _sizes(recipe: Recipe) -> tuple[int, int]:
    """Parameters of a trial's model, and those that a token passes."""
    assert recipe.pretrain is not None
    model = recipe.pretrain.model.with_vocabulary(recipe.tokenizer.vocabulary)
    return count_parameters(model), count_parameters(model, active=True)


def _at(ladder: Ladder, arm: str, rung: int, results: Results) -> LadderTrial:
    best = swept_best(ladder, arm, results)
    return LadderTrial(arm, rung, best.strength, best.rate, ladder.seeds[0])


def _losses(found: Mapping[int, Measured]) -> dict[int, float]:
    return {seed: measured.loss for seed, measured in found.items()}


def _seconds(found: Mapping[int, Measured]) -> float:
    return statistics.median(measured.seconds for measured in found.values())


def _interval(saved: Multiplier | None) -> str:
    if saved is None:
        return ""
    high = "∞" if math.isinf(saved.high) else f"{saved.high:.2f}"
    return f"{saved.value:.2f} × ({saved.low:.2f} to {high})"


def result_rows(ladder: Ladder, found: list[Standing]) -> list[dict[str, str]]:
    """One row per arm, for tables."""
    plain = next(each for each in found if each.arm == ladder.baseline)
    return [
        {
            "arm": each.arm,
            "budget": f"{each.flops:.3g} FLOPs",
            "parameters": count(each.parameters),
            "active": count(each.active),
            "validation loss": f"{statistics.fmean(each.losses.values()):.4f}",
            "compute multiplier, 95 %": _interval(each.compute),
            "wall-clock multiplier": "" if each.time is None else f"{each.time:.2f} ×",
            "seeds won": ""
            if each.compute is None
            else f"{sum(value > 1 for value in each.compute.by_seed)} of {len(each.compute.by_seed)}",
            "branch": "" if each.branch is None else f"{each.branch:.2f} ×",
            "verdict": each.verdict,
        }
        for each in [plain, *(each for each in found if each is not plain)]
    ]


def _sweep_rows(ladder: Ladder, results: Results) -> list[dict[str, str]]:
    rows = []
    for arm in ladder.arms:
        trials = [trial for trial in sweep(ladder, arm, results) if trial in results]
        for strength in sorted({trial.strength for trial in trials}):
            line = sorted(trial for trial in trials if trial.strength == strength)
            losses = "; ".join(f"{trial.rate:g}: {results[trial].loss:.4f}" for trial in line)
            rows.append({"arm": arm, "strength": f"{strength:g}", "loss by learning rate": losses})
    return rows


def _rung_rows(ladder: Ladder, results: Results, arms: list[str]) -> list[dict[str, str]]:
    rows = []
    for rung, budget in enumerate(ladder.rungs):
        row = {"budget": f"{budget.flops:.3g}"}
        for arm in arms:
            found = climbed(ladder, arm, rung, results)
            row[arm] = ", ".join(f"{measured.loss:.4f}" for measured in found.values())
        rows.append(row)
    return rows


def _multiplier_rows(ladder: Ladder, results: Results, laws: Mapping[str, Law]) -> list[dict[str, str]]:
    """The compute multiplier on every rung, with the seeds that it rests on."""
    rows = []
    for rung, budget in enumerate(ladder.rungs):
        plain = _losses(climbed(ladder, ladder.baseline, rung, results))
        row = {"budget": f"{budget.flops:.3g}"}
        for arm in (each for each in laws if each != ladder.baseline):
            found = _losses(climbed(ladder, arm, rung, results))
            seeds = len(found.keys() & plain.keys())
            saved = multiplier(laws[arm], found, plain, budget.flops) if seeds else None
            row[arm] = f"{_interval(saved)}, {seeds} seeds" if seeds else ""
        rows.append(row)
    return rows


def warnings(ladder: Ladder, results: Results, found: list[Standing]) -> list[str]:
    """What a reader should know before believing the table."""
    told = [
        f"the best learning rate of {each.arm} is at the edge of its sweep"
        for each in found
        if is_at_edge(ladder, each.arm, results)
    ]
    if left := len(wanted(ladder, results)):
        told.append(f"not finished: {left} trials are still wanted")
    if warning := branch_warning({each.arm: each.branch for each in found if each.branch is not None}, swept=True):
        told.append(warning)
    return told


def write_ladder(ladder: Ladder, results: Results, path: Path) -> Path:
    """Write the page to `path` and the numbers beside it; returns `path`.

    Raises:
        UserError: too little has been measured.
    """
    found, laws = standings(ladder, results)
    arms = [each.arm for each in found]
    curves = {
        arm: [
            (math.log10(ladder.rungs[rung].flops), statistics.fmean(_losses(reached).values()))
            for rung in range(len(ladder.rungs))
            if (reached := climbed(ladder, arm, rung, results))
        ]
        for arm in arms
    }
    ticks = {math.log10(rung.flops): f"{rung.flops:.3g}" for rung in ladder.rungs}
    multipliers, told = _multiplier_rows(ladder, results, laws), warnings(ladder, results, found)
    write_page(
        path,
        "ladder.html",
        ladder=ladder,
        rows=result_rows(ladder, found),
        rungs=_rung_rows(ladder, results, arms),
        multipliers=multipliers,
        sweeps=_sweep_rows(ladder, results),
        laws=laws,
        warnings=told,
        curves=Markup(
            charts.lines("ladder", curves, label="Loss by compute", x_label="FLOPs", dotted=arms, ticks=ticks)
        ),
    )
    numbers: JsonObject = {  # pydantic writes null for an infinity, which JSON has no number for
        "kind": "ladder",
        "ladder": ladder.model_dump(mode="json"),
        "arms": [asdict(each) | {"verdict": each.verdict} for each in found],
        "multipliers": multipliers,
        "laws": {arm: asdict(law) for arm, law in laws.items()},
        "trials": [{**asdict(trial), **asdict(results[trial])} for trial in sorted(results)],
        "warnings": told,
    }
    write_durably(path.with_suffix(".json"), TypeAdapter(JsonObject).dump_json(numbers, indent=2) + b"\n")
    return path
