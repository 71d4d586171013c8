"""Compares words: case, articles, the full stop and hyphens aside, never their letters or their order."""

from __future__ import annotations

import calendar
import re
import unicodedata

__all__ = ["equal_code_output", "equal_text", "is_chemical", "read_absence", "read_truth"]

_TRUTHS = {"yes": True, "true": True, "no": False, "false": False}
_SHORT_TRUTHS = {"t": True, "f": False}
_VERB = r"(?:is|are|was|were|does|do|did|can|will|has|have)"
_YES = re.compile(rf"yes,? (?:it|they|he|she|this|that|there) {_VERB}")
_NO = re.compile(rf"no,? (?:it|they|he|she|this|that|there) (?:{_VERB} not|{_VERB}n't|cannot|can't|won't)")
_TYPEWRITTEN = str.maketrans("’‘`“”–‑", "'''\"\"--")
_EMPTY = re.compile(
    r"\$?(?:(?:(?:there (?:is|are|exists?)|(?:(?:it|(?:the|this) (?:equation|system|inequality)) )?has) )?"
    r"no (?:real )?(?:solutions?|roots?)(?: exists?)?|(?:the )?empty set"
    r"|(?:[a-z] ?\\in ?)?(?:\\emptyset|\\varnothing|∅|\\?\{ ?\\?\}))\$?"
)
_ENDLESS = re.compile(r"(?:there are )?infinite(?:ly many)? solutions")
_INEXISTENT = re.compile(r"dne|d\.n\.e|(?:(?:the )?limit )?(?:does not|doesn't) exist")
_CHEMICAL = re.compile(r"(?:(?:\d*[A-Z][a-z]?\d*|[()\[\]])+\d*[+−-]?|(?:\[[A-Z][a-z]\])?(?:\d[spdf]\d{1,2})+)")
_REACTANTS = re.compile(rf"{_CHEMICAL.pattern}(?:\+{_CHEMICAL.pattern})*")
_YIELDS = re.compile(r"-+>|=>|→|⟶|⇒|\\(?:long)?(?:right|Right)arrow(?![A-Za-z])|\\to(?![A-Za-z])")
"""What stands between the sides of a reaction."""
_ORDINALS = {
    word: number for number, word in enumerate(
        ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
         "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
         "twentieth"), 1)
} | {"thirtieth": 30, "fortieth": 40, "fiftieth": 50}  # fmt: skip
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
_ORDINAL = re.compile(rf"\b({'|'.join(_ORDINALS)})\b")
_TENTH = re.compile(rf"\b({'|'.join(_TENS)}) ({'|'.join(word for word, number in _ORDINALS.items() if number < 10)})\b")
_ABBREVIATED = {name[:3].lower(): name.lower() for name in (*calendar.day_name, *calendar.month_name[1:])} | {
    "tues": "tuesday", "thur": "thursday", "thurs": "thursday", "sept": "september",
}  # fmt: skip
_ERAS = {"bce": "bc", "ce": "ad"}
_COMMAND = re.compile(r"\\(?:ce|text|textbf|textit|mathrm|mathbf|mbox|emph)\s*\{([^{}]*)\}")


def read_truth(text: str) -> bool | None:
    """Yes or true, no or false; None for anything else."""
    text = text.strip(" .!,'\"").casefold()
    return _TRUTHS.get(text, True if _YES.fullmatch(text) else False if _NO.fullmatch(text) else None)


def read_absence(text: str) -> str | None:
    """``empty`` (a set, an equation without solutions), ``endless`` (solutions) or ``none`` (what does not exist)."""
    text = _plain(text).strip(" .!").casefold()
    if _EMPTY.fullmatch(text):
        return "empty"
    if _ENDLESS.fullmatch(text):
        return "endless"
    return "none" if _INEXISTENT.fullmatch(text) else None


def equal_text(expected: str, answer: str) -> bool:
    """Whether the two are the same words."""
    truth = read_truth(_plain(expected))
    if truth is not None:
        given = _plain(answer).strip(" .()").casefold()
        short = _SHORT_TRUTHS.get(given) if _plain(expected).strip(" .").casefold() in ("true", "false") else None
        return truth in (read_truth(given), short)
    if (chemical := _chemical(expected)) is not None and chemical == _chemical(answer):
        return True
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


def is_chemical(text: str) -> bool:
    """Whether it is a formula of chemistry."""
    return _chemical(text) is not None


def _chemical(text: str) -> str | None:
    """A formula of chemistry, an ion or the electrons of an atom without the marks of its indices, or None."""
    text = _YIELDS.sub("->", unicodedata.normalize("NFKC", text))
    text = re.sub(r"\\(?:ce|text|mathrm|mathbf)(?![A-Za-z])|[\s_^{}$]", "", text).replace("−", "-")
    sides = text.split("->")
    is_formula = len(sides) == 1 and _CHEMICAL.fullmatch(text) and re.search(r"[\d+-]", text)
    return text if is_formula or (len(sides) == 2 and all(map(_REACTANTS.fullmatch, sides))) else None


def _ordinals(text: str) -> str:
    """``twenty first`` as ``21th``, and so ``21st``."""
    text = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", r"\1th", text)
    text = _TENTH.sub(lambda found: f"{_TENS[found[1]] + _ORDINALS[found[2]]}th", text)
    return _ORDINAL.sub(lambda found: f"{_ORDINALS[found[1]]}th", text)


def _words(text: str) -> str:
    text = _plain(text).casefold()
    text = text.translate(_TYPEWRITTEN)
    text = re.sub(r"(?<=[^\W\d_])\.(?=[^\W\d_]|\s|$)", "", text)  # U.S.A.
    text = re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_])", " ", text)
    text = re.sub(r"\s*([,;:])(?=\s|$)\s*", r"\1 ", text).strip(" .,;:!'\"")
    text = re.sub(r"^(?:the|an|a|on|in) (?=\S)", "", _ordinals(" ".join(text.split())))
    text = re.sub(r"^(?:ad|ce) (\d+)$", r"\1 ad", text)
    return _ABBREVIATED.get(text) or re.sub(r"(?<=\d )(?:bce|ce)$", lambda found: _ERAS[found[0]], text)


def _is_other_case(expected: str, answer: str) -> bool:
    """Whether letters differ in case where case tells things apart: ``CO`` is not ``Co``."""
    first, second = _plain(expected).strip(" ."), _plain(answer).strip(" .")
    is_short = len(first) <= 2 or (re.search(r"\d", first) is not None and " " not in first and len(first) <= 6)
    return is_short and first != second and first.casefold() == second.casefold() and second != second.lower()
