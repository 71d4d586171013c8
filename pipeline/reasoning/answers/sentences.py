"""The one value that a plain sentence states: ``She makes 18 dollars every day.``, ``The capital of France is Paris.``

Only sentences that state are read: one number, a verb before it, no word that denies, hedges, compares or computes.
"""

from __future__ import annotations

import re

from pipeline.reasoning.answers.doubt import DOUBTFUL
from pipeline.reasoning.answers.splitting import word_set

__all__ = ["stated_value", "stated_words"]

_NUMBER = re.compile(r"(?<![\w.,/^])-?\\?[$€£]?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?\\?%?(?![\w/^])")
_SUBJECT = re.compile(
    r"((?:The|It|Its|His|Her|This) ?[A-Za-z]*(?: [A-Za-z]+){0,7}) (?:is|was|are|were) ([^,;:?]{1,100})"
)
_VERBS = word_set(
    "is are equals has have makes made earns earned costs cost gets got pays paid sold sells needs needed "
    "spent spends bought buys gives gave received receives saves saved takes took leaves totals contains "
    "weighs measures ate eats walked ran drove travels travelled collected picked used uses there"
)
_BETWEEN = word_set("now a total of exactly still only in all altogether equal to")


def stated_value(text: str) -> str | None:
    """The number that the sentence states, with the words after it, or None."""
    text = " ".join(text.split())
    if len(text) > 200 or re.search(r"[?;:|]|[.!]\s", text) or "n't" in text:
        return None
    found = list(_NUMBER.finditer(text))
    if len(found) != 1:
        return None
    before = re.findall(r"[a-z']+", text[: found[0].start()].lower())
    after = re.findall(r"[a-z']+", text[found[0].end() :].lower())
    if not before or len(before) > 15 or len(after) > 6:
        return None
    if ((set(before) - _BETWEEN) | (set(after) - {"every"})) & DOUBTFUL:
        return None
    if re.fullmatch(r"[A-Za-z' ,-]*[.!]?", text[found[0].end() :]) is None:
        return None
    while before and before[-1] in _BETWEEN:
        before.pop()
    if not before or before[-1] not in _VERBS or re.search(r"[^A-Za-z' ,.]", text[: found[0].start()]):
        return None
    tail = text[found[0].end() :].strip(" .!")
    noun = re.match(r"[A-Za-z]+", tail)
    return f"{found[0][0]} {noun[0]}" if noun is not None and len(after) == 1 else found[0][0]


def stated_words(text: str) -> str | None:
    """What the sentence says that its subject is, or None."""
    found = _SUBJECT.fullmatch(" ".join(text.split()))
    if found is None or set(re.findall(r"[a-z']+", found[1].lower())) & DOUBTFUL - {"first", "second", "to"}:
        return None
    return found[2]
