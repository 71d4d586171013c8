"""What each character becomes and which kind of word it belongs to, as tables for compiled loops.

The tables are filled by Python's own functions, a page of 256 code points when a text first needs it, so they agree
with `pipeline.text.folding.fold` and with the patterns of `pipeline.text.alphabet` by construction, and a process that
reads English never pays for the rest of Unicode.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache

import numpy as np
import regex
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION

from pipeline.text.alphabet import (
    CLOSING,
    CONTINUING,
    FORMAT,
    FULL_STOP,
    JOINERS,
    LETTER,
    STOP,
    SYMBOL,
    UNSPACED_LETTER,
)
from pipeline.text.folding import FINEWEB, LOOSE, Fold, invisible, punctuation, widened

__all__ = ["Characters", "characters", "simplified"]

CODE_POINTS = 0x110000
PAGE = 256

# What simplification makes of a character: `action`.
SPACE, DIGIT, REPLACED, HARD, BEFORE_DIGIT = 0, 1, 2, 3, 4
# What a character is to the compiled rules, a set of bits: `kind`.
IS_LETTER, IS_CONTINUING, IS_UNSPACED, IS_JOINER, IS_SYMBOL, IS_FORMAT, IS_SPACE, IS_LINE_END = (
    1 << b for b in range(8)
)
IS_STOP, IS_FULL_STOP, IS_CLOSING, IS_ALPHA, IS_DIGIT, IS_PUNCTUATION, IS_TERMINAL = (1 << b for b in range(8, 15))

SEPARATORS = tuple(map(ord, ".,،٫⎖⎗⎘"))
"""One of these between digits belongs to the number (datatrove's `NUMBERS_PATTERN`)."""
_NUMBER = regex.compile(r"\p{Nd}")
_PATTERNS = (
    (IS_LETTER, LETTER),
    (IS_CONTINUING, CONTINUING),
    (IS_UNSPACED, UNSPACED_LETTER),
    (IS_JOINER, f"[{JOINERS}]"),
    (IS_SYMBOL, SYMBOL),
    (IS_FORMAT, FORMAT),
    (IS_STOP, STOP),
    (IS_FULL_STOP, FULL_STOP),
    (IS_CLOSING, CLOSING),
)
_CLASSES = tuple((bit, regex.compile(pattern, regex.VERSION1)) for bit, pattern in _PATTERNS)
_KINDS: tuple[tuple[int, Callable[[str], object]], ...] = (
    (IS_SPACE, str.isspace),
    (IS_LINE_END, lambda character: len(f"{character}a".splitlines()) > 1),
    (IS_ALPHA, str.isalpha),
    (IS_DIGIT, str.isdecimal),
    (IS_PUNCTUATION, PUNCTUATION_SET.__contains__),
    (IS_TERMINAL, TERMINAL_PUNCTUATION.__contains__),
)


class Characters:
    """The tables of a way of folding, by code point; `build` fills a page of them."""

    def __init__(self, how: Fold) -> None:
        self.how = how
        self.built = np.zeros(CODE_POINTS // PAGE, dtype=np.bool_)
        self.action = np.zeros(CODE_POINTS, dtype=np.uint8)
        self.begin = np.zeros(CODE_POINTS, dtype=np.int32)
        """Where in `spelling` the UTF-8 of the replacement begins."""
        self.length = np.zeros(CODE_POINTS, dtype=np.uint8)
        self.spelling = np.zeros(0, dtype=np.uint8)
        self.kind = np.zeros(CODE_POINTS, dtype=np.uint16)
        self.build(0)

    def build(self, page: int) -> None:
        """Fill in the code points of one page."""
        spelling = bytearray(self.spelling.tobytes())
        self.kind[page * PAGE : (page + 1) * PAGE] = _kinds(page)
        for code in range(page * PAGE, (page + 1) * PAGE):
            character = chr(code)
            self.action[code], spelled = simplified(character, self.how)
            self.begin[code], self.length[code] = len(spelling), len(spelled)
            spelling += spelled
        self.spelling = np.frombuffer(bytes(spelling), dtype=np.uint8)
        self.built[page] = True


@cache
def _kinds(page: int) -> np.ndarray:
    """What the characters of a page are, uint16 [PAGE]; that does not depend on what is folded."""
    everything = [chr(code) for code in range(page * PAGE, (page + 1) * PAGE)]
    kinds = np.zeros(PAGE, dtype=np.uint16)
    for bit, pattern in _CLASSES:
        kinds[[match.start() for match in pattern.finditer("".join(everything))]] |= bit
    for bit, has in _KINDS:
        kinds[[place for place, character in enumerate(everything) if has(character)]] |= bit
    return kinds


def simplified(character: str, how: Fold) -> tuple[int, bytes]:
    """The action for a character, and what replaces it in UTF-8."""
    wide = widened[ord(character)] if how.width else character
    if how.numbers and (_NUMBER.search(wide) or (how.width and invisible(character))):
        return (DIGIT, b"0") if _NUMBER.fullmatch(wide) else (HARD, b"")
    if how.punctuation and not how.operators and character in LOOSE:
        return BEFORE_DIGIT, character.encode()
    lower = wide.lower() if how.case else wide
    if how.punctuation:
        lower = lower.translate(punctuation(how.operators))
    if lower and lower.isspace():
        return SPACE, b" "
    kept = lower
    if how.diacritics:
        decomposed = unicodedata.normalize("NFD", lower)
        kept = "".join(part for part in decomposed if unicodedata.category(part) != "Mn")
    spelled = kept.encode(errors="surrogatepass")
    context = how.case and "Σ" in wide  # its lower case depends on where in the word it stands
    moves = how.diacritics and any(unicodedata.combining(part) for part in kept)  # canonical order may move it
    too_long = len(spelled) > 3 * len(character.encode(errors="surrogatepass"))
    if context or moves or too_long or any(part.isspace() for part in lower):
        return HARD, b""
    return REPLACED, spelled


@cache
def characters(how: Fold = FINEWEB) -> Characters:
    """The tables of this process; what kind of character each is does not depend on what is folded."""
    return Characters(how)
