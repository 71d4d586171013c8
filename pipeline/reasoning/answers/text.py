"""Compares words: case, articles, the full stop and hyphens aside, never their letters or their order."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["equal_code_output", "equal_text", "read_truth"]

_TRUTHS = {"yes": True, "true": True, "no": False, "false": False}
_VERB = r"(?:is|are|was|were|does|do|did|can|will|has|have)"
_YES = re.compile(rf"yes,? (?:it|they|he|she|this|that|there) {_VERB}")
_NO = re.compile(rf"no,? (?:it|they|he|she|this|that|there) (?:{_VERB} not|{_VERB}n't|cannot|can't|won't)")
_TYPEWRITTEN = str.maketrans("’‘`“”–‑", "'''\"\"--")
_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|emph)\s*\{([^{}]*)\}")


def read_truth(text: str) -> bool | None:
    """Yes or true, no or false; None for anything else."""
    text = text.strip(" .!,'\"").casefold()
    return _TRUTHS.get(text, True if _YES.fullmatch(text) else False if _NO.fullmatch(text) else None)


def equal_text(expected: str, answer: str) -> bool:
    """Whether the two are the same words."""
    truth = read_truth(_plain(expected))
    if truth is not None:
        return read_truth(_plain(answer)) == truth
    first, second = _words(expected), _words(answer)
    if not first or not second or _is_other_case(expected, answer):
        return False
    if first == second:
        return True
    without = [unicodedata.normalize("NFD", text).encode("ascii", "ignore").decode() for text in (first, second)]
    is_one_plain = first.isascii() or second.isascii()
    return is_one_plain and len(without[0]) > 1 and without[0] == without[1] and _is_latin(first + second)


def equal_code_output(expected: str, answer: str) -> bool:
    """Whether the two are the same lines; white space at the ends of lines and of the whole does not count."""
    first, second = (
        [line.rstrip() for line in text.replace("\r\n", "\n").rstrip().split("\n")] for text in (expected, answer)
    )
    while first and not first[0]:
        del first[0]
    while second and not second[0]:
        del second[0]
    return first == second and bool(first)


def _is_latin(text: str) -> bool:
    return all(char.isascii() or unicodedata.name(char, "").startswith("LATIN") for char in text)


def _plain(text: str) -> str:
    text = _COMMAND.sub(r"\1", text)
    text = re.sub(r"\\([_%$&#])", r"\1", re.sub(r"\\[ ,;:]|~", " ", text))
    return " ".join(unicodedata.normalize("NFC", text).split())


def _words(text: str) -> str:
    text = _plain(text).casefold()
    text = text.translate(_TYPEWRITTEN)
    text = re.sub(r"(?<=[^\W\d_])\.(?=[^\W\d_]|\s|$)", "", text)  # U.S.A.
    text = re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_])", " ", text)
    text = re.sub(r"\s*([,;:])(?=\s|$)\s*", r"\1 ", text).strip(" .,;:!'\"")
    return re.sub(r"^(?:the|an|a) (?=\S)", "", " ".join(text.split()))


def _is_other_case(expected: str, answer: str) -> bool:
    """Whether letters differ in case where case tells things apart: ``CO`` is not ``Co``."""
    first, second = _plain(expected).strip(" ."), _plain(answer).strip(" .")
    is_short = len(first) <= 2 or (re.search(r"\d", first) is not None and " " not in first and len(first) <= 6)
    return is_short and first != second and first.casefold() == second.casefold() and second != second.lower()
