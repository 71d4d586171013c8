"""Runs programs that a model wrote, and judges what it wrote, where they can do no harm.

`run_programs` is the reward of program-of-thought answers (DeepSeekMath, arXiv 2402.03300, section 3.1); `judge`
compares answers by their type, and calls the scorers of reasoning-gym. Each program and each judgement has a process
of its own, forked from one that never saw another's data (`sandbox_worker`), locked before it is given
its job (`lockdown`): no network, no files, no other processes, bounded time, memory and output. Each kind has its own
server to fork them, which has none of this process's environment and ends with it.

What a child does costs its own answer: a program's exit status and output say how that program ended, and a verdict
comes from a process that has run no code of the answer's (`untrusted`).
"""

from __future__ import annotations

import atexit
import functools
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

from infra.json_objects import JsonObject
from pipeline.reasoning.fork_server import Ending, ForkServer, Job, Limits
from pipeline.reasoning.untrusted import MEMORY

__all__ = ["LIMITS", "GymRequest", "Limits", "Outcome", "TypedRequest", "judge", "run_programs"]

LIMITS = Limits()
JUDGE_LIMITS = Limits(seconds=2.0)
_VERDICT = struct.Struct("<d")


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    status: str
    """ok, error (an exception, said in the output), time, memory, output (too much of it) or killed."""
    output: str

    @property
    def is_ok(self) -> bool:
        """Whether it ran to its end."""
        return self.status == "ok"


def run_programs(programs: Sequence[str], limits: Limits = LIMITS) -> list[Outcome]:
    """What each of the Python `programs` prints.

    Raises:
        UserError: this machine cannot lock programs in; none has run then.
    """
    kinds = ["sympy" if "sympy" in program else "program" for program in programs]
    jobs = [Job(_body({"code": program})) for program in programs]
    return [_outcome(ending) for ending in _by_kind(kinds, jobs, limits)]


class TypedRequest(TypedDict):
    """An answer to be compared with the expected one by `pipeline.reasoning.answers`."""

    kind: Literal["typed"]
    answer: str
    expected: str
    answer_type: str | None
    """What the row declares; None has it found."""
    choices: list[str]
    question: NotRequired[str]
    """May name the unit that is asked for."""


class GymRequest(TypedDict):
    """An answer to be marked by a scorer of reasoning-gym."""

    kind: Literal["gym"]
    dataset: str
    answer: str
    entry: JsonObject
    """What the data set knows of the question."""


def judge(requests: Sequence[TypedRequest | GymRequest], limits: Limits = JUDGE_LIMITS) -> list[float]:
    """Marks of the requests. A judge that fails, or takes too long, gives 0."""
    bodies = [_body(request) for request in requests]
    distinct = dict(zip(bodies, requests, strict=True))  # the answers of a group are often the same
    kinds = [request["kind"] for request in distinct.values()]
    jobs = [Job(body, str(request.get("dataset", ""))) for body, request in distinct.items()]
    marks = dict(zip(distinct, map(_mark, _by_kind(kinds, jobs, limits)), strict=True))
    return [marks[body] for body in bodies]


def _body(job: Mapping[str, Any]) -> bytes:
    """A job as it is sent; metadata that JSON does not have costs the judge its sight of that value alone."""
    return json.dumps(job, default=str, skipkeys=True).encode()


@functools.cache
def _server(kind: str) -> ForkServer:
    server = ForkServer(kind)
    atexit.register(server.close)
    return server


def _by_kind(kinds: Sequence[str], jobs: Sequence[Job], limits: Limits) -> list[Ending]:
    """Have each job done by the server of its kind."""
    endings: dict[int, Ending] = {}
    for kind in dict.fromkeys(kinds):
        places = [place for place, other in enumerate(kinds) if other == kind]
        found = _server(kind).run([jobs[place] for place in places], limits)
        endings |= zip(places, found, strict=True)
    return [endings[place] for place in range(len(jobs))]


def _outcome(ending: Ending) -> Outcome:
    if ending.how != "exited":
        return Outcome(ending.how, "")
    status = {0: "ok", MEMORY: "memory"}.get(ending.status, "error")
    return Outcome(status, ending.output.decode("utf-8", errors="replace"))


def _mark(ending: Ending) -> float:
    """The eight bytes of a judge that came to its end; nothing else is a mark."""
    if ending.how != "exited" or ending.status or len(ending.output) != _VERDICT.size:
        return 0.0
    (mark,) = _VERDICT.unpack(ending.output)
    return mark if 0.0 <= mark <= 1.0 else 0.0
