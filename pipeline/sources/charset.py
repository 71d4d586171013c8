"""Bytes of the web as text, as browsers make it of them, and better where they would show rubbish.

The order is that of the HTML standard: a byte order mark, what the sender says (the HTTP header), what the page says
itself, detection. Two things differ. Bytes that are UTF-8, all but a few of them, are that whatever anybody says, for
nothing else happens to be. And what is said must fit: a stray byte costs a character, which becomes U+FFFD, but where
many mean nothing the next in the order is asked; nor is windows-1252 believed, in which nothing means nothing and which
servers say of all their pages, of what reads as no text in it and as one in another encoding.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from pipeline.sources.detection import detect, instead_of
from pipeline.sources.prescan import declared_in
from pipeline.sources.whatwg import REPLACEMENT, decode_as, name_of

__all__ = ["MOST_NULS", "NotText", "decode"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32le"),
    (codecs.BOM_UTF16_LE, "utf-16le"),
    (codecs.BOM_UTF16_BE, "utf-16be"),
    (codecs.BOM_UTF32_BE, "utf-32be"),
)
MOST_STRAY, MOST_STRAY_UTF_8 = 0.02, 0.2
"""Share of the characters beyond ASCII that may mean nothing under an encoding that is still taken."""
MOST_LOST = 0.5
"""Share of them under the best of all encodings, beyond which the bytes are no text."""
MOST_NULS = 0.01
"""Share of NULs that text may have; they are left out."""
MOST_CONTROLS = 0.02
"""Share of control characters that text may have which is not UTF-8: any bytes are text in some encoding."""
FEW = 4
"""Characters of UTF-8 that a text of another encoding with characters of several bytes may happen to look like."""
_CONTROLS = re.compile(r"[\x01-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")
_SHIFTS = re.compile(rb"\x1b|\0|~\{")
"""What ASCII may be that is not text as it stands: ISO 2022, UTF-16, HZ."""
_OF_SEVERAL_BYTES = frozenset({"gbk", "gb18030", "big5", "euc-kr", "euc-jp", "shift_jis"})


class NotText(Exception):  # noqa: N818  (a finding about the bytes)
    """No encoding gives the bytes a meaning."""


def decode(body: bytes, declared: str | None = None, *, html: bool = False, tld: str = "") -> tuple[str, str]:
    """The text, and the encoding that it was in, by the name that the Encoding Standard gives it.

    Args:
        declared: the label that the sender gives; one that the standard does not know is as good as none.
        html: a `<meta>` of its own may name the encoding.
        tld: last part of the name of the host, which helps where nobody names one.

    Raises:
        NotText: too many bytes mean nothing, or are control characters.
    """
    text, encoding = _decode(body, name_of(declared or ""), html, tld)
    if "\0" in text:
        if text.count("\0") > MOST_NULS * len(text):
            raise NotText("NUL bytes")
        text = text.replace("\0", "")
    return text, encoding


def _decode(body: bytes, declared: str | None, html: bool, tld: str) -> tuple[str, str]:
    for mark, marked in _MARKS:
        if body.startswith(mark):
            return decode_as(body[len(mark) :], marked), marked
    if body.isascii() and not _SHIFTS.search(body) and declared != "replacement":
        return body.decode("ascii"), "utf-8"
    if (utf_8 := _as_utf_8(body)) is None:
        return _first_that_fits(body, _names(body, declared, html, tld))
    if declared in _OF_SEVERAL_BYTES and _counted(utf_8)[1] <= FEW:
        text = decode_as(body, declared)
        return (utf_8, "utf-8") if REPLACEMENT in text else (text, declared)
    return utf_8, "utf-8"


def _as_utf_8(body: bytes) -> str | None:
    """`body` as UTF-8 if it is that, all but a few bytes, and not only ASCII."""
    if body.isascii():
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        text = decode_as(body, "utf-8")
        stray, foreign = _counted(text)
        return text if stray <= MOST_STRAY_UTF_8 * foreign else None


def _first_that_fits(body: bytes, names: Iterator[str]) -> tuple[str, str]:
    """The text under the first encoding under which few bytes mean nothing, or else under the best."""
    tried: dict[str, tuple[float, str]] = {}
    for name in names:
        if name == "replacement":
            raise NotText("ISO-2022-KR, ISO-2022-CN or HZ is declared, which no browser reads")
        if name in tried:
            continue
        text = decode_as(body, name)
        stray, foreign = _counted(text)
        tried[name] = (0.0 if stray <= 1 else stray / foreign, text)
        if tried[name][0] <= MOST_STRAY:
            break
    (lost, text), name = min((found, name) for name, found in tried.items())
    if lost > MOST_LOST:
        raise NotText(
            f"neither UTF-8 nor {' nor '.join(each for each in tried if each != 'utf-8') or 'anything known'}"
        )
    if len(_CONTROLS.findall(text)) > MOST_CONTROLS * len(text):
        raise NotText("control characters")
    return text, "utf-8" if text.isascii() else name


def _names(body: bytes, declared: str | None, html: bool, tld: str) -> Iterator[str]:
    """What the encoding may be, each found out only when the one before does not fit."""
    if declared and (b"\0" in body or not declared.startswith("utf-16")):  # white space and markup have NULs in it
        yield from _unless_rubbish(body, declared, tld)
    if html and (own := declared_in(body)):
        yield from _unless_rubbish(body, own, tld)
    if found := detect(body, tld):
        yield found
    yield "utf-8"


def _unless_rubbish(body: bytes, said: str, tld: str) -> Iterator[str]:
    """What is said; before it another encoding where it is what servers say of all their pages, and cannot be."""
    if said == "windows-1252" and (found := instead_of(body, said, tld)):
        yield found
    yield said


def _counted(text: str) -> tuple[int, int]:
    """How many characters mean nothing, and how many are beyond ASCII."""
    return text.count(REPLACEMENT), len(text) - len(text.encode("ascii", "ignore"))
