"""What a run says where its output is no terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.run import display as module
from flows.run.display import TerminalDisplay
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
    clock.now += 1
    display.event(Advanced(amount=1))
    assert told.getvalue() == "  clean cleaning 500/1,000 documents\n"
    clock.now += 10
    display.event(Advanced(amount=109))
    assert told.getvalue().splitlines()[-1] == "  clean cleaning 610/1,000 documents, 39 s left"
