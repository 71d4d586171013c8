"""Tables, line by line as in MediaWiki: left out, or a line per row with a bar between cells."""

from __future__ import annotations

import re

from pipeline.sources.wikitext.marks import BREAK, HOLE, Cuts

__all__ = ["without_tables"]

_OPENS = re.compile(r"[\s:]*\{\|")
_ATTRIBUTES = re.compile(r"[^\[\]|]{0,2000}\|(?!\|)")


def without_tables(lines: list[str], cuts: Cuts, *, rows: bool = False) -> list[str]:
    """`lines` with each table replaced by one hole or, if `rows`, by its rows.

    A table that is left open ends before the next heading, or before text after an empty line.
    """
    shown: list[str] = []
    at = 0
    ends = _ends(lines)
    while at < len(lines):
        end = ends.get(at)
        if end is None:
            shown.append(lines[at])
            at += 1
            continue
        table = lines[at:end]
        size = sum(len(line) + 1 for line in table)
        kept = _rows(table) if rows else []
        cuts["tables"] = cuts.get("tables", 0) + size - sum(len(line) + 1 for line in kept)
        shown += ["", *kept, ""] if kept else [""]
        tail = lines[end - 1].lstrip()
        if tail.startswith("|}") and tail[2:].strip():
            shown.append(tail[2:])
        at = end
    return shown


def _ends(lines: list[str]) -> dict[int, int]:
    """Where each outermost table ends (the line after), by the line that it begins with."""
    pairs: dict[int, int] = {}
    begins: list[int] = []
    waiting: list[int] = []
    for number, line in enumerate(lines):
        if "{|" in line[:200] and _OPENS.match(line):
            begins.append(number)
            waiting.append(number)
        elif waiting and line.lstrip().startswith("|}"):
            pairs[waiting.pop()] = number + 1
    ends: dict[int, int] = {}
    until = 0
    for begin in begins:
        if begin >= until:
            until = ends[begin] = pairs.get(begin) or _open_end(lines, begin)
    return ends


def _open_end(lines: list[str], begin: int) -> int:
    empty = False
    for number in range(begin + 1, len(lines)):
        line = lines[number].strip()
        if line.startswith("==") or (empty and line and line[0] not in "|!{"):
            return number
        empty = not line
    return len(lines)


def _rows(table: list[str]) -> list[str]:
    """The rows of a table, each a line; of a table in a cell the cells follow those before."""
    rows: list[str] = []
    cells: list[str] = []

    def end_row() -> None:
        filled = [" ".join(cell.replace(HOLE, "").replace(BREAK, " ").split()) for cell in cells]
        if any(filled):
            rows.append(" | ".join(filled))
        cells.clear()

    for line in table:
        text = line.strip()
        if text.startswith(("{|", "|}", "|-")):
            end_row()
        elif text.startswith("|+"):
            rows.append(_cell(text[2:]))
        elif text.startswith(("|", "!")):
            row = text[1:].replace("!!", "||") if text[0] == "!" else text[1:]
            cells += [_cell(cell) for cell in row.split("||")]
        elif cells:
            cells[-1] += f" {text.lstrip('*#:; ')}"
    end_row()
    return rows


def _cell(text: str) -> str:
    """A cell without its attributes."""
    attributes = _ATTRIBUTES.match(text)
    return text[attributes.end() :].strip() if attributes else text.strip()
