"""What became of each character: read, kept, cut out of kept documents, rejected with whole ones.

A reader says of a record how many characters it had and which rules took some of them, in the document's metadata under
`RECORD`; the step that reads the sources takes the entry out again and counts it. A record without an entry had the
characters of its text.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["RECORD", "Record", "note_record", "take_record"]

RECORD = "ledger of the record"
"""Key of a document's metadata between a reader and the step that counts."""


class Record(NamedTuple):
    """A record before it became a document's text."""

    characters: int
    """What it had, decoded: markup included."""
    cut: dict[str, int]
    """Characters that a rule took out, by rule; negative where a rule put some in. What no rule is named for is
    `markup`."""


def note_record(metadata: dict[str, Any], characters: int, **cut: int) -> None:
    """Say of the document with this metadata what its record had, and what rules took of it.

    A record that became several documents is noted with the first of them.
    """
    metadata[RECORD] = (characters, {rule: amount for rule, amount in cut.items() if amount})


def take_record(metadata: dict[str, Any], kept: int) -> Record:
    """Take the entry out of the metadata of a document with `kept` characters of text."""
    characters, cut = metadata.pop(RECORD, (kept, {}))
    return Record(characters, dict(cut))
