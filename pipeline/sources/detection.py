"""What encoding bytes are in that nobody declared.

Two detectors answer: chardetng, Firefox's own, which is right about encodings of several bytes and about most others,
and charset-normalizer, which knows Macintosh and DOS encodings as well. Where they differ, or where the answer is one
of the single-byte encodings of Latin script, whose texts differ in a few letters, the text decides that looks most like
one: no capital within a word, no symbol beside a letter, no two scripts in a word, no letter that its language lacks.
`bench.fidelity.charsets` compares them, and this, over chardet's own test files.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice, pairwise

import chardetng_py
import charset_normalizer

from pipeline.sources.whatwg import REPLACEMENT, decode_as, name_of

__all__ = ["detect", "instead_of"]

ENOUGH = 1 << 17
"""Bytes that are looked at."""
RUNS = 4000
"""Runs of letters beyond ASCII of which a text is judged."""
BETTER = 0.8
"""Times the faults of an earlier guess that a later one may have to be taken instead."""

MARGIN = 0.02
"""Further, where the guesses differ in the script: next to no faults are none."""
_BY_NULS = {
    (False, True, True, True): "utf-32le",
    (True, True, True, False): "utf-32be",
    (False, True, False, True): "utf-16le",
    (True, False, True, False): "utf-16be",
}
"""Which bytes of every four are mostly NUL."""
DOUBTFUL = 0.1
"""Faults of the best guess from which on it is doubted."""
RUBBISH = 0.3
"""Faults from which on a text is none: German, French, Icelandic and capitals have 0 to 0.17 as windows-1252, what is
Cyrillic, Greek, Turkish, Polish or Chinese and read as that 0.42 to 0.96."""
MEASURED, SOME = 1 << 16, 150
"""Bytes, and runs of letters beyond ASCII in them, of which a declared encoding is judged."""
ENOUGH_FOREIGN = 20
"""Bytes beyond ASCII below which it is not."""
MOST_STRAY = 0.1
"""Share of a text that may mean nothing."""
_ENCODERS = {"euc-kr": "cp949", "shift_jis": "cp932", "big5": "big5hkscs"}
_OF_SEVERAL_BYTES = frozenset({"gbk", "gb18030", "big5", "euc-kr", "euc-jp", "shift_jis", "iso-2022-jp"})
_LATIN = ("windows-1252", "windows-1250", "iso-8859-2", "windows-1254", "windows-1257", "macintosh")
"""What a text of Latin script is tried as, the most usual first."""
_RARE = {"macintosh": 0.15}
"""Faults counted against an encoding from the beginning."""
_SECOND = [
    *(f"cp{number}" for number in (855, 866, 874, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)),
    *(f"iso8859_{number}" for number in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)),
    *("koi8_r", "koi8_u", "mac_cyrillic", "johab"),
]
"""What the second detector chooses among."""
_ISO_LATIN = frozenset(f"iso-8859-{number}" for number in (2, 3, 4, 10, 13, 14, 15, 16))
_SYMBOLS = frozenset({"So", "Sc", "Sm", "Sk", "Co", "Cc", "Cn", "No"})

# Letters beyond ASCII of the languages of Latin script, as the main exemplar sets of Unicode's CLDR have them.
_LETTERS = (
    "àâæçèéêëîïôœùûüÿ äöüß áéíñóúüªº áâãàçéêíóôõúüªº àèéìíîòóùú áäéèëïíóöúü åäöéàü åæøéòèêóâôüäö äöåšž áðéíóúýþæö "
    "äõöüšž ąćęłńóśźż áčďéěíňóřšťúůýž áäčďéíĺľňóôŕšťúýž áéíóöőúüű ăâîșțşţ čćđšž çğıiöşüâîû ąčęėįšųūž āčēģīķļņšūž "
    "àçèéíïòóúü ñçü çë"
)
_ALPHABETS = [frozenset(each + each.upper() + ("İ" if "ı" in each else "")) for each in _LETTERS.split()]


def detect(body: bytes, tld: str = "") -> str | None:
    """The encoding of `body`, which is neither ASCII nor UTF-8: a name that `decode_as` takes; None where none fits.

    Args:
        tld: the last part of the name of the host that it comes from, if known.
    """
    head = body[:ENOUGH]
    if head.count(0) * 8 > len(head):
        return _by_nuls(head)
    if b"\x1b$)C" in head[:1024]:
        return "iso-2022-kr"
    domain = tld.encode() if tld.isascii() and tld.isalpha() and tld.islower() else None
    first = _first(head, domain)
    if first in _OF_SEVERAL_BYTES:
        return first
    best, faults = _best(head, _guesses(head, first))
    return (_with_stray_bytes(head) if faults > DOUBTFUL else None) or best


def instead_of(body: bytes, said: str, tld: str = "") -> str | None:
    """What the encoding is where `said`, which gives every byte a meaning, makes a text of it that looks like none.

    None where that text looks like one, or where no other encoding makes a better one.
    """
    head = body[:ENOUGH]
    if sum(map(len, re.findall(rb"[\x80-\xff]+", head[:MEASURED]))) < ENOUGH_FOREIGN:
        return None
    if _faults(decode_as(head[:MEASURED], said), SOME) < RUBBISH:
        return None
    found = detect(body, tld)
    return found if found and _faults(decode_as(head[:MEASURED], found), SOME) < DOUBTFUL else None


def _first(head: bytes, domain: bytes | None = None) -> str:
    told = chardetng_py.detect(head, allow_utf8=False, tld=domain).lower()
    return "windows-874" if told == "cp874" else name_of(told) or told


def _with_stray_bytes(head: bytes) -> str | None:
    """An encoding of several bytes but for some that mean nothing in it, for which chardetng refuses it."""
    for name in sorted(_OF_SEVERAL_BYTES):
        text = decode_as(head, name)
        if 0 < text.count(REPLACEMENT) <= MOST_STRAY * len(text):
            mended = text.replace(REPLACEMENT, "").encode(_ENCODERS.get(name, name), "ignore")
            if not mended.isascii() and _first(mended) == name:
                return name
    return None


def _by_nuls(head: bytes) -> str | None:
    quarter = len(head) // 4 + 1
    one, two, three, four = (head[place::4].count(0) * 2 > quarter for place in range(4))
    return _BY_NULS.get((one, two, three, four))


def _guesses(head: bytes, first: str) -> list[str]:
    guesses = [first]
    if second := charset_normalizer.from_bytes(head, cp_isolation=_SECOND).best():
        guesses.append(name_of(second.encoding.replace("_", "-")) or second.encoding)
    if first in _LATIN or first in _ISO_LATIN:
        guesses += _LATIN
    return list(dict.fromkeys(guesses))


def _best(head: bytes, guesses: list[str]) -> tuple[str, float]:
    best, fewest = guesses[0], float("inf")
    script = ""
    for guess in guesses:
        text = decode_as(head, guess)
        faults, written = _faults(text) + _RARE.get(guess, 0.0), _script_of(text)
        if faults < BETTER * fewest - (MARGIN if script != written else 0.0):
            best, fewest, script = guess, faults, written
    return best, fewest


def _faults(text: str, most: int = RUNS) -> float:
    """How little like a text it looks: what is wrong in a word, per pair of characters, and letters of no language."""
    pairs = Counter(pair for run in islice(_runs(text), most) for pair in pairwise(run))
    wrong = sum(count for pair, count in pairs.items() if _is_wrong(*pair))
    letters: Counter[str] = Counter()
    for (_, character), count in pairs.items():
        if "\x7f" < character < "\u0250" and character.isalpha():
            letters[character] += count
    known = max(sum(count for letter, count in letters.items() if letter in alphabet) for alphabet in _ALPHABETS)
    foreign = sum(letters.values())
    return wrong / (pairs.total() + 1) + ((foreign - known) / foreign if foreign else 0)


def _runs(text: str) -> Iterator[str]:
    """Each run of characters beyond ASCII with the character before and after it."""
    for match in re.finditer(r"[^\x00-\x7f]+", text):
        yield f"{text[max(0, match.start() - 1)]}{match[0]}{text[match.end() : match.end() + 1]}"


@cache
def _is_wrong(left: str, right: str) -> bool:
    """Whether two neighbours are rarely that in any text."""
    if "\ufffd" in (left, right):
        return True
    one, other = unicodedata.category(left), unicodedata.category(right)
    if one[0] == other[0] == "L":
        return (one, other) == ("Ll", "Lu") or ("Lo" not in (one, other) and _script(left) != _script(right))
    letter, beside = (left, other) if one[0] == "L" else (right, one) if other[0] == "L" else ("", "")
    return bool(letter) and (beside in _SYMBOLS or (beside == "Nd" and not letter.isascii()))


def _script_of(text: str) -> str:
    """The script of the first letter beyond ASCII."""
    return next((_script(character) for character in text if character > "\x7f" and character.isalpha()), "")


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0]
