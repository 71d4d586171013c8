"""The claims of the papers on one page: what was measured for each, and what that allows to say.

A claim names the study and the arms that settle it. What a store's finished studies say comes first; what the project
recorded before stands beside it. A null is a result: it is shown like any other.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import yaml
from pydantic import Field

from flows.report.templating import write_page
from flows.study.measures import Better
from flows.study.study import half_width
from infra.errors import UserError
from infra.json_objects import JsonObject
from infra.section import Section

__all__ = ["Claim", "Evidence", "Judged", "Verdict", "judge", "load_claims", "write_claims"]

CLAIMS = Path(__file__).parent / "claims.yaml"


class Verdict(StrEnum):
    """What the evidence allows to say of a claim."""

    REPRODUCED = "reproduced"
    UNDECIDED = "not told apart"
    CONTRADICTED = "contradicted"
    UNMEASURED = "not measured"


class Recorded(Section):
    """What was measured before, by seed."""

    scale: str
    where: str
    """The section of docs/experiments.md."""
    arm: tuple[float, ...] = Field(min_length=1)
    than: tuple[float, ...] = Field(min_length=1)
    confounded: str = ""
    """What else differed between the arms, where something did: it is shown, and decides nothing."""


class Claim(Section):
    """A sentence of a paper that arms can be held against."""

    claim: str
    source: str
    note: str = ""
    study: str = ""
    """Whose arms settle it."""
    arm: str = ""
    than: str = ""
    measure: str = "loss"
    """Of the study: its number by which the claim stands or falls."""
    better: Better = Better.LOWER
    within: float = Field(0.0, ge=0)
    """How much worse the arm may be and still be as good, in units of the measure: of claims that nothing is lost."""
    recorded: tuple[Recorded, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """An arm against another, by seed."""

    scale: str
    link: str
    """The page of the study, or the section that records it."""
    seeds: int
    difference: float
    half_width: float
    """Of the 95 % interval over paired seeds; infinite with one."""
    verdict: Verdict
    digits: int = 3
    """Behind the point: a loss has three, an accuracy in per cent one."""
    confounded: str = ""
    """Why it decides nothing."""

    @property
    def shown(self) -> str:
        """The difference and its interval."""
        return f"{self.difference:+.{self.digits}f}" + (
            f" ± {self.half_width:.{self.digits}f}" if self.seeds > 1 else ""
        )


@dataclass(frozen=True)
class Judged:
    """A claim and all that there is about it, this store's own first."""

    claim: Claim
    evidence: tuple[Evidence, ...]

    @property
    def verdict(self) -> Verdict:
        """What all of it says: where scales disagree, or none decides, nothing is told apart."""
        said = {each.verdict for each in self.evidence if not each.confounded} - {Verdict.UNDECIDED}
        if not self.evidence:
            return Verdict.UNMEASURED
        return said.pop() if len(said) == 1 else Verdict.UNDECIDED


def load_claims() -> list[Claim]:
    """The claims that come with the project."""
    return [Claim.model_validate(each) for each in yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))["claims"]]


def judge(claims: Sequence[Claim], studies: Path) -> list[Judged]:
    """Every claim with its evidence; `studies` is the folder of a store where finished studies leave their numbers.

    Raises:
        UserError: a study's numbers cannot be read.
    """
    return [Judged(claim, (*_own(claim, studies), *_recorded(claim))) for claim in claims]


def _recorded(claim: Claim) -> list[Evidence]:
    return [
        replace(
            _evidence(claim, each.scale, f"docs/experiments.md, “{each.where}”", each.arm, each.than),
            confounded=each.confounded,
        )
        for each in claim.recorded
    ]


def _own(claim: Claim, studies: Path) -> list[Evidence]:
    """From the study of the claim and its namesakes (``ladder-gpu`` for ``ladder``)."""
    found = []
    for path in sorted(studies.glob(f"{claim.study}*.json")) if claim.study else []:
        numbers = _numbers(path)
        arms = {each["arm"]: each for each in numbers.get("arms", [])}
        if claim.arm not in arms or claim.than not in arms:
            continue
        arm, than = (_by_seed(arms[name], claim.measure) for name in (claim.arm, claim.than))
        seeds = sorted(arm.keys() & than.keys())
        if seeds:
            scale = f"{path.stem}: {arms[claim.arm]['flops']:.2g} FLOPs" if "flops" in arms[claim.arm] else path.stem
            pair = ([arm[seed] for seed in seeds], [than[seed] for seed in seeds])
            found.append(_evidence(claim, scale, f"{path.stem}.html#arm-{claim.arm}", *pair))
    return found


def _numbers(path: Path) -> JsonObject:
    try:
        numbers: JsonObject = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not the numbers of a study ({error}); run the study again") from None
    return numbers


def _by_seed(arm: JsonObject, measure: str) -> dict[int, float]:
    """What a study measures comes in the order of its seeds. A ladder has losses alone, by seed; so had a study of an
    earlier version, in order."""
    measured = arm.get("measures", {"loss": {"values": arm.get("losses", [])}})
    values = measured.get(measure, {}).get("values", [])
    return dict(enumerate(values)) if isinstance(values, list) else {int(seed): loss for seed, loss in values.items()}


def _evidence(claim: Claim, scale: str, link: str, arm: Sequence[float], than: Sequence[float]) -> Evidence:
    paired = [a - b for a, b in zip(arm, than, strict=True)]
    difference, half = statistics.fmean(paired), half_width(paired)
    gain = claim.within + (difference if claim.better is Better.HIGHER else -difference)
    verdict = Verdict.UNDECIDED if abs(gain) <= half else Verdict.REPRODUCED if gain > 0 else Verdict.CONTRADICTED
    digits = 1 if claim.better is Better.HIGHER else 3
    return Evidence(scale, link, len(paired), difference, half, verdict, digits)


def write_claims(judged: Sequence[Judged], path: Path, studies: str = "") -> Path:
    """Write the page to `path`; returns it. `studies` is the address of the folder of the studies' pages, with the
    stroke at its end, where the page is in another one."""
    return write_page(path, "papers.html", judged=judged, verdicts=list(Verdict), studies=studies)
