"""How ranks fail: the errors, and the word that a rank leaves in a file for whoever started it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.durable import write_whole
from infra.errors import DeepmillError, UserError

__all__ = ["PARENT", "RankError", "RankKilledError", "RankReport", "newest_report", "raise_report"]

PARENT = "DEEPMILL_PARENT"
"""Process that a rank must not outlive."""


class RankError(DeepmillError):
    """A rank failed; the text is its traceback."""


class RankKilledError(RankError):
    """A rank or its node went without a word: starting again may help."""


@dataclass(frozen=True)
class RankReport:
    """How a rank failed."""

    rank: int
    ranks: int
    host: str
    attempt: int
    time: float
    is_user_error: bool
    is_lost: bool
    """Whether it fell because the others were gone."""
    message: str
    traceback: str

    def write(self, reports: Path) -> None:
        """Leave it in the folder for whoever started the rank, whole or not at all."""
        write_whole(reports / f"error-{self.attempt}-{self.rank}.json", json.dumps(asdict(self)).encode())


def newest_report(reports: Path) -> RankReport | None:
    """The first failure of the last attempt; a user's mistake before all others."""
    found: list[RankReport] = []
    for path in reports.glob("error-*.json"):
        with contextlib.suppress(ValueError):
            found.append(RankReport(**json.loads(path.read_text(encoding="utf-8"))))
    if not found:
        return None
    users = [report for report in found if report.is_user_error]
    if users:
        return users[0]
    last = max(report.attempt for report in found)
    return min((report for report in found if report.attempt == last), key=lambda report: report.time)


def raise_report(report: RankReport) -> None:
    """Raise what a rank reported.

    Raises:
        UserError: it was a mistake of the user.
        RankKilledError: the rank lost the others, which may be tried again.
        RankError: anything else, with the traceback.
    """
    if report.is_user_error:
        raise UserError(report.message)
    who = f"rank {report.rank} of {report.ranks} on {report.host}"
    if report.is_lost:
        last = report.message.strip().splitlines()[-1]
        raise RankKilledError(f"{who} lost the others: {last}; look at the network and at their nodes")
    raise RankError(f"rank {report.rank} of {report.ranks} failed:\n{report.traceback}")
