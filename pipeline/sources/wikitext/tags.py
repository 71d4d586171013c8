"""HTML in wikitext: MediaWiki knows some tags, one by one and not in pairs; anything else in angle brackets is text."""

from __future__ import annotations

import re

from pipeline.sources.wikitext.marks import BREAK, HOLE
from pipeline.sources.wikitext.numbers import raised

__all__ = ["without_switches", "without_tags"]

from pipeline.sources.wikitext.namespaces import SWITCHES

_BLOCKS = "p div blockquote center h1 h2 h3 h4 h5 h6 hr dl dd dt poem pre section"
_INLINE = (
    "abbr b bdi bdo big caption cite code data del dfn em font i ins kbd link mark meta q rb rp rt rtc ruby s samp"
    " small span strike strong sub sup time tt u ul ol var wbr li table tbody thead tr td th a br"
)
_OTHERS = (
    "noinclude onlyinclude includeonly nowiki ref references gallery math ce chem syntaxhighlight source score timeline"
    " imagemap pages translate tvar languages templatestyles indicator mapframe maplink phonos graph"
)
_TAG = re.compile(rf"<(/?)({'|'.join(f'{_BLOCKS} {_INLINE} {_OTHERS}'.split())})(?=[\s/>])([^<>]*)>", re.IGNORECASE)
_FLAGS = frozenset(
    {"nowrap", "reversed", "border", "noshade", "compact", "clear", "all", "hidden", "inline", "itemscope"}
)
"""Attributes without a value."""
_RAISED = re.compile(r"<sup>\s{0,3}([-+−]?[0-9]{1,9}|n)\s{0,3}</sup>", re.IGNORECASE)
_READING = re.compile(r"<rp>[^<]{0,20}</rp>", re.IGNORECASE)
_SWITCH = re.compile(r"(__|＿＿)([^\W_](?:\w{0,60}?[^\W_])?)\1")
_EITHER_CASE = frozenset(
    {"NOTOC", "TOC", "FORCETOC", "NOGALLERY", "NOEDITSECTION", "NOTITLECONVERT", "NOCONTENTCONVERT"}
)
_SHOWN = {
    **dict.fromkeys(_BLOCKS.split(), BREAK * 2),
    "br": BREAK,
    "hr": BREAK * 2,
    "dt": BREAK,
    "dd": BREAK,
}
_SHOWN_PAIRS = {
    "li": ("\n* ", ""),
    "ul": ("\n", "\n"),
    "ol": ("\n", "\n"),
    "table": ("\n{|\n", "\n|}\n"),
    "tr": ("\n|-\n", "\n"),
    "td": ("\n|", ""),
    "th": ("\n!", ""),
    "q": ("“", "”"),
    "rt": ("(", ")"),
    "rp": ("", ""),
}
"""What the tag and its end tag become; lists and tables become those of wikitext."""


def without_tags(text: str) -> str:
    """`text` without the tags that MediaWiki lets through."""
    if "<" not in text:
        return text
    text = _READING.sub("", _RAISED.sub(lambda power: raised(power[1]), text))
    return _TAG.sub(_shown, text)


def _shown(tag: re.Match[str]) -> str:
    name, attributes = tag[2].lower(), tag[3].strip(" \t\n/")
    if attributes and "=" not in attributes and attributes.lower() not in _FLAGS:
        return tag[0]  # a<b and b>c
    if name in _SHOWN:
        return _SHOWN[name]
    pair = _SHOWN_PAIRS.get(name)
    return pair[bool(tag[1])] if pair else ""


def without_switches(text: str) -> str:
    """`text` without `__NOTOC__` and the like, in any language; `__FILE__` is no switch."""
    return _SWITCH.sub(_switch, text) if "__" in text or "＿＿" in text else text


def _switch(word: re.Match[str]) -> str:
    name = word[2]
    known = name in SWITCHES or name.upper() in _EITHER_CASE
    return HOLE if known or (not name.isascii() and name == name.upper()) else word[0]
