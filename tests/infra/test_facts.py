"""What is kept as JSON is read back, by whatever version it was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.events import EventReader, Measured, Noted
from infra.facts import Facts, StageMetrics
from infra.json_objects import read_object
from infra.stage_job import Failure, Outcome


class Example(StageMetrics):
    """Metrics of some stage."""

    steps: int | None = None
    loss: float | None = None
    by_source: dict[str, int] | None = None


def test_what_was_not_measured_is_not_written() -> None:
    found = Example(steps=3, loss=0.5, **{"bits_per_byte_wiki": 1.5})  # a name that the data chose
    assert found.written() == {"steps": 3, "loss": 0.5, "bits_per_byte_wiki": 1.5}
    assert found.named("bits_per_byte_wiki") == 1.5
    assert found.named("bits_per_byte_book") is None
    assert Example.read(json.loads(json.dumps(found.written()))) == found


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, Example()),
        ({"steps": 3, "weather": "fine"}, Example(steps=3, **{"weather": "fine"})),
        ({"steps": 3, "loss": float("nan")}, Example(steps=3)),
        ({"steps": "many", "loss": 0.5}, Example(loss=0.5)),
        ({"by_source": {"wiki": {"documents": 3}}, "steps": 1}, Example(steps=1)),
    ],
)
def test_metrics_of_other_versions_are_read_as_far_as_they_go(written: dict[str, object], read: Example) -> None:
    assert Example.read(written) == read


def test_facts_give_what_they_were_given() -> None:
    class Small(Facts):
        right: int | None = None
        wrong: int | None = None

    assert Small(right=1).given() == {"right": 1}
    with pytest.raises(ValueError, match="frozen"):
        Small(right=1).right = 2  # type: ignore[misc]


def test_an_outcome_holds_what_json_has_no_number_for() -> None:
    body = Outcome(metrics={"loss": float("inf"), "parts": {"a": 1}}).written().decode()
    assert Outcome.of(body).metrics == {"loss": float("inf"), "parts": {"a": 1}}
    failed = Outcome(failure=Failure(error="no disk", kind="user"))
    assert Outcome.of(failed.written().decode()) == failed


def test_events_of_a_later_version_and_torn_ones_are_passed_over(tmp_path: Path) -> None:
    lines = [
        {"event": "metrics", "step": 3, "values": {"loss": 2.5}, "at": 1.0},
        {"event": "picture", "pixels": 3},
        {"event": "note"},
        {"event": "note", "text": "done", "colour": "blue"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + 'half\n{"event": "metr'
    (tmp_path / "events.jsonl").write_text(text)
    found = list(EventReader(tmp_path / "events.jsonl").new())
    assert found == [Measured(step=3, values={"loss": 2.5}, at=1.0), Noted(text="done")]


@pytest.mark.parametrize(("text", "says"), [("{", "no valid JSON"), ("[1]", "holds no JSON object but list")])
def test_what_is_no_object_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=f"config.json: {says}"):
        read_object(tmp_path / "config.json")
