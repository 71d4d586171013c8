"""What the overview knows of runs that go on, and of those that ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.operations.overview import ProgressReader, overview_page
from infra import events
from infra.events import EventReader
from infra.store import LocalStore
from tests.flows.operations.stores import publish, record


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
    reader = ProgressReader()
    running = {"run": ("clean", path)}
    assert reader.read(running, 0)["run"].done == 0
    events.begin("cleaning", 10, "documents")
    for _ in range(3):
        events.advance(1)
        events.flush()
        last = reader.read(running, 0)["run"]
    assert (last.phase, last.done, last.total) == ("cleaning", 3, 10)
    assert sum(read) == 4  # the beginning, and one for each unit
    path.unlink()
    events.begin("cleaning", 10, "documents")
    events.flush()
    assert reader.read(running, 0)["run"].done == 0


def test_the_first_page_knows_how_long_a_phase_still_takes(tmp_path: Path) -> None:
    """Events say when they were written: nobody has to have looked before."""
    path = tmp_path / "events.jsonl"
    lines: list[dict[str, object]] = [
        {"event": "begin", "phase": "cleaning", "total": 1000, "unit": "documents", "at": 1000.0}
    ]
    lines += [{"event": "advance", "amount": 2, "at": 1060.0 + second} for second in range(101)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = ProgressReader().read({"run": ("clean", path)}, 1160.0)["run"]
    assert (found.done, found.left) == (202, pytest.approx(399))  # two a second
    with path.open("a") as more:
        more.write('{"event": "begin", "phase": "writing", "total": 9, "unit": "files", "at": 1161.0}\n')
    assert ProgressReader().read({"run": ("clean", path)}, 1162.0)["run"].left is None


def test_runs_that_ended_are_forgotten(tmp_path: Path) -> None:
    """A server lives for months: what it keeps is of the runs that go on."""
    store, reader = LocalStore(tmp_path), ProgressReader()
    for number in range(3):
        body = record(store, f"2026112{number}-020000-tiny-beef", {}, state="running", ended=None)
        body["stages"]["extract"] = {"identity": f"{number:016x}", "state": "running", "started": body["started"]}
        store.write_run(body["run_id"], body)
        overview_page(store, {}, reader=reader)
        assert list(reader._followed) == [body["run_id"]]
        store.write_run(body["run_id"], body | {"state": "completed", "ended": body["started"]})
    overview_page(store, {}, reader=reader)
    assert not reader._followed


def test_a_manifest_that_was_out_of_reach_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    publish(store, "evaluate", "a" * 16, metrics={"loss_sft": 1.0, "accuracy_sft": 0.625})
    record(store, "20261127-020000-tiny-beef", {"evaluate": "a" * 16})
    shown = ">62 %<"

    def out_of_reach(*arguments: object) -> None:
        raise OSError("the store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "find", out_of_reach)
        assert shown not in overview_page(store, {})
    assert shown in overview_page(store, {})
