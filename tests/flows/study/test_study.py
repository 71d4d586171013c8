"""Studies: arms that cost alike, honest intervals, one flow and one page."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import yaml

from flows.study.cost import training_flops
from flows.study.measures import Better
from flows.study.study import STUDIES, Budget, Study, budgets, contrast, laid_over, load_study, trials
from infra.errors import UserError
from tests.flows.golden import DOCUMENTS, golden
from tests.flows.prepared import prepare_mlflow
from tests.flows.tiny import deepmill, write_recipe


def _study(folder: Path, **changes: object) -> Path:
    fields: dict[str, object] = {
        "base": str(write_recipe(folder)),
        "settings": {"pretrain.steps": 3, "pretrain.validate_every": 2},
        "arms": {"one": {}, "other": {"pretrain.learning_rate": 0.01}},
        "seeds": [0, 1],
    }
    path = folder / "pair.yaml"
    path.write_text(yaml.safe_dump(fields | changes))
    return path


@pytest.mark.parametrize("name", sorted(each.stem for each in STUDIES.glob("*.yaml") if "ladder" not in each.stem))
def test_the_projects_studies_match_their_budgets(name: str) -> None:
    study = load_study(name)
    found = trials(study)
    assert len(found) == len(study.arms) * len(study.seeds)
    costs = budgets(found)
    own = costs[study.reference]
    for arm, cost in costs.items():
        for budget in Budget:
            if budget not in study.unmatched.get(arm, ()):
                assert cost[budget] == pytest.approx(own[budget], rel=0.03), f"{arm}: {budget}"
    trained = [trial.recipe.pretrain for trial in found[: len(study.arms)]]
    assert [config.seed for config in trained if config] == [study.seeds[0]] * len(study.arms)
    assert {config.validation_seed for config in trained if config} == {0}, "the same held-out rows for every seed"
    assert found[0].recipe.has("sft") is not study.only_pretrain
    assert not any(found[0].recipe.has(stage) for stage in ("grpo", "export"))


def test_code_first_is_paid_for_and_pairs_all_its_trainings() -> None:
    study = load_study("code-first")
    found = trials(study)
    assert sum(training_flops(trial.recipe) for trial in found) / 60e9 < 30 * 60, "half an hour, and what comes on top"
    for trial in found:
        sections = (trial.recipe.pretrain, trial.recipe.continued, trial.recipe.sft)
        assert {section.seed for section in sections if section} == {trial.seed}
    general, code, _ = (trial.recipe for trial in found[: len(study.arms)])
    assert general.model_copy(update={"pretrain": None, "name": ""}) == code.model_copy(
        update={"pretrain": None, "name": ""}
    ), "they differ in what the first stage reads alone"
    assert general.pretrain is not None
    assert code.pretrain is not None
    assert general.pretrain.model_copy(update={"mixture": None}) == code.pretrain.model_copy(update={"mixture": None})


def test_other_text_is_laid_over_every_arm() -> None:
    study = laid_over(
        load_study("code-first"),
        ["extract.sources.code={kind: code, paths: [mine/]}", "sft.steps=1e1", "continued.learning_rate=1e-3"],
    )
    for trial in trials(study)[: len(study.arms)]:
        assert trial.recipe.extract.sources["code"].paths == ("mine/",)
        assert trial.recipe.extract.sources["book"].paths == ("data/sample/book",)
        assert trial.recipe.sft is not None
        assert trial.recipe.sft.steps == 10
        assert trial.recipe.continued is None or trial.recipe.continued.learning_rate == 1e-3
    for wrong in ("sft.steps", "=1", "sft.steps={"):
        with pytest.raises(UserError, match=r"write it as section\.key=value"):
            laid_over(study, [wrong])


def test_arms_that_cost_otherwise_are_refused_unless_it_is_said(tmp_path: Path) -> None:
    wide = {"one": {}, "wide": {"pretrain.model.moe_intermediate_size": 64}}
    with pytest.raises(UserError, match=r"wide has 1\.\d\d times the parameters of one"):
        trials(load_study(str(_study(tmp_path, arms=wide))))
    every = {"wide": [str(budget) for budget in Budget]}
    assert trials(load_study(str(_study(tmp_path, arms=wide, unmatched=every))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"one": {}}}, "arms"),
        ({"baseline": "third"}, "third is no arm; there are one, other"),
        ({"arms": {"one": {}, "other": {"pretrain.stepps": 1}}}, r"arm other: .*did you mean steps"),
        ({"seedz": [1]}, "seedz"),
        ({"measures": ["accuracy"]}, "measure accuracy wants evaluate.*only_pretrain: false"),
        ({"measures": ["loss", "loss/dpo"]}, "measure loss/dpo wants dpo"),
        ({"measures": ["loss/pretain"]}, "did you mean pretrain"),
        ({"measures": ["perplexity"]}, "perplexity is no measure; there are loss"),
        ({"measures": ["loss", "loss"]}, "twice"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        trials(load_study(str(_study(tmp_path, **changes))))


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean experts"):
        load_study("expert")


def test_differences_are_paired_by_seed() -> None:
    study = Study(arms={"base": {}, "better": {}, "noise": {}}, seeds=(0, 1, 2))
    losses = {
        "base": {0: 3.0, 1: 3.2, 2: 2.9},
        "better": {0: 2.9, 1: 3.12, 2: 2.79},
        "noise": {0: 3.1, 1: 3.05, 2: 2.96},
    }
    base, better, noise = contrast(study, losses)
    assert base.difference == 0
    assert better.difference == pytest.approx(-0.29 / 3)
    deviation = math.sqrt(sum((d + 0.29 / 3) ** 2 for d in (-0.1, -0.08, -0.11)) / 2)
    assert better.half_width == pytest.approx(4.302653 * deviation / math.sqrt(3))
    assert better.wins == 3
    assert better.verdict == "better than the baseline"
    assert noise.verdict == "not told apart from the baseline"
    _, lower, _ = contrast(study, losses, Better.HIGHER)
    assert (lower.difference, lower.wins, lower.verdict) == (better.difference, 0, "worse than the baseline")
    (_, alone) = contrast(Study(arms={"a": {}, "b": {}}, seeds=(0,)), {"a": {0: 3.0}, "b": {0: 2.0}})
    assert alone.half_width == math.inf
    assert alone.verdict == "not told apart from the baseline"


@pytest.mark.usefixtures("on_prefect")
def test_a_study_runs_as_one_flow_and_writes_one_page(tmp_path: Path) -> None:
    prepare_mlflow(tmp_path / "store")
    golden().lend(tmp_path, (*DOCUMENTS, "tokenizer"))
    path = _study(tmp_path, seeds=[3])
    printed = deepmill(tmp_path, "study", str(path), "--to", str(tmp_path / "page.html"))
    assert "2 runs: 2 arms, 1 seeds" in printed
    page = (tmp_path / "page.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    numbers = json.loads((tmp_path / "store" / "studies" / "pair.json").read_text())
    assert [arm["arm"] for arm in numbers["arms"]] == ["one", "other"]
    one, other = (run["values"]["loss"] for run in numbers["runs"])
    assert one != other
    measured = [arm["measures"]["loss"] for arm in numbers["arms"]]
    assert [arm["values"] for arm in measured] == [[one], [other]]
    assert measured[1]["difference"] == pytest.approx(other - one)
    assert measured[1]["half_width_95"] is None
    made = {
        stage: [f for f in (tmp_path / "store" / stage).iterdir() if f.is_dir()] for stage in ("shards", "pretrain")
    }
    assert (len(made["shards"]), len(made["pretrain"])) == (1, 2), "what the arms share is made once"


@pytest.mark.nightly
@pytest.mark.usefixtures("on_prefect")
def test_a_ladder_is_climbed_goes_on_and_gives_the_same_page(tmp_path: Path) -> None:
    prepare_mlflow(tmp_path / "store")
    rung = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    fields = {
        "base": str(write_recipe(tmp_path)),
        "settings": {"pretrain.initial": {"spread": "fan_in", "by_name": True}, "pretrain.validation_seed": 0},
        "arms": {"dense": {}, "sparse": {"experts": 4, "chosen": 2}},
        "rungs": [rung | {"flops": 5e8, "batch_size": 4}, rung | {"flops": 1e9, "batch_size": 4}],
        "rates": [0.016, 0.032],
        "strengths": [1.0],
        "seeds": [0],
    }
    path = tmp_path / "climb.yaml"
    path.write_text(yaml.safe_dump(fields))
    printed = deepmill(tmp_path, "study", str(path), "--to", str(tmp_path / "first.html"))
    assert "at least 4 runs to sweep, 4 to climb" in printed
    made = sorted((tmp_path / "store" / "pretrain").iterdir())
    page = tmp_path / "store" / "studies" / "climb.html"
    first, numbers = page.read_bytes(), page.with_suffix(".json").read_bytes()
    assert {trial["arm"] for trial in json.loads(numbers)["trials"]} == {"dense", "sparse"}
    shutil.rmtree(next(folder for folder in made if folder.is_dir()))  # as if it had been cut short there
    deepmill(tmp_path, "study", str(path))
    assert [folder.name for folder in sorted((tmp_path / "store" / "pretrain").iterdir())] == [
        folder.name for folder in made
    ]
    again = json.loads(page.with_suffix(".json").read_bytes())["trials"]
    assert [(each["arm"], each["loss"]) for each in again] == [
        (each["arm"], each["loss"]) for each in json.loads(numbers)["trials"]
    ]
    deepmill(tmp_path, "study", str(path))
    rerun = page.read_bytes()
    deepmill(tmp_path, "study", str(path))
    assert page.read_bytes() == rerun, "with nothing left to train, the same bytes"
    assert len(rerun) > len(first) // 2
