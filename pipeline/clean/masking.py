"""Masks e-mail and IP addresses: datatrove's formatter, with its pattern of e-mail addresses asked only at an `@`.

The pattern begins at every word and runs to the end of what may be a name, so that a long row of letters and hyphens
takes it the square of its length. Here each `@` is looked at once, first to its right, where the pattern is linear,
then to its left. What is found, and what stands for it, is what datatrove finds. Four numbers with dots between are an
address to datatrove even within a longer row, or where they are a version; not so here.
"""

from __future__ import annotations

import re
import string

from datatrove.pipeline.formatters.pii import PIIFormatter, PIIReplacer, public_ip_validator

__all__ = ["FastPII"]

NAME = string.ascii_letters + string.digits + "!#$%&'*+/=?^_`{|}~-"
"""Characters of the name before the `@`; dots stand between them, one at a time."""
NAME_BEGINS = re.compile(rf"\b[{re.escape(NAME)}]")


class _Emails(PIIReplacer):
    """datatrove's replacer of e-mail addresses; `replace` gives the same text."""

    def __init__(self, pattern: str, replacements: tuple[str, ...]) -> None:
        super().__init__(pattern, replacements)
        self._replace_i: int = 0
        self.domain = re.compile(pattern[pattern.index("@") :])

    def replace(self, text: str) -> str:
        """`text` with the next of the replacements for each address."""
        pieces: list[str] = []
        done = free = 0  # copied up to `done`; no name begins before `free`
        at = text.find("@")
        while at >= 0:
            if (domain := self.domain.match(text, at)) and (begin := _name(text, free, at)) is not None:
                pieces += text[done:begin], self.replacements[self._replace_i]
                self._replace_i = (self._replace_i + 1) % len(self.replacements)
                done = free = domain.end()
            else:
                free = at + 1
            at = text.find("@", free)
        return "".join([*pieces, text[done:]])


def _name(text: str, free: int, at: int) -> int | None:
    """Where the name before the `@` at `at` begins, from `free` on; None where there is none."""
    before = text[free:at]
    name = before[len(before.rstrip(f"{NAME}.")) :]
    if name.endswith("."):
        return None
    name = name[name.rfind("..") + 1 :].lstrip(".")
    begins = NAME_BEGINS.search(text, at - len(name), at)
    return begins.start() if begins else None


QUAD = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9]|-[^\W\d])")
CONTEXT = 24
"""Characters before four numbers that may say what they are."""
VERSION = re.compile(
    r"(?:\b(?:versions?|ver|v|releases?|released|rev|revision|firmware|build|sections?|chapter|clause|upgraded? to"
    r"|updated? to|since|branch|patch|tag)\b[\s:.#v]*|§ ?|[=<>~!]= ?|[^\W\d_][\w.+]*[/-])$",
    re.IGNORECASE,
)
ALSO = re.compile(r"(?:\s|[,;/&-]|\b(?:and|or|to|through|until)\b)*")
"""Between two versions."""


class _Addresses(PIIReplacer):
    """datatrove's replacer of public IP addresses, which leaves versions alone."""

    def __init__(self, replacements: tuple[str, ...]) -> None:
        super().__init__(QUAD.pattern, replacements)
        self._replace_i: int = 0

    def replace(self, text: str) -> str:
        """`text` with the next of the replacements for each address."""
        pieces: list[str] = []
        done = version_end = 0
        for match in QUAD.finditer(text):
            begin, end = match.span()
            before = text[max(0, begin - CONTEXT) : begin]
            follows = version_end and begin - version_end <= CONTEXT and ALSO.fullmatch(text, version_end, begin)
            if VERSION.search(before) or follows:
                version_end = end
            elif public_ip_validator(match[0]):
                pieces += text[done:begin], self.replacements[self._replace_i]
                self._replace_i = (self._replace_i + 1) % len(self.replacements)
                done = end
        return "".join([*pieces, text[done:]])


class FastPII(PIIFormatter):
    """datatrove's formatter with its own settings; `format` gives the same text but for versions."""

    def __init__(self) -> None:
        super().__init__()
        emails: PIIReplacer = self.emails_replacer
        self.emails_replacer: PIIReplacer = _Emails(emails.regex.pattern, emails.replacements)
        self.ip_replacer: PIIReplacer = _Addresses(self.ip_replacer.replacements)

    def restart(self) -> None:
        """Begin again with the first of the replacements, which rotate."""
        self.emails_replacer._replace_i = self.ip_replacer._replace_i = 0
