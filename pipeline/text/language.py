"""Whether text keeps to one language: the share of its words in the language's script.

R1 rewards "the proportion of target language words" in a chain of thought (DeepSeek-R1, section 2.3.2), against chains
that wander between languages. Words of a few letters between formulas tell a script, not a language: English and
French count as the same, English and Chinese do not.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

__all__ = ["LANGUAGES", "consistency"]

_LATIN = "cs da de en es fi fr hu id it nl no pl pt ro sv tr vi"
LANGUAGES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_LATIN.split(), ("LATIN",)),
    **dict.fromkeys(["bg", "ru", "sr", "uk"], ("CYRILLIC",)),
    "ar": ("ARABIC",),
    "el": ("GREEK",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL",),
    "th": ("THAI",),
    "zh": ("CJK",),
}
"""Language code to the scripts it is written in, by their names in Unicode."""
_WORD = re.compile(r"[^\W\d_]+")


def consistency(text: str, language: str) -> float:
    """Share of the words of `text` written in the script of `language`; 1 for text without words.

    KeyError for a language that is not in `LANGUAGES`.
    """
    scripts = LANGUAGES[language]
    words = _WORD.findall(text)
    if not words:
        return 1.0
    return sum(all(_script(letter) in scripts for letter in word) for word in words) / len(words)


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split(maxsplit=1)[0].split("-")[0]
