"""Lines of wikitext to lines of text: headings and their sections, lists, quotes, white space."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from pipeline.sources.wikitext.entities import decoded
from pipeline.sources.wikitext.holes import closed
from pipeline.sources.wikitext.marks import BREAK, HOLE, Cuts, Kept

__all__ = ["text_of_lines"]

_LIST = re.compile(r"[*#:;]{1,30}")
"""Lists within lists; what is deeper is text."""
_CODE = re.compile(r"#(?:!/|(?:include\s*(?:<|&lt;|\"|&quot;)|(?:define|undef|ifdef|ifndef)\s+\w|(?:endif|pragma)\b))")
"""Lines of C and of shells that look like items of a list, and nearly never are."""
_QUOTES = re.compile(r"('{2,})")
_COLON = re.compile(r":(?!//)")

_JOINED = re.compile(
    r"\s*[/,&・、，＆]\s*|\s+(?:and|und|et|y|e|i|и|та|і|a|en|og|och|ja|ve|és|și|και|و)\s+|[和及與与]|\s*및\s*",
    re.IGNORECASE,
)
"""What joins two names in a heading."""
_TEXT = 7
"""Below headings of every level."""

_Item = tuple[int, str]
"""Level of a heading, 0 of other text, and the text."""


def text_of_lines(lines: list[str], dropped: Collection[str], kept: Kept, cuts: Cuts) -> str:
    """The text of lines without links, tables and templates; `dropped` are headings, casefolded, whose sections go."""
    items: list[_Item] = []
    numbers: dict[str, int] = {}
    below = 0  # level of the heading whose section is being left out
    for line in lines:
        level, title = _heading(line)
        if level:
            if below and level > below:
                cuts["sections"] += len(line) + 1
                continue
            below = level if _is_dropped(kept.restored(title), dropped) else 0
            if not below:
                items.append((level, title))
        if below:
            cuts["sections"] = cuts.get("sections", 0) + len(line) + 1
        elif not level:
            items += ((0, text) for text in _text(line, numbers))
    return "\n".join(_laid_out(items))


def _is_dropped(title: str, dropped: Collection[str]) -> bool:
    """Whether a heading, or every part of one that joins several (``Notes and references``), is among `dropped`."""
    title = title.casefold().strip(" :：")
    return title in dropped or all(part in dropped for part in _JOINED.split(title))


def _heading(line: str) -> _Item:
    """Level and title; level 0 if this is none."""
    if not line.startswith("="):
        return 0, ""
    text = line.rstrip(f" \t{HOLE}{BREAK}")
    level = min(len(text) - len(text.lstrip("=")), len(text) - len(text.rstrip("=")), 6, (len(text) - 1) // 2)
    if not level:
        return 0, ""
    return level, _inline(_unquoted(text[level : len(text) - level].replace(BREAK, " "))).strip()


def _laid_out(items: list[_Item]) -> list[str]:
    """The texts in their order, without headings that nothing stands below."""
    shown: list[str] = []
    following = 0  # level of the heading that comes next, that of text if text does
    for level, text in reversed(items):
        if not level:
            shown.append(text)
            following = _TEXT if text.strip() else following
        elif following > level:
            shown += ["", text, ""]
            following = level
    return shown[::-1]


def _text(line: str, numbers: dict[str, int]) -> Iterator[str]:
    """The lines that a line becomes: none if it only held what shows no text."""
    if not line.strip():
        numbers.clear()
        yield ""
        return
    prefix = marker[0] if (marker := _LIST.match(line)) and not _CODE.match(line) else ""
    first, *more = _unquoted(line[len(prefix) :]).split(BREAK)
    bullet = _bullet(prefix, numbers)
    if not prefix and line[0] == " " and not more:
        yield from [closed(decoded(first[1:])).rstrip()] if first.strip(f" {HOLE}") else []
        return
    if first.startswith("----"):
        first = first.lstrip("-")
    if prefix.endswith(";") and (colon := _COLON.search(first)):
        first, more = first[: colon.start()], [first[colon.end() :], *more]
    for piece in (first, *more):
        text = _inline(piece).strip()
        if text:
            yield bullet + text
            bullet = ""
        elif not prefix and HOLE not in piece:
            yield ""


def _inline(text: str) -> str:
    """Text of a line, with white space as HTML has it."""
    text = closed(decoded(text)).replace("\xa0", " ").replace("\n", " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def _bullet(prefix: str, numbers: dict[str, int]) -> str:
    """What stands before an item: a hyphen or a number, indented by the lists that it is in."""
    for other in [other for other in numbers if not prefix.startswith(other)]:
        del numbers[other]
    if not prefix or prefix[-1] in ":;":
        return ""
    indent = "  " * sum(mark in "*#" for mark in prefix[:-1])
    if prefix[-1] == "*":
        return f"{indent}- "
    numbers[prefix] = numbers.get(prefix, 0) + 1
    return f"{indent}{numbers[prefix]}. "


def _unquoted(line: str) -> str:
    """A line without the apostrophes that make text slanted or bold (MediaWiki's `doQuotes`)."""
    if "''" not in line:
        return line
    parts = _QUOTES.split(line)
    runs = [min(len(run), 5) if len(run) != 4 else 3 for run in parts[1::2]]
    odd = sum(run in (2, 5) for run in runs) % 2 == 1 and sum(run in (3, 5) for run in runs) % 2 == 1
    literal = _apostrophe(parts, runs) if odd else -1
    for place, run in enumerate(runs):
        written = parts[2 * place + 1]
        parts[2 * place + 1] = "'" * (len(written) - run + (place == literal))
    return "".join(parts)


def _apostrophe(parts: list[str], runs: list[int]) -> int:
    """Which three apostrophes are one and two: bold and slanted both are left open, so one of them is none."""
    places = [place for place, run in enumerate(runs) if run == 3]
    before = [parts[2 * place] for place in places]
    single = (place for place, text in zip(places, before, strict=True) if text[-2:-1] == " ")
    longer = (place for place, text in zip(places, before, strict=True) if text[-1:] not in ("", " "))
    return next(single, next(longer, next(iter(places), -1)))
