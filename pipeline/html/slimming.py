"""A page without what no text comes from, so that the parser has half as much to build and to write out again.

Gone are the contents of scripts and style sheets, and the attributes that `pipeline.html.scan` asks nothing of. What is
left has the same tree: the page is read as the HTML standard's tokenizer reads it (13.2.5), and where the tokenizer
depends on a tree that is not there yet (within SVG, MathML and `select`, whose scripts may be markup) only what is the
same either way is read on. A page that goes beyond that stays as it is from there on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import uint64

from pipeline.html.compiling import compiled, inlined
from pipeline.html.names import fnv, hash_table
from pipeline.html.search import find, has, hides, raw_end

__all__ = ["slimmed"]

_RAW, _DROPPED, _SCRIPT, _WHOLE, _FOREIGN, _SELECT, _TEMPLATE, _COL, _STOP, _IMG, _ITEM = (
    1 << bit for bit in range(11)
)
_NAMES = {
    _RAW: "script style xmp iframe noembed noframes title textarea",
    _DROPPED: "script style",
    _SCRIPT: "script",
    # Formatting elements are told apart by their attributes (13.2.4.3), `font` breaks out of SVG by them.
    _WHOLE: "b big code em font i nobr s small strike strong tt u svg math template",
    _FOREIGN: "svg math",
    _SELECT: "select",
    _TEMPLATE: "template",
    _COL: "col",
    _STOP: "frameset plaintext",
    _IMG: "img",
    _ITEM: "li",
}
"""What is to be known of an element: its content is no markup; it is not shown; it is a script; its attributes stay;
what it holds is in another name space; and so on."""
_NUMBER = {name: number for number, name in enumerate(sorted({*" ".join(_NAMES.values()).split()}), 1)}
_HASHES, _NUMBERS = hash_table(_NUMBER)
_KINDS = np.zeros(64, np.int64)
for _kind, _names in _NAMES.items():
    for _tag in _names.split():
        _KINDS[_NUMBER[_tag]] |= _kind
_BASIS, _PRIME = np.uint64(fnv(b"")), np.uint64(0x100000001B3)
_NOTHING, _NAME, _ALL = range(3)
_SPACE, _ENDS_NAME, _ENDS_ATTRIBUTE = 1, 2, 4
_BYTES = np.zeros(256, np.uint8)
"""What each byte is."""
for _byte in b" \n\t\r\f":
    _BYTES[_byte] = _SPACE | _ENDS_NAME | _ENDS_ATTRIBUTE
for _byte in b"/>":
    _BYTES[_byte] = _ENDS_NAME | _ENDS_ATTRIBUTE
_BYTES[ord("=")] = _ENDS_ATTRIBUTE
_LONGEST = 16
_KNOWN = np.zeros((32, _LONGEST), np.bool_)
"""Whether a name with this first letter, of so many letters, may be known."""
for _tag in " ".join(_NAMES.values()).split():
    _KNOWN[ord(_tag[0]) & 31, len(_tag)] = True
DEEPEST = 64
"""Elements within each other in SVG or MathML that are read."""
_LAST, _DEPTH, _IN_SELECT, _SEEN_TEMPLATE, _FROM, _TO = range(6)


class _Reading(NamedTuple):
    """What is read, by bytes and by eights; what is written; the names of open foreign elements; where the reading is:
    bytes written, open foreign elements, whether in `select`, whether there was a template, the stretch that is next to
    be written."""

    data: npt.NDArray[np.uint8]
    eights: npt.NDArray[np.uint64]
    out: npt.NDArray[np.uint8]
    open: npt.NDArray[np.uint64]
    at: npt.NDArray[np.int64]


def slimmed(html: str) -> str:
    """The page without contents of scripts and style sheets, and without attributes that say nothing of its text."""
    try:
        data = np.frombuffer(html.encode(), np.uint8)
    except UnicodeEncodeError:  # half of a surrogate pair
        return html
    reading = _Reading(
        data,
        data[: len(data) & ~7].view(np.uint64),
        np.empty(len(data), np.uint8),
        np.zeros(DEEPEST, np.uint64),
        np.zeros(6, np.int64),
    )
    length = int(_slim(reading))
    return str(reading.out[:length].data, "utf-8")


@compiled
def _slim(r):  # type: ignore[no-untyped-def]  # compiled: Numba infers the types
    """Write the page; how much that is."""
    data = r.data
    n = len(data)
    i = find(data, r.eights, 0, n, 60)
    while 0 <= i < n:
        after = data[i + 1] if i + 1 < n else np.uint8(0)
        if _is_letter(after):
            i = _start_tag(r, i + 1, n)
        elif after == 47 and i + 2 < n and _is_letter(data[i + 2]):
            i = _end_tag(r, i + 2, n)
        elif after == 33 and i + 3 < n and data[i + 2] == 45 and data[i + 3] == 45:
            i = _after_comment(r, i, n)
        elif after == 33 or after == 47 or after == 63:
            if r.at[_DEPTH] and i + 2 < n and data[i + 2] == 91:  # a section of character data there, a comment here
                break
            i = find(data, r.eights, i, n, 62)
        else:
            i += 1
        if i >= 0:
            i = find(data, r.eights, i, n, 60)
    _write(r, n, n)
    return r.at[_LAST]


@inlined
def _is_letter(byte):  # type: ignore[no-untyped-def]
    return 97 <= byte | 32 <= 122


@inlined
def _write(r, end, following):  # type: ignore[no-untyped-def]
    """Write what was not written yet up to `end`, and go on at `following`."""
    begin, k = r.at[_FROM], r.at[_LAST]
    for i in range(end - begin):
        r.out[k + i] = r.data[begin + i]
    r.at[_LAST] = k + end - begin
    r.at[_FROM] = following


@inlined
def _name(data, i, n):  # type: ignore[no-untyped-def]
    """Where the name at i ends, and what is known of it."""
    end = i + 1
    while end < n and not _BYTES[data[end]] & _ENDS_NAME:
        end += 1
    if end - i >= _LONGEST or not _KNOWN[data[i] & 31, end - i]:
        return end, np.int64(0)
    value = _hash(data, i, end)
    place = np.int64(value & uint64(1023))
    while _HASHES[place] != 0 and _HASHES[place] != value:
        place = (place + 1) & 1023
    return end, _KINDS[_NUMBERS[place]]


@inlined
def _hash(data, i, j):  # type: ignore[no-untyped-def]
    """Of a name, in small letters."""
    value = _BASIS
    for k in range(i, j):
        byte = data[k]
        if 65 <= byte <= 90:
            byte += 32
        value = (value ^ uint64(byte)) * _PRIME
    return value


@inlined
def _after_comment(r, i, n):  # type: ignore[no-untyped-def]
    """Behind the comment at i; n where it does not end."""
    begin = i
    i += 4
    while True:
        i = find(r.data, r.eights, i, n, 62)
        if i >= n:
            return n
        if r.data[i - 1] == 45 and r.data[i - 2] == 45:  # in `<!-->` the dashes are those of its beginning
            return i + 1
        if i - begin > 6 and r.data[i - 1] == 33 and r.data[i - 2] == 45 and r.data[i - 3] == 45:
            return i + 1
        i += 1


@inlined
def _end_tag(r, begin, n):  # type: ignore[no-untyped-def]
    """Behind the end tag whose name begins there; -1 where the page is to stay as it is from there on."""
    at = r.at
    end, kind = _name(r.data, begin, n)
    if at[_IN_SELECT]:
        at[_IN_SELECT] = kind & _SELECT == 0
    elif at[_DEPTH]:
        at[_DEPTH] -= 1
        if r.open[at[_DEPTH]] != _hash(r.data, begin, end):
            return -1
    return _attributes(r, end, n, _WHOLE)


@compiled
def _start_tag(r, begin, n):  # type: ignore[no-untyped-def]
    """Behind the start tag whose name begins there, and what it holds where that is no markup; -1 as above."""
    data, at = r.data, r.at
    name_end, kind = _name(data, begin, n)
    unsure = at[_DEPTH] or at[_IN_SELECT]
    i = _attributes(r, name_end, n, kind)
    if i < 0 or i >= n or kind & _STOP or (unsure and kind & (_SELECT | _TEMPLATE)):
        return -1
    at[_SEEN_TEMPLATE] |= kind & _TEMPLATE
    if kind & _COL and at[_SEEN_TEMPLATE]:  # in a template that begins with `col` all else is passed over
        return -1
    closes = data[i - 2] == 47 and at[_TO] < i - 1  # and the stroke is not of a value
    if at[_IN_SELECT]:
        if kind & _FOREIGN:
            return -1
    elif at[_DEPTH] or kind & _FOREIGN:
        if closes:
            return -1 if kind & _RAW else i
        if at[_DEPTH] == DEEPEST:
            return -1
        r.open[at[_DEPTH]] = _hash(data, begin, name_end)
        at[_DEPTH] += 1
    at[_IN_SELECT] |= kind & _SELECT
    if kind & _RAW:
        return _content(r, kind, begin, name_end - begin, i, n, unsure)
    return i


@inlined
def _content(r, kind, name, length, i, n, unsure):  # type: ignore[no-untyped-def]
    """Behind the content that begins at i, in an element whose content is no markup, or may be none."""
    end = raw_end(r.data, r.eights, i, n, name, length)
    if end >= n or (unsure and find(r.data, r.eights, i, end, 60) < end):
        return -1
    if not unsure and kind & _DROPPED and not (kind & _SCRIPT and _may_be_formula(r, name, i)):
        _write(r, i, end)
    return end


@inlined
def _may_be_formula(r, i, j):  # type: ignore[no-untyped-def]
    """Whether the script with the start tag data[i:j] may be of the type `math/tex`."""
    return has(r.data, i, j, b"math") or find(r.data, r.eights, i, j, 38) < j


@inlined
def _attributes(r, i, n, kind):  # type: ignore[no-untyped-def]
    """Behind the tag whose attributes begin at i, those left out that say nothing; -1 as above, n where it has no end.

    Where the value of the last one ends is at `_TO`.
    """
    data = r.data
    r.at[_TO] = i
    while i < n and data[i] != 62:
        if _BYTES[data[i]] & _ENDS_NAME:
            i += 1
            continue
        begin = i
        if data[i] == 61:  # part of this name; of the one before if that came to be next to it
            return -1
        while i < n and not _BYTES[data[i]] & _ENDS_ATTRIBUTE:
            i += 1
        name_end = value = value_end = r.at[_TO] = i
        while i < n and _BYTES[data[i]] & _SPACE:
            i += 1
        if i < n and data[i] == 61:
            value, value_end, i = _value(r, i + 1, n)
            r.at[_TO] = i
        says = _ALL if kind & _WHOLE else _says(data, begin, name_end, value, value_end, kind)
        if says == _ALL:
            continue
        if says == _NAME:  # for what stands twice counts once
            if value < i < n and _BYTES[data[i]] & _ENDS_NAME:
                _write(r, name_end, i)
            continue
        if data[begin - 1] != 47:  # `<a/b>` does not close itself, and `<a/>` does
            while i < n and _BYTES[data[i]] & _SPACE:
                i += 1
            _write(r, begin, i)
    return i + 1


@inlined
def _value(r, i, n):  # type: ignore[no-untyped-def]
    """Where the value behind an equals sign begins and ends, and what follows it."""
    data = r.data
    while i < n and _BYTES[data[i]] & _SPACE:
        i += 1
    if i < n and (data[i] == 34 or data[i] == 39):
        end = find(data, r.eights, i + 1, n, data[i])
        return i + 1, end, end + 1
    begin = i
    while i < n and data[i] != 62 and not _BYTES[data[i]] & _SPACE:
        i += 1
    return begin, i, i


@inlined
def _says(data, name, end, i, j, kind):  # type: ignore[no-untyped-def]
    """How much of the attribute data[name:end] with the value data[i:j] may say something: by its length and first
    letter it may be one that `pipeline.html.scan` or the parser asks for."""
    first, length = data[name] | 32, end - name
    if length == 5:
        if first == 115 and data[name + 2] | 32 == 121:  # style
            return _ALL if hides(data, i, j) or has(data, i, j, b"&") else _NAME
        if first == 118 and kind & _ITEM:  # value
            return _ALL
        return _ALL if first == 99 or first == 115 else _NOTHING  # class, start
    if length == 4:
        return _ALL if first == 114 or first == 116 else _NOTHING  # role, type
    if length == 3:
        if first == 115 and kind & _IMG:  # src
            return _ALL if has(data, i, j, b"tex") or has(data, i, j, b"&") else _NAME
        return _ALL if first == 97 else _NOTHING  # alt
    if length == 2:
        return _ALL if first == 105 else _NOTHING  # id
    if length == 6:
        return _ALL if first == 104 else _NOTHING  # hidden
    if length == 7:
        return _ALL if first == 97 or first == 100 else _NOTHING  # alttext, display
    if length == 8:
        return _ALL if first == 105 or first == 101 else _NOTHING  # itemprop, encoding
    return _ALL if length == 11 and first == 97 else _NOTHING  # aria-hidden
