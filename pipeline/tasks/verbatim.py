"""Stretches of a document in which every character counts: preformatted text, of which no rule may cut or mend a part.

A reader says where they are in the document's metadata under `VERBATIM`, as pairs of the first character and that after
the last; whatever changes the text outside them writes down where they have come to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["Spans", "note_verbatim", "outside", "places_of", "verbatim_of"]

VERBATIM = "verbatim"
Spans = list[tuple[int, int]]


def note_verbatim(metadata: dict[str, Any], spans: Iterable[tuple[int, int]]) -> None:
    """Say of the document with this metadata where its text is verbatim; spans are in order and do not overlap."""
    found = [[begin, end] for begin, end in spans if begin < end]
    if found:
        metadata[VERBATIM] = found
    else:
        metadata.pop(VERBATIM, None)


def verbatim_of(metadata: Mapping[str, Any]) -> Spans:
    """Where the text of the document with this metadata is verbatim."""
    return [(begin, end) for begin, end in metadata.get(VERBATIM, ())]


def places_of(text: str, parts: Iterable[str]) -> Spans:
    """Where `parts`, which follow one another in `text`, are in it; those that are not there are passed over."""
    spans: Spans = []
    at = 0
    for part in parts:
        begin = text.find(part, at)
        if part and begin >= 0:
            at = begin + len(part)
            spans.append((begin, at))
    return spans


def outside(text: str, spans: Spans, change: Callable[[str], str]) -> tuple[str, Spans]:
    """`text` with all but its verbatim spans changed, and where these have come to be."""
    if not spans:
        return change(text), []
    pieces: list[str] = []
    moved: Spans = []
    length = done = 0
    for begin, end in spans:
        for piece in (change(text[done:begin]), text[begin:end]):
            pieces.append(piece)
            length += len(piece)
        moved.append((length - (end - begin), length))
        done = end
    return "".join([*pieces, change(text[done:])]), moved
