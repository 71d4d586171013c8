"""What the overview has seen of a running stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.operations.overview import Rates
from infra import events
from infra.events import EventReader


def test_events_that_were_read_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    events.flush()  # what another test's stage has counted is nobody's here
    monkeypatch.setenv(events.ENVIRONMENT_KEY, str(path))
    read: list[int] = []
    new = EventReader.new

    def counted(reader: EventReader) -> list[events.Event]:
        found = list(new(reader))
        read.append(len(found))
        return found

    monkeypatch.setattr(EventReader, "new", counted)
    rates = Rates()
    assert rates.follow(path, "clean").done == 0
    events.begin("cleaning", 10, "documents")
    for _ in range(3):
        events.advance(1)
        events.flush()
        last = rates.follow(path, "clean")
    assert (last.phase, last.done, last.total) == ("cleaning", 3, 10)
    assert sum(read) == 4  # the beginning, and one for each unit
    path.unlink()
    events.begin("cleaning", 10, "documents")
    events.flush()
    assert rates.follow(path, "clean").done == 0
