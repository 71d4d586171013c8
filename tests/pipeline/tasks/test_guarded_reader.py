"""Files read in a process of its own: what breaks there is told, what is raised there is raised here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from infra.errors import UserError
from pipeline.sources.stream import Damaged
from pipeline.tasks.guarded_reader import Broken, guarded_items

SECONDS = 0.3


class UnsendableError(OSError):
    """Cannot be made anew from what it holds."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def items(what: str) -> Iterator[Any]:
    """Two items, and then what it is told."""
    yield 1, os.getpid()
    yield 2, os.getpid()
    match what:
        case "spin":
            while True:
                pass
        case "sleep":
            time.sleep(60)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "memory":
            yield len(bytearray(1 << 40))
        case "network":
            raise ConnectionResetError("no answer")
        case "user":
            raise UserError("a line")
        case "damage":
            raise Damaged("here", "broken")
        case "unsendable":
            raise UnsendableError("a", "b")


def _read(what: str) -> tuple[list[int], Exception | None]:
    found = []
    try:
        for number, _ in guarded_items(items, (what,), SECONDS):
            found.append(number)
    except Exception as error:
        return found, error
    return found, None


@pytest.mark.parametrize(
    ("what", "rule"),
    [
        ("spin", "failure/timeout"),
        ("sleep", "failure/timeout"),
        ("crash", "failure/crash"),
        ("memory", "failure/memory"),
    ],
)
def test_what_ends_the_process_is_told_after_what_came_before_it(what: str, rule: str) -> None:
    found, error = _read(what)
    assert found == [1, 2]
    assert isinstance(error, Broken)
    assert error.rule == rule
    assert _read("") == ([1, 2], None), "the next file has a new process"


@pytest.mark.parametrize(
    ("what", "kind", "said"),
    [
        ("user", UserError, "a line"),
        ("damage", Damaged, "here: broken"),
        ("network", ConnectionResetError, "no answer"),
        ("unsendable", OSError, "UnsendableError: ab"),
    ],
)
def test_what_is_raised_there_is_raised_here(what: str, kind: type[Exception], said: str) -> None:
    found, error = _read(what)
    assert (found, type(error), str(error)) == ([1, 2], kind, said)


def test_one_process_serves_many_files_and_two_at_once_have_two() -> None:
    first = {pid for _, pid in guarded_items(items, ("",), SECONDS)}
    assert {pid for _, pid in guarded_items(items, ("",), SECONDS)} == first != {os.getpid()}
    pairs = zip(guarded_items(items, ("",), SECONDS), guarded_items(items, ("",), SECONDS), strict=True)
    assert [(one, two, mine == other) for (one, mine), (two, other) in pairs] == [(1, 1, False), (2, 2, False)]


def test_what_is_not_read_to_its_end_disturbs_nobody() -> None:
    reading = guarded_items(items, ("sleep",), SECONDS)
    assert next(reading)[0] == 1
    reading.close()  # type: ignore[attr-defined]
    assert _read("") == ([1, 2], None)
