"""The ways a stage may stop that are not bugs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.wanted import wanted

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["DeepmillError", "TransientError", "UserError", "first_line", "first_problem", "is_of_object_store"]

_OF_KEYS = {"missing": "is missing", "extra_forbidden": "no such key"}
"""What pydantic calls what is the matter with a key, in plain words."""


class DeepmillError(Exception):
    """Base of the errors Deepmill raises on purpose; its text is shown to the user without a traceback."""


class UserError(DeepmillError):
    """Something the user can mend. The message is one line that names the file, the record and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class TransientError(DeepmillError):
    """A server that did not answer, or did not keep what it was given: trying again later may mend it."""


def first_line(error: BaseException) -> str:
    """What an error of somebody else's code says, in one line; what kind it is where it says nothing."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def first_problem(error: ValidationError) -> str:
    """What pydantic found wrong first: where in the value, and what."""
    first = error.errors(include_url=False)[0]
    said = _OF_KEYS.get(first["type"]) or wanted(first) or first["msg"].removeprefix("Value error, ")
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), said)))


def is_of_object_store(error: BaseException) -> bool:
    """Whether the client of an object store raised it: no credentials, no such region."""
    return type(error).__module__.startswith(("botocore.", "aiobotocore."))
