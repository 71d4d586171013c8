"""A record of the user's files that holds no JSON, as what reads records passes it on."""

from __future__ import annotations

__all__ = ["Unread"]


class Unread(str):
    """The text of a record that is none."""

    why: str

    def __new__(cls, text: str, why: str) -> Unread:
        found = super().__new__(cls, text)
        found.why = why
        return found
