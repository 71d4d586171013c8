"""What a run says where its output is no terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.run import display as module
from flows.run.display import TerminalDisplay
from flows.run.time_left import TimeLeft
from infra.events import Advanced, Begun


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_time_left_is_that_of_the_phase_and_waits_for_a_rate(clock: Clock) -> None:
    told = io.StringIO()
    display = TerminalDisplay(Console(file=told, width=120))
    display.stage_begins("clean", "quality rules", 2, 13)
    clock.now += 60  # starting took a minute, which says nothing about documents
    display.event(Begun(phase="cleaning", total=1000, unit="documents", done=500))
    clock.now += 11
    display.event(Advanced(amount=1))  # nor do the workers' first seconds
    assert told.getvalue().splitlines()[-1] == "  clean (2 of 13) cleaning 501/1,000 documents"
    clock.now += 11
    display.event(Advanced(amount=109))
    assert told.getvalue().splitlines()[-1] == "  clean (2 of 13) cleaning 610/1,000 documents, 39 s left"


def test_a_stage_of_half_a_minute_is_not_said_to_take_hours(clock: Clock) -> None:
    """Workers that start for twelve seconds, and then get through 17 million characters in 25."""
    told = io.StringIO()
    display = TerminalDisplay(Console(file=told, width=120))
    display.stage_begins("extract", "text of the sources", 1, 13)
    display.event(Begun(phase="reading", total=17_700_000, unit="characters"))
    clock.now += 12
    display.event(Advanced(amount=11_600))
    for _ in range(25):
        clock.now += 1
        display.event(Advanced(amount=700_000))
    lines = told.getvalue().splitlines()
    assert "left" not in lines[0]
    assert [line.rpartition(", ")[2] for line in lines[1:]] == ["14 s left", "3 s left"]


def test_the_rate_is_that_of_late(clock: Clock) -> None:
    left = TimeLeft(1000)
    left.advance(1, clock.now)
    assert left.seconds(clock.now + 60) is None, "nothing has been measured yet"
    for _ in range(100):
        clock.now += 1
        left.advance(1, clock.now)
    for _ in range(80):  # five times as fast: of the old rate a sixteenth is left
        clock.now += 1
        left.advance(5, clock.now)
    assert left.seconds(clock.now) == pytest.approx((1000 - 501) / 5, rel=0.12)
    assert left.seconds(clock.now + 60) > 2 * left.seconds(clock.now), "it stands still"
