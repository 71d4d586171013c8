"""The page of claims: verdicts from intervals, from this store's studies and from what was recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flows.study.claims import Claim, Verdict, judge, load_claims, write_claims
from flows.study.ladder import Ladder, is_ladder
from flows.study.measures import measure_of
from flows.study.study import STUDIES, load_study, read_study
from infra.errors import UserError

DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def _claim(**changes: object) -> Claim:
    return Claim.model_validate({"claim": "one beats other", "source": "a paper", "study": "pair", "arm": "one",
                                 "than": "other"} | changes)  # fmt: skip


def _recorded(*pairs: tuple[float, float]) -> dict[str, object]:
    arm, than = zip(*pairs, strict=True)
    return {"scale": "small", "where": "somewhere", "arm": arm, "than": than}


@pytest.mark.parametrize(
    ("pairs", "better", "verdict"),
    [
        ([(3.0, 3.1), (3.1, 3.21), (2.9, 3.0)], "lower", Verdict.REPRODUCED),
        ([(3.0, 3.1), (3.1, 3.21), (2.9, 3.0)], "higher", Verdict.CONTRADICTED),
        ([(3.0, 3.1), (3.3, 3.21), (2.9, 3.0)], "lower", Verdict.UNDECIDED),
        ([(3.0, 3.1)], "lower", Verdict.UNDECIDED),
    ],
)
def test_an_interval_decides(tmp_path: Path, pairs: list[tuple[float, float]], better: str, verdict: Verdict) -> None:
    (judged,) = judge([_claim(better=better, recorded=[_recorded(*pairs)])], tmp_path)
    assert judged.verdict is verdict
    confounded = _recorded((3.0, 9.1), (3.1, 9.21), (2.9, 9.0)) | {"confounded": "one learning rate"}
    (judged,) = judge([_claim(better=better, recorded=[_recorded(*pairs), confounded])], tmp_path)
    assert judged.verdict is verdict, "what is confounded is shown, and decides nothing"
    assert [each.confounded for each in judged.evidence] == ["", "one learning rate"]


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([(98.0, 98.2), (97.1, 97.0), (96.2, 96.3)], Verdict.REPRODUCED),
        ([(98.0, 98.2), (97.1, 99.0), (96.2, 96.3)], Verdict.UNDECIDED),
        ([(96.0, 98.2), (97.0, 99.0), (94.2, 96.3)], Verdict.CONTRADICTED),
        ([(99.0, 96.2), (99.1, 96.0), (99.2, 96.3)], Verdict.REPRODUCED),
    ],
)
def test_nothing_lost_is_no_more_lost_than_the_margin(
    tmp_path: Path, pairs: list[tuple[float, float]], verdict: Verdict
) -> None:
    (judged,) = judge([_claim(better="higher", within=1, recorded=[_recorded(*pairs)])], tmp_path)
    assert judged.verdict is verdict


def test_the_stores_own_studies_and_ladders_come_first(tmp_path: Path) -> None:
    study = {"arms": [{"arm": "one", "losses": [3.2, 3.3]}, {"arm": "other", "losses": [3.0, 3.1001]}]}
    (tmp_path / "pair.json").write_text(json.dumps(study))
    ladder = {"arms": [{"arm": "one", "flops": 1e12, "losses": {"0": 2.0, "1": 2.1, "2": 2.0}},
                       {"arm": "other", "flops": 1e12, "losses": {"1": 2.0, "0": 1.9}}]}  # fmt: skip
    (tmp_path / "pair-gpu.json").write_text(json.dumps(ladder))
    (judged,) = judge([_claim(recorded=[_recorded((3.0, 3.1), (3.1, 3.21))])], tmp_path)
    assert [each.link for each in judged.evidence[:2]] == ["pair-gpu.html#arm-one", "pair.html#arm-one"]
    assert judged.evidence[0].scale == "pair-gpu: 1e+12 FLOPs"
    assert [each.seeds for each in judged.evidence] == [2, 2, 2]
    assert judged.evidence[0].difference == pytest.approx(0.1)
    assert [each.verdict for each in judged.evidence[1:]] == [Verdict.CONTRADICTED, Verdict.REPRODUCED]
    assert judged.verdict is Verdict.UNDECIDED, "scales disagree"
    values = {"one": [51.0, 55.0, 58.0], "other": [40.0, 44.5, 47.0]}
    arms = [{"arm": arm, "measures": {"accuracy/program": {"values": each}}} for arm, each in values.items()]
    (tmp_path / "pair.json").write_text(json.dumps({"arms": arms}))
    (judged,) = judge([_claim(measure="accuracy/program", better="higher")], tmp_path)
    assert [(each.link, each.verdict) for each in judged.evidence] == [("pair.html#arm-one", Verdict.REPRODUCED)]
    (tmp_path / "copies").mkdir()
    copy = write_claims([judged], tmp_path / "copies" / "papers.html", f"{tmp_path.as_uri()}/").read_text()
    assert f'<a href="{tmp_path.as_uri()}/pair.html#arm-one">pair.html</a>' in copy
    (tmp_path / "pair.json").write_text("{")
    with pytest.raises(UserError, match="run the study again"):
        judge([_claim()], tmp_path)


def test_the_projects_claims_name_what_there_is(tmp_path: Path) -> None:
    claims = load_claims()
    titles = {line.removeprefix("## ") for line in DOCS.read_text().splitlines() if line.startswith("## ")}
    for claim in claims:
        if claim.study:
            read = read_study(claim.study, Ladder) if is_ladder(claim.study) else load_study(claim.study)
            assert {claim.arm, claim.than} <= read.arms.keys(), claim.claim
            assert claim.better is measure_of(claim.measure).better
            assert claim.measure in getattr(read, "measures", ("loss",)), claim.claim
        for each in claim.recorded:
            assert any(title.startswith(each.where) for title in titles), each.where
            assert len(each.arm) == len(each.than)
    assert (STUDIES / "experts.yaml").exists()
    page = write_claims(judge(claims, tmp_path), tmp_path / "papers.html").read_text()
    assert page.count("<section>") == len(claims)
    assert "Run <code>deepmill study code-first</code>" in page


def test_what_is_recorded_stands_in_the_log() -> None:
    sections = {part.split("\n")[0]: part for part in re.split(r"\n##+ ", DOCS.read_text())}
    ladder = json.loads((DOCS.parent / "studies" / "ladder-gpu.json").read_text())
    losses = {f"{row['measured']['loss']:.4f}" for row in ladder}
    for claim in load_claims():
        for each in claim.recorded:
            (text,) = (part for title, part in sections.items() if title.startswith(each.where))
            told = set(re.findall(r"\d+(?:\.\d+)?", text)) | (losses if "Ladders" in each.where else set())
            for value in (*each.arm, *each.than):
                assert {f"{value:.4f}", f"{value:.1f}", f"{value:g}"} & told, f"{claim.claim}, {each.scale}: {value}"
