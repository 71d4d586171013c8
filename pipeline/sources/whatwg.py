"""Bytes as a browser decodes them: labels and tables of the Encoding Standard (encoding.spec.whatwg.org).

The labels are those of `webencodings`. Python's codecs of the same names have other tables, so each encoding here is
the codec that comes nearest, and what it lacks: compared with the standard's own index files, every sequence of one to
four bytes gives the same character. A byte that means nothing becomes U+FFFD, and reading goes on where the standard
says: an ASCII byte is never swallowed by a broken character before it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from functools import cache

from webencodings.labels import LABELS

__all__ = ["REPLACEMENT", "codec_of", "decode_as", "name_of"]

REPLACEMENT = "\ufffd"
_CODECS = {
    "iso-8859-8-i": "iso8859-8",
    "macintosh": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
    "windows-874": "cp874",
    "x-user-defined": "latin-1",
}
"""Single-byte encodings that Python knows under another name."""


_NEAREST = {"shift_jis": "cp932", "euc-kr": "cp949", "big5": "big5hkscs", "gbk": "gb18030"}


def codec_of(name: str) -> str:
    """Python's codec that comes nearest to the encoding of that name, to read a file piece by piece."""
    return _CODECS.get(name) or _NEAREST.get(name, name)


def name_of(label: str) -> str | None:
    """The encoding that a label of the standard names; None for a label that it does not know."""
    return LABELS.get(label.strip("\t\n\f\r ").lower()) if label.isascii() else None


def decode_as(body: bytes, name: str) -> str:
    """`body` decoded as the encoding of that name (of the standard, or else of Python), what means nothing as U+FFFD.

    Raises:
        LookupError: there is no encoding of that name.
    """
    if name in _WAYS:
        return _WAYS[name](body)
    if name not in _SINGLE:
        return body.decode(name, "replace")
    return codecs.charmap_decode(body, "replace", _table(name))[0]


@cache
def _table(name: str) -> str:
    """The 256 characters of a single-byte encoding, U+FFFE where there is none."""
    codec = _CODECS.get(name, name)
    bytes_ = [bytes([byte]) for byte in range(256)]
    characters = [each.decode(codec, "ignore") or "\ufffe" for each in bytes_]
    if name.startswith("windows-"):  # Python refuses what the standard gives the C1 controls
        for byte in range(0x80, 0xA0):
            if characters[byte] == "\ufffe":
                characters[byte] = chr(byte)
    for byte, character in _CORRECTED.get(name, {}).items():
        characters[byte] = character
    return "".join(characters)


_CORRECTED: dict[str, dict[int, str]] = {
    "koi8-u": {0xAE: "ў", 0xBE: "Ў"},
    "windows-1255": {0xCA: "\u05ba"},
    "x-user-defined": {byte: chr(0xF700 + byte) for byte in range(0x80, 0x100)},
}


# Encodings of several bytes: Python's codec decodes, and an error handler says what it could not.


def _mend(name: str, take: Callable[[bytes, int], tuple[str, int]]) -> None:
    """Let `take(body, place)` say what stands at a place that a codec does not understand: text, and how many bytes."""

    def handler(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        text, size = take(error.object, error.start)
        return text, min(error.start + size, len(error.object))

    codecs.register_error(f"whatwg-{name}", handler)


def _broken(body: bytes, at: int, size: int = 2) -> tuple[str, int]:
    """A sequence of `size` bytes that means nothing: where the last of them is ASCII, it is read again."""
    return REPLACEMENT, size if body[at + size - 1 : at + size] > b"\x7f" else size - 1


def _pair(body: bytes, at: int) -> tuple[str, int]:
    return (REPLACEMENT, 1) if body[at] in (0x80, 0xFF) else _broken(body, at)


def _gb18030(body: bytes, at: int) -> tuple[str, int]:
    if body[at] == 0x80:
        return "€", 1
    breaks_off = re.compile(rb"[\x81-\xfe][0-9][\x81-\xfe]?\Z").match(body, at)
    return (REPLACEMENT, 4) if breaks_off else _pair(body, at)


def _big5(body: bytes, at: int) -> tuple[str, int]:
    two = int.from_bytes(body[at : at + 2], "big")
    return (_BIG5[two], 2) if two in _BIG5 else _pair(body, at)


def _euc_jp(body: bytes, at: int) -> tuple[str, int]:
    lead, trail = body[at], body[at + 1] if at + 1 < len(body) else 0
    in_plane = 0xA1 <= trail <= 0xFE
    if lead == 0x8F and in_plane:  # JIS X 0212
        return _broken(body, at, 3)
    if 0xA1 <= lead <= 0xFE and in_plane:
        # Row 13 of NEC and the rows of IBM: what EUC-JP has at a row and cell, code page 932 has there too.
        row, cell = lead - 0xA1, trail - 0xA1
        two = bytes([row // 2 + (0x81 if row < 62 else 0xC1), cell + (0x9F if row % 2 else 0x40 + (cell >= 63))])
        text = two.decode("cp932", "replace")
        return text if len(text) == 1 else REPLACEMENT, 2
    return _broken(body, at) if lead in (0x8E, 0x8F) or 0xA1 <= lead <= 0xFE else (REPLACEMENT, 1)


def _after(text: str, table: Mapping[int, int]) -> str:
    """`text` with some characters replaced: there are rarely any, and looking for them is fast."""
    return text.translate(table) if any(chr(code) in text for code in table) else text


_SHIFT_JIS_AFTER = dict.fromkeys(range(0xF8F0, 0xF8F4), ord(REPLACEMENT))
"""Bytes that code page 932 gives characters of private use."""
_EUC_JP_AFTER = str.maketrans("〜‖−¢£¬", "～∥－￠￡￢")
_GB18030_AFTER = str.maketrans(
    "\ue5e5\ue78d\ue78e\ue78f\ue790\ue791\ue792\ue793\ue794\ue795\ue796"
    "\ue7c7\u1e3f\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864",
    "\u3000︐︒︑︓︔︕︖︗︘︙\u1e3f\ue7c7龴龵龶龷龸龹龺龻",
)
"""What the standard of 2022 took out of private use; two have changed places."""
_BIG5_ROWS = (
    "877a㡵𡵓𣚞𦀡㻬 87a1𥣞㫵竼龗𤅡𨤍𣇪𠪊𣉞䌊蒄龖鐯䤰蘓墖靊鈘秐稲晠権袝瑌篅枂稬剏遆㓦珄𥶹瓆鿇垳䤯呌䄱𣚎堘 "
    "87c9穲𧭥讏䚮𦺈䆁𥶙箮𢒼鿈𢓁𢓉𢓌鿉蔄𣖻䂴鿊䓡𪷿拁灮鿋 8e69箸 8e6f簆 8e7e糎 8eab緒 8eb4縝 8ecd者 8ed0耨 8f57菁 "
    "8f69蒨 8f6e萏 8fcb覦覩 8ffe起 906d都 907a銹 90dc靜 90f1響 91bf鼖 9244蔃 92af兙兛兝兞 92c8鍮 92d1瑹 9447浧 "
    "94ca禛 95d9邗 9644靝 96ed瀞 96fc嬨 9b76爁 9b78矗 9b7b纇 9bc6駖 9bde釔 9bec惞 9bf6澶 9c42輶 9c53侻 9c62營 "
    "9c68鄄 9c6b鷰 9c77菏 9cbc尐秣 9cd0婧 9d57輋 9d5a筑 9dc4拐 9ea9恢 9eef痹 9efd汊 9f60鬮 9f66鼗 9fcb僭 9fd8弌 "
    "a063蠏 a077拎 a0d5瑨 a0df煢 a0e4牐 a3c0␀␁␂␃␄␅␆␇␈␉␊␋␌␍␎␏␐␑␒␓␔␕␖␗␘␙␚␛␜␝␞␟␡€ c6cf廴 c6d3无 c6d5癶 c6d7隶 "
    "c6de〃仝 fa5f倩 fa66偽 fabd包 fac5卄 fad5卿 fb48嘅 fbb8婷 fbf3幵 fbf9廐 fc4f彘 fc6c悤 fcb9撐 fce2晴 fcf1杞 "
    "fdb7沜渝 fdbb港 fdf1煮 fe52猪 fe6f瑜 feaa瓩 fedd砉"
)
"""Pairs that Python's Big5-HKSCS lacks: the code of the first of a row, and their characters."""
_BIG5 = {int(row[:4], 16) + place: character for row in _BIG5_ROWS.split() for place, character in enumerate(row[4:])}
_BIG5_AFTER = str.maketrans("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡")
_BIG5_SLASHES = {b"\xa2\x41": "∕", b"\xa2\x42": "﹨"}
"""Pairs to which it gives a character that another pair has in the standard."""
_BIG5_PARTS = re.compile(
    rb"((?:[^\x81-\xfe]|(?!\xa2[\x41\x42])[\x81-\xfe](?:[\x40-\x7e\x80-\xff]|(?=[\x00-\x3f\x7f])|\Z))*+)(..)?",
    re.DOTALL,
)
"""Whole characters up to the next of these pairs, and the pair."""


def _decode_big5(body: bytes) -> str:
    if not any(pair in body for pair in _BIG5_SLASHES):
        return _after(body.decode("big5hkscs", "whatwg-big5"), _BIG5_AFTER)
    parts = []
    for match in _BIG5_PARTS.finditer(body):
        parts.append(_after(match[1].decode("big5hkscs", "whatwg-big5"), _BIG5_AFTER))
        parts.append(_BIG5_SLASHES[match[2]] if match[2] else "")
    return "".join(parts)


def _decode_euc_jp(body: bytes) -> str:
    body = body.replace(b"\x8f\xa2\xb7", b"\xa1\xc1")  # Python: an ASCII tilde; 8F is no second byte
    return _after(body.decode("euc_jp", "whatwg-euc-jp"), _EUC_JP_AFTER)


_ESCAPES = re.compile(rb"\x1b(\([BJI]|\$[@B])")
_HIGH = bytes(byte + 0x80 if 0x21 <= byte <= 0x7E else byte for byte in range(256))
_ROMAN = str.maketrans("\\~", "¥‾")


def _decode_iso_2022_jp(body: bytes) -> str:
    state, parts = b"(B", []
    for place, part in enumerate(_ESCAPES.split(body)):
        if place % 2:
            state = part
            continue
        if not part.isascii():
            part = (
                part.decode("ascii", "replace").replace(REPLACEMENT, "\x1a").encode()
            )  # no byte of 128 or more is of it
        if state[:1] == b"$":
            text = _decode_euc_jp(part.translate(_HIGH))
        elif state == b"(I":
            text = part.translate(_HIGH).decode("cp932", "replace")
        else:
            text = part.decode().translate(_ROMAN if state == b"(J" else {})
        parts.append(text.replace("\x1a", REPLACEMENT))
    return "".join(parts)


def _plain(codec: str, errors: str, after: Mapping[int, int]) -> Callable[[bytes], str]:
    return lambda body: _after(body.decode(codec, errors), after)


_mend("pair", _pair)
_mend("gb18030", _gb18030)
_mend("big5", _big5)
_mend("euc-jp", _euc_jp)
_WAYS: dict[str, Callable[[bytes], str]] = {
    "utf-8": lambda body: body.decode("utf-8", "replace"),
    "utf-16le": lambda body: body.decode("utf-16-le", "replace"),
    "utf-16be": lambda body: body.decode("utf-16-be", "replace"),
    "shift_jis": _plain("cp932", "whatwg-pair", _SHIFT_JIS_AFTER),
    "euc-jp": _decode_euc_jp,
    "euc-kr": lambda body: body.decode("cp949", "whatwg-pair"),
    "gbk": _plain("gb18030", "whatwg-gb18030", _GB18030_AFTER),
    "gb18030": _plain("gb18030", "whatwg-gb18030", _GB18030_AFTER),
    "big5": _decode_big5,
    "iso-2022-jp": _decode_iso_2022_jp,
    "replacement": lambda body: REPLACEMENT if body else "",
}
_SINGLE = frozenset(LABELS.values()) - _WAYS.keys()
