"""`-{...}-`: text that a wiki in several scripts or regions shows in one of them (MediaWiki's LanguageConverter).

After `ConverterRule` of MediaWiki 1.43: flags before `|`, then rules `variant:text;...`. Which variant is wanted
decides, then those that it falls back on; with none wanted the first rule that the wiki's plain form falls back on.
Words are converted by the rules of the page itself alone, not by MediaWiki's tables of whole languages.
"""

from __future__ import annotations

import re

from pipeline.sources.wikitext.marks import MARK

__all__ = ["FALLBACKS", "Variants"]

FALLBACKS: dict[str, tuple[str, ...]] = {
    "zh": ("zh-hans", "zh-hant", "zh-cn", "zh-tw", "zh-hk", "zh-sg", "zh-mo", "zh-my"),
    "zh-hans": ("zh-cn", "zh-sg", "zh-my"),
    "zh-hant": ("zh-tw", "zh-hk", "zh-mo"),
    "zh-cn": ("zh-hans", "zh-sg", "zh-my"),
    "zh-sg": ("zh-my", "zh-hans", "zh-cn"),
    "zh-my": ("zh-sg", "zh-hans", "zh-cn"),
    "zh-tw": ("zh-hant", "zh-hk", "zh-mo"),
    "zh-hk": ("zh-mo", "zh-hant", "zh-tw"),
    "zh-mo": ("zh-hk", "zh-hant", "zh-tw"),
    "sr": ("sr-ec",),
    "sr-ec": ("sr", "sr-cyrl"),
    "sr-el": ("sr-latn", "sr"),
    "sh": ("sh-latn",),
    "sh-latn": ("sh",),
    "sh-cyrl": ("sh-latn",),
    "gan": ("gan-hans", "gan-hant"),
    "gan-hans": ("gan",),
    "gan-hant": ("gan",),
    "wuu": ("wuu-hans", "wuu-hant"),
    "wuu-hans": ("wuu",),
    "wuu-hant": ("wuu",),
    "kk": ("kk-cyrl", "kk-kz", "kk-latn", "kk-arab"),
    "ku": ("ku-latn",),
    "ku-arab": ("ku-latn",),
    "ku-latn": ("ku-arab",),
    "uz": ("uz-latn",),
    "uz-cyrl": ("uz",),
    "uz-latn": ("uz",),
    "shi": ("shi-latn", "shi-tfng"),
    "shi-latn": ("shi",),
    "shi-tfng": ("shi",),
    "iu": ("ike-cans",),
    "ike-cans": ("iu",),
    "ike-latn": ("iu",),
    "crh": ("crh-latn",),
    "crh-latn": ("crh-cyrl",),
    "crh-cyrl": ("crh-latn",),
    "tg": ("tg",),
    "tg-latn": ("tg",),
    "tly": ("tly",),
    "tly-cyrl": ("tly",),
    "ban": ("ban",),
    "ban-bali": ("ban",),
    "mni": ("mni",),
    "mni-beng": ("mni",),
    "zgh": ("zgh",),
    "zgh-latn": ("zgh",),
}
"""Variants that are shown when one has no text of its own (parsoid's baseconfig, `languagevariants`)."""
_ALIKE = {"zh-yue": "zh", "zh-classical": "zh"}
_TOKENS = re.compile(r"(-\{(?!\{)|(?<!\})(?:\}\})*\}-)")
_REFERENCE = re.compile(r"&#?[a-zA-Z0-9]{1,32}$")
_FLAGS = re.compile(r"[A-Za-z\-;\s]*")
MOST_DEPTH = 10
"""As MediaWiki's."""


MOST_RULES = 200
"""For a whole page; more are passed over."""


class Variants:
    """The variants of a page's language, and which of them is wanted ("" for the wiki's plain form)."""

    def __init__(self, language: str, wanted: str) -> None:
        language = _ALIKE.get(language, language)
        base = language if language in FALLBACKS else language.partition("-")[0]
        codes = {code for code in FALLBACKS if code == base or code.startswith(f"{base}-")}
        self._known = frozenset(codes | {other for code in codes for other in FALLBACKS[code]})
        """None where the language has no variants: there all this is text."""
        self._wanted = wanted.lower() if wanted.lower() in self._known else ""
        start = self._wanted or base
        self._order = (start, *FALLBACKS.get(start, ()), *FALLBACKS.get(base, ()))
        self._rules: dict[str, str] = {}
        """What the whole page shows instead of words of other variants."""

    def chosen(self, text: str) -> str:
        """`text` with every `-{...}-` replaced by what is shown of it."""
        if not self._known or "-{" not in text:
            return text
        stack: list[list[str]] = [[]]
        for token in _TOKENS.split(text):
            if token == "-{" and len(stack) <= MOST_DEPTH:
                stack.append([])
            elif token.endswith("}-") and len(stack) > 1:
                inner = "".join([*stack.pop(), token[:-2]])
                stack[-1].append(self._shown(inner))
            else:
                stack[-1].append(token)
        while len(stack) > 1:
            rest = stack.pop()
            stack[-1].append("-{" + "".join(rest))
        return "".join(stack[0])

    def converted(self, text: str) -> str:
        """`text` by the rules for the whole page; they concern a variant, not the plain form."""
        if not self._wanted or not self._rules:
            return text
        words = "|".join(map(re.escape, sorted(self._rules, key=len, reverse=True)))
        return re.sub(rf"{MARK}|{words}", lambda word: self._rules.get(word[0], word[0]), text)

    def _shown(self, inner: str) -> str:
        before, bar, after = inner.partition("|")
        flags: set[str] = set()
        if bar and _FLAGS.fullmatch(before):
            names = {flag.strip() for flag in before.split(";") if flag.strip()}
            if names and {name.lower() for name in names} <= self._known:  # for these variants alone
                return after
            flags, inner = {name.upper() for name in names}, after
        rules = {} if flags & {"R", "N", "T", "-"} else _rules(inner, self._known)
        shown = next((rules[code] for code in self._order if code in rules), next(iter(rules.values()), inner))
        if flags & {"A", "H"}:
            self._rules |= {text: shown for text in rules.values() if text and len(self._rules) < MOST_RULES}
        if flags & {"H", "T", "-"}:
            return ""
        if rules and "D" in flags:
            return "；".join(f"{variant}：{text}" for variant, text in rules.items())
        return shown


def _rules(inner: str, known: frozenset[str]) -> dict[str, str]:
    """Texts by variant; none if this is no list of rules. A `;` that begins no further rule is part of a text."""
    rules: list[tuple[str, list[str]]] = []
    for piece in inner.split(";"):
        one, arrow, target = piece.partition("=>")
        variant, colon, text = (target if arrow else one).partition(":")
        if colon and variant.strip().lower() in known:
            rules.append((variant.strip().lower(), [text]))
        elif rules:
            rules[-1][1].append(piece)
        elif piece.strip():
            return {}
    found: dict[str, str] = {}
    for variant, pieces in rules:
        found.setdefault(variant, _text(pieces))
    return found


def _text(pieces: list[str]) -> str:
    """The pieces of a text with the semicolons between them; the last one may only end the rule."""
    if len(pieces) > 1 and not pieces[-1].strip() and not _REFERENCE.search(pieces[-2]):
        pieces = pieces[:-1]
    return ";".join(pieces).strip()
