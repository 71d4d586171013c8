"""The words of templates that belong to a sentence; what any other one shows (a box, a notice) is left out.

A template's page is not at hand, so what it would show is known for those that `template_names` lists.
"""

from __future__ import annotations

import re

from pipeline.sources.wikitext.braces import Arguments
from pipeline.sources.wikitext.extensions import without_extensions
from pipeline.sources.wikitext.numbers import country, grouped, ungrouped
from pipeline.sources.wikitext.template_names import FIXED, NAMES
from pipeline.sources.wikitext.template_texts import KINDS, Page

__all__ = ["Templates"]

_LANGUAGE = re.compile(
    r"(?:lang|idioma|lingua|língua|langue|jezik|језик|język|språk|sprog|keel|kieli|vol|valoda|kalba|dil|език|мова|язык|til|тел)"
    r"-([a-z]{2,3}(?:-[a-z]{2,8}){0,2})"
)
_GERMAN = re.compile(r"([a-z]{2,3})s")
_ENGLISH_IPA = re.compile(r"ipa-[a-z]{2,4}")
_NTH = re.compile(r"([0-9ivxlcdm]{1,8})(e(?: siècle)?)")
_TAGS = frozenset({"nowiki", "pre", "syntaxhighlight", "source", "math", "chem", "ce"})
_CURRENCIES = {"gbp": "£", "£": "£", "eur": "€", "€": "€", "inr": "₹", "indian rupee": "₹", "jpy": "¥", "¥": "¥"}
_CURRENCIES |= {"us$": "US$", "aud": "A$", "a$": "A$", "cad": "C$", "nzd": "NZ$", "hkd": "HK$", "krw": "₩"}
_CURRENCIES |= {"cny": "CN¥", "php": "₱", "brl": "R$", "rub": "₽"}
_SHIPS = frozenset({"hms", "uss", "hmcs", "hmas", "hmnzs", "mv", "rms", "ss", "sms", "ins", "usns", "uscgc"})
_VARIABLES = frozenset({"pagename", "subpagename", "basepagename", "fullpagename"})
_HANDLED = frozenset({"spaces", "bracket"})
"""Fixed without an argument, and something else with one."""


class Templates:
    """What the templates of a page show."""

    def __init__(self, page: Page, namespaces: frozenset[str]) -> None:
        self._page = page
        self._namespaces = namespaces
        """What the wiki calls the namespace of templates, in lower case."""

    def show(self, name: str, arguments: Arguments) -> str | None:
        """The text of a template, which may hold markup, or None if it has no words of its own."""
        name = " ".join(name.replace("_", " ").split())
        prefix, colon, rest = name.partition(":")
        if colon and prefix.lower() in ("subst", "safesubst"):
            name = rest
            prefix, colon, rest = name.partition(":")
        if colon and prefix.lower() in self._namespaces:
            name, colon = rest.strip(), ""
        if colon:
            return _function(self._page, prefix.strip(), rest.strip(), arguments)
        if not arguments.named and (land := country(name, self._page.language)):
            return land
        return self._template(name.lower(), arguments) if name else None

    def _template(self, name: str, arguments: Arguments) -> str | None:
        if (fixed := FIXED.get(name)) is not None and not (name in _HANDLED and arguments.count):
            return fixed
        if kind := NAMES.get(name):
            return KINDS[kind](self._page, arguments)
        if name in _VARIABLES:
            return self._page.title
        if name in _SHIPS and arguments.count:
            hull = arguments.get("2")
            return f"{name.upper()} {arguments.get('1')}{f' ({hull})' if hull else ''}"
        if name in _CURRENCIES and arguments.count:
            return _CURRENCIES[name] + arguments.get("1")
        if language := _LANGUAGE.fullmatch(name):
            return self._page.labelled(language[1], arguments.get("1"))
        if self._page.language == "de" and (language := _GERMAN.fullmatch(name)) and arguments.count == 1:
            return self._page.labelled(language[1], arguments.get("1"), adverb=True)
        if _ENGLISH_IPA.fullmatch(name):
            return f"[{arguments.get('1')}]" if arguments.count else None
        if self._page.language == "fr" and (ordinal := _NTH.fullmatch(name)):
            return ordinal[1].upper() + ordinal[2]
        return None


def _function(page: Page, name: str, value: str, arguments: Arguments) -> str | None:
    """`{{name:value|...}}`: the parser's functions that say something by themselves."""
    kind = name.lower()
    if kind == "formatnum":
        option = arguments.get("1").upper()
        if option == "R":
            return ungrouped(value, page.language)
        return value if "NOSEP" in option else grouped(value, page.language)
    if kind in ("lc", "uc"):
        return value.lower() if kind == "lc" else value.upper()
    if kind in ("lcfirst", "ucfirst"):
        return (value[:1].lower() if kind == "lcfirst" else value[:1].upper()) + value[1:]
    if kind == "#if":
        return arguments.get("1" if value else "2") or None
    if kind == "#ifeq":
        return arguments.get("2" if value == arguments.get("1") else "3") or None
    if kind == "#tag" and value.lower() in _TAGS:
        return without_extensions(f"<{value}>{arguments.get('1')}</{value}>", page.kept, {})
    return None
