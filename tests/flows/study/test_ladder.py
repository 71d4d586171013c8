"""Ladders: what is wanted next follows from what was measured, and the page from both."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.recipe.training_plan import plan_training
from flows.study.cost import cost_line, ladder_flops
from flows.study.ladder import (
    Ladder,
    LadderTrial,
    Measured,
    carried_rate,
    climbed,
    is_at_edge,
    recipe_of,
    swept_best,
    wanted,
)
from flows.study.ladder_report import standings, write_ladder
from flows.study.law import Law, fit_laws, multiplier
from flows.study.study import STUDIES, read_study
from infra.errors import UserError

RUNGS = tuple(
    {"flops": flops, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
     "batch_size": 1}
    for flops in (1e10, 3e10, 1e11, 3e11)
)  # fmt: skip
SAVED = {"dense": 1.0, "sparse": 2.0}
"""Compute multipliers of the made-up world."""
BEST = {"dense": 8e-3, "sparse": 2e-3}
"""And its best learning rates."""


def _ladder(**changes: object) -> Ladder:
    fields: dict[str, object] = {
        "arms": {"dense": {}, "sparse": {"experts": 8, "chosen": 2}},
        "rungs": RUNGS,
        "rates": [1e-3, 2e-3, 4e-3],
        "seeds": [0, 1, 2],
        "settings": {"shards.sequence_length": 64, "tokenizer.vocabulary": 512},
    }
    return Ladder.model_validate(fields | changes)


def _world(trial: LadderTrial) -> Measured:
    """A loss that falls with the saved compute, is least at the arm's own rate and strength, and shifts by seed."""
    flops = RUNGS[trial.rung]["flops"] * SAVED[trial.arm]
    rate = BEST[trial.arm] * (RUNGS[trial.rung]["flops"] / 1e10) ** -0.125
    off = 0.05 * abs(math.log2(trial.rate / rate)) + 0.1 * abs(trial.strength - 1)
    noise = 0.02 * trial.seed + 0.001 * ((trial.seed * 7 + trial.rung) % 3) * (trial.arm == "sparse")
    return Measured(loss=1.5 + 60 * flops**-0.15 + off + noise, seconds=3.0 if trial.arm == "sparse" else 2.0)


def _climb(ladder: Ladder) -> dict[LadderTrial, Measured]:
    results: dict[LadderTrial, Measured] = {}
    for _ in range(20):
        if not (trials := wanted(ladder, results)):
            return results
        assert len(set(trials)) == len(trials)
        results |= {trial: _world(trial) for trial in trials}
    raise AssertionError("a ladder has an end")


def test_each_arm_is_swept_beyond_an_edge_and_climbs_at_its_own_rate() -> None:
    ladder = _ladder()
    first = wanted(ladder, {})
    assert {trial.rung for trial in first} == {0}
    assert len(first) == 3 + 2 * 3  # a dense arm has no strength
    results = _climb(ladder)
    dense, sparse = (swept_best(ladder, arm, results) for arm in ladder.arms)
    assert (dense.rate, sparse.rate, sparse.strength) == (8e-3, 2e-3, 1.0)
    assert not is_at_edge(ladder, "dense", results)
    assert max(trial.rate for trial in results if trial.arm == "dense" and trial.rung == 0) == 1.6e-2
    top = [trial for trial in results if trial.rung == 3]
    assert sorted({(trial.arm, trial.rate) for trial in top}) == [("dense", 5.23e-3), ("sparse", 1.31e-3)]
    assert len(top) == 2 * 3
    assert carried_rate(ladder, 1e-3, 0) == 1e-3


def test_an_interrupted_ladder_goes_on_with_the_same_trials() -> None:
    ladder = _ladder()
    whole = _climb(ladder)
    part: dict[LadderTrial, Measured] = {}
    while trials := wanted(ladder, part):
        part[trials[0]] = _world(trials[0])  # one at a time, as if killed after each
    assert part == whole


def test_a_trial_spends_its_budget() -> None:
    ladder = _ladder()
    for arm, rung in itertools.product(ladder.arms, (1, 3)):
        recipe = recipe_of(ladder, LadderTrial(arm, rung, 0.5, 1e-3, 2))
        plan = plan_training(recipe)
        assert plan.tokens * plan.flops_per_token == pytest.approx(ladder.rungs[rung].flops, rel=0.06)
        assert recipe.pretrain is not None
        assert recipe.pretrain.seed == 2
    assert recipe.pretrain is not None
    assert recipe.pretrain.model.routed_scaling_factor == pytest.approx(0.5 * math.sqrt(2), rel=1e-2)
    with pytest.raises(UserError, match="lower batch_size"):
        recipe_of(_ladder(rungs=[{**RUNGS[0], "batch_size": 512}]), LadderTrial("dense", 0, 1.0, 1e-3, 0))


def test_the_page_says_how_much_compute_is_saved(tmp_path: Path) -> None:
    ladder = _ladder(pass_marks=["at least 1.5 times"], description="Infinity is a word")
    results = _climb(ladder)
    (dense, sparse), laws = standings(ladder, results)
    assert dense.verdict == "baseline"
    assert sparse.compute is not None
    assert sparse.compute.value == pytest.approx(2.0, rel=0.1)
    assert 1.2 < sparse.compute.low < sparse.compute.value < sparse.compute.high
    assert sparse.time == pytest.approx(sparse.compute.value * 2 / 3)
    assert sparse.verdict == "saves compute"
    assert laws["dense"].loss(1e11) == pytest.approx(1.52 + 60 * 1e11**-0.15, rel=0.02)
    page = write_ladder(ladder, results, tmp_path / "page.html")
    again = write_ladder(ladder, dict(sorted(results.items(), reverse=True)), tmp_path / "again.html")
    assert page.read_bytes() == again.read_bytes()
    numbers = json.loads(page.with_suffix(".json").read_text())
    assert [arm["verdict"] for arm in numbers["arms"]] == ["baseline", "saves compute"]
    assert numbers["ladder"]["description"] == "Infinity is a word"
    assert "at least 1.5 times" in page.read_text()


def test_a_page_of_a_ladder_that_is_not_done_says_so(tmp_path: Path) -> None:
    ladder = _ladder()
    results = {trial: found for trial, found in _climb(ladder).items() if trial.seed < 2}
    page = write_ladder(ladder, results, tmp_path / "page.html").read_text()
    assert "not finished: 8 trials are still wanted" in page
    with pytest.raises(UserError, match="two rungs"):
        write_ladder(ladder, {}, tmp_path / "none.html")


def test_a_law_is_found_again_and_inverted() -> None:
    law = Law(1.7, 40.0, 0.13)
    laws = fit_laws({arm: {c: {0: law.loss(c * factor)} for c in (1e12, 3e12, 1e13, 3e13, 1e14)}
                     for arm, factor in (("one", 1.0), ("two", 1.8))})  # fmt: skip
    assert laws["one"].floor == pytest.approx(1.7, abs=0.15)
    assert law.flops(law.loss(7e12)) == pytest.approx(7e12)
    assert law.flops(1.0) == math.inf
    base, arm = {s: law.loss(1e14) + s / 100 for s in range(3)}, {s: law.loss(1.8e14) + s / 100 for s in range(3)}
    found = multiplier(laws["two"], arm, base, 1e14)
    assert found.value == pytest.approx(1.8, rel=0.03)
    assert found.low == pytest.approx(found.high)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rungs": [RUNGS[1], RUNGS[0]]}, "must rise"),
        ({"arms": {"sparse": {"experts": 8, "chosen": 2}, "dense": {}}}, "must be dense"),
        ({"arms": {"dense": {}, "odd": {"experts": 8, "chosen": 3}}}, "do not share out a width of 64"),
        ({"arms": {"dense": {}, "odd": {"experts": 2, "chosen": 3}}}, "between 1 and experts"),
    ],
)
def test_mistakes_are_told(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _ladder(**changes)


@pytest.mark.parametrize("name", sorted(path.stem for path in STUDIES.glob("ladder*.yaml")))
def test_the_projects_ladders_cost_what_they_say(name: str) -> None:
    ladder = read_study(name, Ladder)
    for arm, rung in itertools.product(ladder.arms, range(len(ladder.rungs))):
        plan = plan_training(recipe_of(ladder, LadderTrial(arm, rung, ladder.strengths[0], ladder.rates[0], 0)))
        assert plan.tokens * plan.flops_per_token == pytest.approx(ladder.rungs[rung].flops, rel=0.01)


def test_a_ladder_says_what_it_costs() -> None:
    ladder = _ladder()
    assert ladder_flops(ladder) == pytest.approx(sum(RUNGS[trial.rung]["flops"] for trial in _climb(ladder)) - 2 * 1e10)
    told = cost_line(ladder_flops(read_study("ladder", Ladder)))
    assert told.startswith("1.1e+15 operations of training: some 5 h")


def test_climbed_holds_the_seeds_that_there_are() -> None:
    ladder = _ladder()
    results = _climb(ladder)
    assert list(climbed(ladder, "sparse", 2, results)) == [0, 1, 2]
