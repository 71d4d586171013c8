"""What one wiki calls things: namespaces, redirects, end sections, from its dump and from tables by language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from pipeline.sources.wikitext.namespaces import LANGUAGE_CODES, NAMES
from pipeline.sources.wikitext.sections import SECTIONS

__all__ = ["FILES", "Wiki", "code_of", "wiki_of"]

FILE, CATEGORY, TEMPLATE, MEDIA = 6, 14, 10, -2
"""Numbers of namespaces, the same in every wiki."""
_ENGLISH = {FILE: ("file", "image", "media"), CATEGORY: ("category",), TEMPLATE: ("template",)}
_PROJECTS = re.compile(r"(?:wiki|wiktionary|wikibooks|wikinews|wikiquote|wikisource|wikiversity|wikivoyage)(?:-\w+)?$")
_LIKE = {
    "simple": "en",
    "zh-yue": "zh",
    "yue": "zh",
    "zh-min-nan": "zh",
    "zh-classical": "zh",
    "wuu": "zh",
    "gan": "zh",
} | {
    **{
        "arz": "ar",
        "ary": "ar",
        "azb": "fa",
        "nb": "no",
        "als": "de",
        "bar": "de",
        "be-tarask": "be",
        "be-x-old": "be",
    },
    **{"pnb": "ur", "simplewiki": "en", "hak": "zh", "cdo": "zh", "lzh": "zh", "nan": "zh", "dty": "ne", "war": "ceb"},
}
"""Wikis whose articles end as those in another language."""


def code_of(database: str, language: str) -> str:
    """The code of a wiki by the name of its database (`kowiki`) or, where that tells nothing, its language."""
    code, count = _PROJECTS.subn("", database)
    code = code.replace("_", "-").lower()
    known = count and (code in LANGUAGE_CODES or code in _names())
    return code if known else language.lower() or "en"


@cache
def _names() -> Mapping[str, tuple[frozenset[str], ...]]:
    """Files, categories, templates and words of redirects, by code."""
    rows = (line.split("|") for line in NAMES.strip().splitlines())
    return {code: tuple(frozenset(filter(None, cell.split(";"))) for cell in cells) for code, *cells in rows}


FILES = frozenset(name for files, *_ in _names().values() for name in files)
"""What files are called on any wiki."""


@dataclass(frozen=True)
class Wiki:
    """A wiki's own words, in lower case."""

    code: str = "en"
    """Of its language, as in its address."""
    hidden: frozenset[str] = frozenset({"file", "image", "media", "category"})
    """Namespaces whose links show no text: files and categories."""
    templates: frozenset[str] = frozenset({"template"})
    """The namespace of templates."""
    redirects: frozenset[str] = frozenset({"redirect"})
    """Words of a page that points to another one."""

    @cached_property
    def end_sections(self) -> frozenset[str]:
        """Headings, casefolded, of the sections that list links and sources; English where none are known."""
        for code in (self.code, _LIKE.get(self.code, ""), self.code.partition("-")[0]):
            if code in SECTIONS:
                return SECTIONS[code]
        return SECTIONS["en"]

    @cached_property
    def _redirect(self) -> re.Pattern[str]:
        words = "|".join(re.escape(word).replace(r"\ ", "[ _]") for word in sorted(self.redirects, reverse=True))
        return re.compile(rf"\s{{0,100}}[#＃](?:{words})\s{{0,20}}:?\s{{0,20}}\[\[", re.IGNORECASE)

    def is_redirect(self, markup: str) -> bool:
        """Whether a page only points to another one."""
        return self._redirect.match(markup) is not None


def wiki_of(code: str, namespaces: Mapping[int, str] | None = None) -> Wiki:
    """The wiki of that code; `namespaces` are those that its dump names."""
    told = {number: name.lower() for number, name in (namespaces or {}).items() if name}
    empty: tuple[frozenset[str], ...] = (frozenset(),) * 4
    files, categories, templates, redirects = _names().get(code) or _names().get(code.partition("-")[0], empty)
    own = {told[number] for number in (FILE, CATEGORY, MEDIA) if number in told}
    english = {*_ENGLISH[FILE], *_ENGLISH[CATEGORY]}
    return Wiki(
        code,
        frozenset(english | files | categories | own),
        frozenset({*_ENGLISH[TEMPLATE], *templates, *filter(None, [told.get(TEMPLATE)])}),
        frozenset({"redirect", *redirects}),
    )
