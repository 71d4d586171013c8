"""Work in a process of its own: what hangs, dies or breaks there costs its own record."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from datatrove.data import Document

from pipeline.sources.stream import Damaged
from pipeline.tasks.guard import BATCH_RECORDS, Budget, guarded, spent

SECONDS = 0.3


def work(payload: Any) -> tuple[str, dict[str, Any], str | None]:
    """Does what it is told."""
    if payload == "spin":
        while True:
            pass
    if payload == "sleep":
        time.sleep(60)
    if payload == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if payload == "leave":
        os._exit(0)
    if payload == "memory":
        return str(len(bytearray(1 << 40))), {}, None
    if payload == "raise":
        raise RecursionError("too deep")
    return str(payload), {"pid": os.getpid()}, None


def _run(payloads: list[Any], seconds: float = SECONDS) -> list[tuple[str, str | None]]:
    jobs = ((Document(text="", id="", metadata={}), payload, None) for payload in payloads)
    return [(document.text, rule) for document, rule in guarded(work, jobs, seconds)]


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ("spin", "failure/timeout"),
        ("crash", "failure/crash"),
        ("leave", "failure/crash"),
        ("memory", "failure/memory"),
        ("raise", "failure/text"),
    ],
)
def test_a_bad_record_costs_itself(bad: str, rule: str) -> None:
    assert _run(["a", bad, "b", bad, bad, "c"]) == [
        ("a", None),
        ("", rule),
        ("b", None),
        ("", rule),
        ("", rule),
        ("c", None),
    ]


def test_a_record_that_waits_for_ever_is_ended_by_the_clock() -> None:
    assert _run(["sleep", "a"], seconds=0.1) == [("", "failure/timeout"), ("a", None)]


def test_batches_keep_the_order_and_what_needs_no_work() -> None:
    jobs = [
        (Document(text="", id=str(n), metadata={}), n if n % 3 else None, None if n % 3 else "rule")
        for n in range(BATCH_RECORDS * 2 + 5)
    ]
    found = list(guarded(work, jobs, SECONDS))
    assert [(document.id, document.text, rule) for document, rule in found] == [
        (str(n), str(n) if n % 3 else "", None if n % 3 else "rule") for n in range(len(jobs))
    ]


def test_damage_comes_after_what_was_read_before_it() -> None:
    def jobs() -> Any:
        yield Document(text="", id="", metadata={}), "a", None
        raise Damaged("here", "broken")

    found = []
    with pytest.raises(Damaged, match="here: broken"):  # noqa: PT012  (what is tested)
        for document, _ in guarded(work, jobs(), SECONDS):
            found.append(document.text)
    assert found == ["a"]


def test_one_process_serves_many_calls() -> None:
    def pid() -> int:
        job = (Document(text="", id="", metadata={}), "a", None)
        return int(next(guarded(work, [job], SECONDS))[0].metadata["pid"])

    assert pid() == pid() != os.getpid()


def test_many_slow_records_do_not_each_have_the_time_of_one() -> None:
    """Of the first the limit is its own second, of the others what so little text should take."""
    budget = Budget(1.0, free=0.5, per_megabyte=1.0)
    jobs = [(Document(text="", id="", metadata={}), "spin", None) for _ in range(9)]
    jobs.append((Document(text="", id="", metadata={}), "fast", None))
    begun = spent()
    found = list(guarded(work, iter(jobs), budget))
    assert [rule for _, rule in found] == ["failure/timeout"] * 9 + [None]
    assert found[1][0].metadata["failure"] == "not done after 0.25 s of processor time"
    assert spent() - begun < 7, "and not nine seconds"
    assert [rule for _, rule in guarded(work, iter(jobs[-1:]), Budget(1.0))] == [None]
