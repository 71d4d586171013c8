"""What Project Gutenberg's files have around the book: a header, which tells title and author, and a licence."""

from __future__ import annotations

import re

__all__ = ["LONGEST_FIELD", "LONGEST_TITLE", "Unreadable", "strip_licence"]

_START = re.compile(
    r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG [^*]*\*\*\*[^\n]*\n|^\*END[* ]*THE SMALL PRINT![^\n]*\n",
    re.MULTILINE | re.IGNORECASE,
)
_END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|\*{0,3} ?End of (?:the |this )?Project Gutenberg)",
    re.MULTILINE | re.IGNORECASE,
)
_FIELD = re.compile(r"^(Title|Author): *(\S[^\n]*)", re.MULTILINE)
_CREDITS = re.compile(r"(?:Produced by|E-?text prepared by|Transcribed (?:by|from))\b.*?(?:\n\s*\n|\Z)", re.DOTALL)
LONGEST_TITLE = 120
LONGEST_FIELD = 1000
"""Characters kept of a book's title and author: every piece of it carries them."""


class Unreadable(Exception):  # noqa: N818  (a finding about the book)
    """A book cannot be read; `rule` rejects it."""

    def __init__(self, rule: str, problem: str) -> None:
        super().__init__(problem)
        self.rule = rule


def strip_licence(text: str) -> tuple[str, dict[str, str]]:
    """The book alone, and `title` and `author` where its Gutenberg header says so.

    Raises:
        Unreadable: there is a header and no licence, so the end is missing.
    """
    start = _START.search(text)
    if start is None:
        return text, {}
    fields = {name.lower(): value.strip()[:LONGEST_FIELD] for name, value in _FIELD.findall(text[: start.start()])}
    end = _END.search(text, start.end())
    if end is None:
        line = text.count("\n") + 1
        raise Unreadable(
            "failure/truncated", f"line {line}: truncated: the Gutenberg header is there, its END marker is not"
        )
    return _without_credits(text[start.end() : end.start()]), fields


def _without_credits(text: str) -> str:
    """`text` without the paragraph that names who prepared it, and without the white space before that."""
    credits = _CREDITS.search(text)
    return text if credits is None else text[: credits.start()].rstrip() + text[credits.end() :]
