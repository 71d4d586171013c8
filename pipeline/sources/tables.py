"""Documents from tables (Parquet, Arrow, CSV), whose rows are decoded in a process of their own.

A row is text and metadata; what cannot be decoded costs the group of rows that it stands in, and reading goes on with
the next group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pipeline.sections import ParquetSource
from pipeline.sources.jsonl import from_row
from pipeline.sources.stream import Damaged, Found, Limits, Part
from pipeline.tasks.documents import Document
from pipeline.tasks.guarded_reader import Broken, guarded_items

__all__ = ["MOST_BROKEN", "ROWS", "WHOLE", "Row", "Rows", "batched", "failed_row", "finished_row", "found_rows"]

Row = tuple[str, dict[str, Any], str | None]
"""Text, metadata, and the rule that rejects it or None."""
ROWS, CHARACTERS = 256, 1_000_000
"""Rows, and characters of text, that go over from the process at once."""
WHOLE = -1
"""In place of the number of a group, where a file has none that could be passed over."""
MOST_BROKEN = 10
"""Groups of rows of a part that may break the process before the rest of it is given up."""


class Rows(NamedTuple):
    """Some rows of a group."""

    group: int
    first: int
    """Number of the first of them in the part, from 1."""
    rows: list[Row]


Decode = Callable[[Any, Part, Limits, int], Iterator[Rows]]
"""From a source, a part of a file, the limits and the first group wanted to the rows from there on; an item without
rows says that a group begins."""


def found_rows(decode: Decode, source: Any, part: Part, limits: Limits) -> Iterator[Found]:
    """The documents of a part, as `decode` has them.

    Raises:
        Damaged: the file breaks off, or too many groups of rows cannot be decoded.
        UserError: there is no text column.
    """
    begun = row = 0
    for _ in range(MOST_BROKEN):
        group = WHOLE
        try:
            for piece in guarded_items(decode, (source, part, limits, begun), limits.seconds):
                group, row = piece.group, piece.first
                for text, metadata, rule in piece.rows:
                    yield Document(text=text, id="", metadata=metadata), rule
                    row += 1
            return
        except Broken as finding:
            if group < begun:  # nothing to go on with
                raise Damaged(f"row {row}", str(finding)) from None
            lost = {"url": "", "row": row, "failure": f"{finding}; the rows of group {group} from {row} on are lost"}
            yield Document(text="", id="", metadata=lost), finding.rule
            begun = group + 1
    raise Damaged(f"row {row}", f"{MOST_BROKEN} groups of rows cannot be decoded")


def batched(group: int, first: int, rows: Iterable[Row]) -> Iterator[Rows]:
    """The rows in pieces that a pipe takes well; where the file breaks off, what stands before that."""
    held: list[Row] = []
    size = 0
    try:
        for row in rows:
            held.append(row)
            size += len(row[0])
            if len(held) >= ROWS or size >= CHARACTERS:
                yield Rows(group, first, held)
                first, held, size = first + len(held), [], 0
    except Damaged:
        if held:
            yield Rows(group, first, held)
        raise
    if held:
        yield Rows(group, first, held)


def finished_row(source: ParquetSource, row: dict[str, Any], place: dict[str, Any], most: int) -> Row:
    """What becomes of the values of a row, of which no text may have more than `most` bytes."""
    found, rule = from_row(source, row, place)
    if len(found.text) * 4 > most and len(found.text.encode("utf-8", "replace")) > most:
        return "", place, "too_large"
    return found.text, found.metadata, rule


def failed_row(place: dict[str, Any], problem: str, rule: str = "failure/encoding") -> Row:
    """A row that cannot be read."""
    return "", place | {"failure": problem}, rule
