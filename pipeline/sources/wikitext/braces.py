"""Templates taken out of wikitext by matching double braces, innermost first, each replaced by its text.

A stack as in MediaWiki's preprocessor, so the work grows with the text whatever is left open; what has no partner stays
text. Templates are replaced before links, tables and lists are looked for, because they may hold any part of those.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["MOST_DEPTH", "Arguments", "expanded"]

MOST_DEPTH = 40
"""Braces and brackets open at once (`$wgMaxTemplateDepth` was 40); more are text."""
_TOKENS = re.compile(r"(\{\{+|\}\}+|\[\[|\]\]|\|)")


class _Done(str):
    """A piece in which no `=` separates a name from a value: it came out of a template or lies within a link."""

    __slots__ = ()


@dataclass
class Arguments:
    """What a template was given."""

    named: dict[str, str] = field(default_factory=dict)
    """By name, in lower case; the unnamed ones by number, from "1"."""
    count: int = 0
    """Unnamed ones."""

    def get(self, *names: str) -> str:
        """The first of these that says something, without white space around it."""
        return next((value for name in names if (value := self.named.get(name, "").strip())), "")

    @property
    def unnamed(self) -> list[str]:
        """The unnamed ones in their order."""
        return [self.named[str(number)].strip() for number in range(1, self.count + 1)]


@dataclass
class _Open:
    """A pair that waits for its end; `width` 0 is a link, otherwise the number of braces."""

    width: int
    begin: int
    parts: list[list[str]] = field(default_factory=lambda: [[]])
    cut: int = 0
    """Characters of dropped templates in it."""


def expanded(text: str, show: Callable[[str, Arguments], str | None], hole: str) -> tuple[str, int]:
    """`text` with templates replaced, and how many characters of templates without a text were dropped.

    Args:
        show: gives the text of a template by its name and arguments, or None.
        hole: stands for a template without a text.
    """
    stack = [_Open(0, 0)]
    at = 0
    for token in _TOKENS.split(text):
        top = stack[-1]
        if token == "|" and len(stack) > 1:
            top.parts.append([])
        elif token[:2] == "{{":
            _open(stack, token, at)
        elif token == "[[" and len(stack) <= MOST_DEPTH:
            stack.append(_Open(0, at))
        elif token[:2] == "}}":
            _close_braces(stack, token, at, show, hole)
        elif token == "]]" and len(stack) > 1 and not top.width:
            _give(stack, _Done(_source(stack.pop()) + "]]"), top.cut)
        elif token:
            top.parts[-1].append(token)
        at += len(token)
    while len(stack) > 1:
        top = stack.pop()
        stack[-1].parts[-1].append(_source(top))
        stack[-1].cut += top.cut
    return "".join(stack[0].parts[0]), stack[0].cut


def _open(stack: list[_Open], token: str, at: int) -> None:
    if len(stack) > MOST_DEPTH:
        stack[-1].parts[-1].append(token)
    else:
        stack.append(_Open(len(token), at))


def _source(pair: _Open) -> str:
    """What was written, as far as it is not replaced yet."""
    return ("{" * pair.width or "[[") + "|".join("".join(part) for part in pair.parts)


def _give(stack: list[_Open], piece: str, cut: int) -> None:
    stack[-1].parts[-1].append(piece)
    stack[-1].cut += cut


def _close_braces(
    stack: list[_Open], token: str, at: int, show: Callable[[str, Arguments], str | None], hole: str
) -> None:
    """Take as many pairs out of the braces as they close; what is left over is text."""
    left = len(token)
    while left >= 2:
        if not any(pair.width for pair in stack):
            break
        while not stack[-1].width:  # a link that was left open within a template
            link = stack.pop()
            _give(stack, _source(link), link.cut)
        pair = stack.pop()
        width = 3 if min(left, pair.width) >= 3 else 2
        left -= width
        rest = pair.width - width
        begin = pair.begin + rest
        if rest >= 2:
            stack.append(_Open(rest, pair.begin))
        elif rest:
            stack[-1].parts[-1].append("{")
        if width == 3:  # a parameter: what its page would give it is not known here, so its default
            default = "".join(pair.parts[1]) if len(pair.parts) > 1 else ""
            _give(stack, _Done(default), pair.cut)
            continue
        name = "".join(pair.parts[0])
        shown = show(name, _arguments(pair.parts[1:]))
        if shown is None:
            _give(stack, _Done(hole), at + len(token) - left - begin)
        else:
            _give(stack, _Done(shown), pair.cut)
    if left:
        stack[-1].parts[-1].append("}" * left)


def _arguments(parts: list[list[str]]) -> Arguments:
    found = Arguments()
    for part in parts:
        name, value = _named(part)
        if name is None:
            found.count += 1
            name = str(found.count)
        found.named[name] = value
    return found


def _named(part: list[str]) -> tuple[str | None, str]:
    """Name, in lower case, and value of an argument; without a name if no `=` of its own separates them."""
    for place, piece in enumerate(part):
        if not isinstance(piece, _Done) and "=" in piece:
            name, _, value = piece.partition("=")
            whole = "".join([*part[:place], name]).strip().lower()
            return whole, "".join([value, *part[place + 1 :]]).strip()
    return None, "".join(part)
