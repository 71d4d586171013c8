"""Bytes of the web as text: what the sender says of the charset is often wrong, so it must also fit.

In this order: a byte order mark; UTF-8 if the bytes are that and not only ASCII, for nothing else happens to be; the
charset of the HTTP header; that of the page itself; what uchardet makes of the bytes. The first under which every byte
has a meaning is taken.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

__all__ = ["NotText", "decode"]

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
MOST_REPLACED = 0.01
"""Share of characters that may be unreadable before the record counts as none."""
MOST_NULS = 0.01
"""Share of NULs that text may have; they are left out."""


class NotText(Exception):  # noqa: N818  (a finding about the bytes)
    """No charset gives the bytes a meaning."""


def decode(body: bytes, declared: str | None = None, *, html: bool = False) -> tuple[str, str]:
    """The text, and the charset that it was in. `html` says that a `<meta>` of its own may name the charset.

    Raises:
        NotText: too many bytes mean nothing, or are NUL.
    """
    text, charset = _decode(body, declared, html)
    if "\0" in text:
        if text.count("\0") > MOST_NULS * len(text):
            raise NotText("NUL bytes")
        text = text.replace("\0", "")
    return text, charset


def _decode(body: bytes, declared: str | None, html: bool) -> tuple[str, str]:
    for mark, marked in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(marked, "replace"), marked
    if not body.isascii() and (plain := _strict(body, "utf-8")) is not None:
        return plain, "utf-8"
    tried: set[str] = set()
    for name in _names(body, declared, html):
        if name and (charset := map_encoding_to_html5(name, fallback_utf8=False)) and charset not in tried:
            tried.add(charset)
            if (fitting := _strict(body, charset)) is not None:
                return fitting, charset
    text = body.decode("utf-8", "replace")
    if text.count("\ufffd") > MOST_REPLACED * len(text):
        raise NotText(f"neither UTF-8 nor {' nor '.join(sorted(tried - {'utf-8'})) or 'any charset known here'}")
    return text, "utf-8"


def _names(body: bytes, declared: str | None, html: bool) -> Iterator[str | None]:
    """What the charset may be, each found out only when the one before does not fit."""
    yield declared
    if html:
        yield detect_encoding(body[:2048], from_html_meta=True)
    yield detect_encoding(body, from_html_meta=False)


def _strict(body: bytes, charset: str) -> str | None:
    try:
        return body.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return None
