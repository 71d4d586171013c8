"""The record of a run: what is written is what is read, by other versions of the code too."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.run.record import GateRecord, RunRecord, StageRecord, find_record, read_record, records, write_record
from infra.errors import UserError
from infra.processes import this_process
from infra.store import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_what_is_written_is_read(store: LocalStore) -> None:
    record = RunRecord(run_id="r1", state="completed", started="2026-11-24T11:46:12+00:00", process=this_process())
    record.stages["sft"] = StageRecord(identity="ab", state="made", seconds=1.5, why="first time")
    record.release.gates = [GateRecord(gate="accuracy", passed=True, value=0.9, limit=0.5, text="0.9 of 0.5")]
    write_record(store, record)
    assert read_record(store, "r1") == record
    assert read_record(store, "r2") is None


def test_records_of_other_versions_are_read(store: LocalStore) -> None:
    store.write_run("old", {"state": "failed", "release": None, "stages": {"sft": {"identity": "ab"}}})
    store.write_run("new", {"run_id": "new", "state": "failed", "weather": "fine", "stages": {"sft": {"mood": 1}}})
    assert [record.run_id for record in records(store)] == ["old", "new"]
    assert find_record(store, "ol").stages["sft"].identity == "ab"


@pytest.mark.parametrize("damage", [{"stages": 3}, {"stages": {"sft": {"seconds": "many"}}}, {"release": "none"}])
def test_a_damaged_record_is_named(store: LocalStore, damage: dict[str, object]) -> None:
    store.write_run("r1", {"run_id": "r1"} | damage)
    with pytest.raises(UserError, match=r"run r1: its record is damaged \(\w+"):
        read_record(store, "r1")


@pytest.mark.parametrize("body", [b'{"state": "run', b"[]", b"\xff{}", b"", b"[" * 100_000], ids=len)
def test_a_record_or_a_note_that_is_none_is_named(store: LocalStore, body: bytes) -> None:
    store.write_run("r1", {})
    store.write_note("n1", {})
    for file, read in (("runs/r1.json", store.read_run), (".notes/n1.json", store.read_note)):
        (store.root / file).write_bytes(body)
        with pytest.raises(UserError, match=rf"{file}: .*; put it back from a copy, or delete it"):
            read(Path(file).stem)


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds"):
        StageRecord().seconds = "long"  # type: ignore[assignment]


def test_a_run_whose_process_is_gone_was_interrupted() -> None:
    here = this_process()
    assert RunRecord(run_id="r", state="running", process=here).state_now == "running"
    gone = RunRecord(run_id="r", state="running", process=here.model_copy(update={"born": "long ago"}))
    assert gone.state_now == "interrupted"
    assert gone.seconds is None


def test_how_long_it_took() -> None:
    record = RunRecord(run_id="r", started="2026-11-24T11:46:12+00:00", ended="2026-11-24T11:50:24+00:00")
    assert record.seconds == 252
    assert RunRecord(run_id="r", started="yesterday").seconds is None
