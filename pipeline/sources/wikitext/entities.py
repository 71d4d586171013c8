"""Character references, the ones that end in a semicolon: MediaWiki knows no others."""

from __future__ import annotations

import re
from html.entities import html5

__all__ = ["decoded"]

_REFERENCE = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")


def decoded(text: str) -> str:
    """`text` with its references replaced, once: `&amp;lt;` is `&lt;`. What names no character stays."""
    return _REFERENCE.sub(_character, text) if "&" in text else text


def _character(reference: re.Match[str]) -> str:
    name = reference[1]
    if name[0] != "#":
        return html5.get(f"{name};", reference[0])
    code = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
    legal = code in (9, 10) or 0x20 <= code < 0xD800 or 0xE000 <= code <= 0x10FFFF
    return chr(code) if legal else reference[0]
