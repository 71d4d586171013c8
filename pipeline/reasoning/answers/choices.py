"""Reads the letter of a choice: ``B``, ``(b)``, ``Option B``, ``B) Paris``; two letters are no choice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import pairwise

from pipeline.reasoning.answers.text import equal_text

__all__ = ["equal_choice", "read_choice", "read_letters"]

_LABEL = r"(?:(?:the )?(?:correct |right |best )?(?:option|choice|answer|letter)\s*:?\s*)?"
_BARE = re.compile(rf"{_LABEL}[(\[{{]?\s*([A-Za-z])\s*[)\]}}]?\s*[.:]?", re.IGNORECASE)
_WITH_TEXT = re.compile(
    rf"{_LABEL}(?:[(\[]([A-Za-z])[)\]]|([A-Za-z])(?:[).:]|\s+[-–—:]|(?=\s+\(.+\)$)))\s+(\S.*)",
    re.IGNORECASE | re.DOTALL,
)
_TOO_MUCH = re.compile(
    r"[(\[]?\b(?-i:[A-Z])\b[)\].:]|^(?:(?-i:[A-Z])|\([A-Z]\))$|\b(?:not|wrong|incorrect|or|and|isn't|maybe|never|either|neither|both|option|choice)\b|\?|\n",
    re.IGNORECASE,
)


def read_choice(text: str) -> tuple[str, str] | None:
    """The letter, in upper case, and the text after it where there is one."""
    text = re.sub(r"\\[ ,;:]|(?<=\S)~", " ", unicodedata.normalize("NFKC", text))
    text = re.sub(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}", r"\1", text).strip().replace("**", "")
    found = _BARE.fullmatch(text)
    if found is not None:
        return found[1].upper(), ""
    found = _WITH_TEXT.fullmatch(text)
    if found is None:
        return None
    words = found[3].strip()
    inner = words[1:-1]
    is_in_brackets = words[0] + words[-1] == "()" and len(inner) > 1 and not set("()") & set(inner)
    return (found[1] or found[2]).upper(), inner if is_in_brackets else words


def read_letters(text: str, *, any_order: bool = False) -> frozenset[str] | None:
    """The letters of several choices, ``A and C``, ``ACD``: at least two of A to J that rise, or None.

    Args:
        any_order: letters with something between them need not rise; others may be a product or a segment.
    """
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", unicodedata.normalize("NFKC", text))
    text = re.sub(r"^(?:options|choices|answers)\b", "", text.strip(), flags=re.IGNORECASE)
    letters = re.sub(r"\band\b|[\s(){},;&]|\\", "", text)
    is_apart = any_order and letters not in text and len(set(letters)) == len(letters)
    is_rising = is_apart or all(a < b for a, b in pairwise(letters))
    return frozenset(letters) if re.fullmatch("[A-J]{2,10}", letters) and is_rising else None


def equal_choice(
    expected: str, answer: str, choices: Sequence[str] = (), equal: Callable[[str, str], bool] = equal_text
) -> bool:
    """Whether `answer` names the choice that `expected` names.

    Args:
        choices: the texts of the choices, A first, where they are known: they may stand for their letter then, and a
            letter beside another one's text is wrong.
        equal: whether the second text says what a choice, the first, does.
    """
    wanted = read_choice(expected)
    if wanted is None:
        return False
    letter, text = wanted
    place = ord(letter) - ord("A")
    text = text or (choices[place] if place < len(choices) else "")
    given = read_choice(answer)
    if given is None:
        return bool(text) and equal(text, answer) and sum(equal(choice, answer) for choice in choices) < 2
    if given[0] != letter:
        return False
    if not given[1]:
        return True
    return equal(text, given[1]) if text else not _TOO_MUCH.search(given[1])
