"""What letters, words and ends of sentences are, as patterns of single characters, for every script.

The tables for compiled loops (`pipeline.text.characters`) are filled from these patterns, and `WORD` and
`SENTENCE_END` say in one line each what those loops do; the tests compare the two on any text.

Vowel signs and diacritics (Unicode's categories M) belong to the letter before them, and so do the format characters
(Cf) that join letters or forbid it: U+200C and U+200D in Persian and in the scripts of India, the soft hyphen.
"""

from __future__ import annotations

import regex

__all__ = [
    "CLOSING",
    "CONTINUING",
    "FORMAT",
    "FULL_STOP",
    "JOINERS",
    "LETTER",
    "SENTENCE_END",
    "SPACE",
    "STOP",
    "SYMBOL",
    "UNSPACED",
    "UNSPACED_LETTER",
    "WORD",
]

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Scripts that put no space between words: Thai, Lao, Burmese, Khmer and the other Tai scripts, kana, Han."""
_BETWEEN = "\u200b\u0f0b\u0f0c\u1361"
"""Between words without being white space: the zero width space of Khmer and Thai, the Tibetan tsheg, Ethiopic's."""
SPACE = rf"[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000{_BETWEEN}]"
"""Python's white space, and what lies between words otherwise."""
JOINERS = "'’.·‧״׳\u055b-\u055f＇"
"""Between two letters they are part of the word: apostrophe, full stop, Catalan's dot, marks of Hebrew, Armenian."""
LETTER = rf"[[\p{{L}}\p{{N}}_]--[{UNSPACED}]]"
UNSPACED_LETTER = rf"[[\p{{L}}\p{{N}}]&&[{UNSPACED}]]"
FORMAT = r"[\p{Cf}--[\u200b]]"
CONTINUING = r"[\p{M}\p{Cf}--[\u200b]]"
SYMBOL = rf"[^\p{{L}}\p{{N}}_\p{{Cf}}{SPACE[1:-1]}]"
WORD = regex.compile(
    rf"{UNSPACED_LETTER}{CONTINUING}*+|{LETTER}(?:{LETTER}|{CONTINUING}|[{JOINERS}](?={LETTER}))*+"
    rf"|{SYMBOL}(?:{SYMBOL}|{FORMAT})*+",
    regex.VERSION1,
)

_SPACE_FOLLOWS = r".!?\u061d-\u061f\u06d4\u0589\u2024\u203c\u203d\u2047-\u2049\u2cf9-\u2cfb\u2e2e"
FULL_STOP = rf"[[\p{{STerm}}\u0f0d\u0f0e．]--[{_SPACE_FOLLOWS}\u104a]]"
"""Ends a sentence whatever follows: the marks of scripts that put no space behind them, and danda and shad."""
STOP = r"[[\p{STerm}…\u037e\u0f0d\u0f0e．]--[\u104a]]"
"""Ends a sentence where white space follows. Unicode's Sentence_Terminal has the Burmese comma (U+104A) and lacks the
Tibetan shad (U+0F0D)."""
CLOSING = "[\"'”’»›)\\]」』）】》〉］｣]"
"""Quotes and brackets that close behind the stop."""
_WHITE = SPACE.replace(_BETWEEN, "")
SENTENCE_END = regex.compile(
    rf"{STOP}(?<!{STOP}{{2}}){STOP}*+{CLOSING}*+(?={_WHITE}|\Z)"
    rf"|{FULL_STOP}(?<!{FULL_STOP}{{2}}){FULL_STOP}*+{CLOSING}*+|(?<=[\u0e00-\u0eff]) ++(?=[\u0e00-\u0eff])|\n++",
    regex.VERSION1,
)
"""Tried once at the beginning of a run of marks and never within it, so that long runs take no longer than they are."""
