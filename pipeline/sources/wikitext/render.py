"""Wikitext to the text that a reader of the article reads, in the order in which MediaWiki's own parser works.

Comments and the tags of extensions go first, then variants and templates, HTML tags, links, tables, and last what is
read line by line. Each step reads wikitext and writes wikitext with marks for what is done with (`marks`), so no step
sees what an earlier one made: what an entity, a listing or `<nowiki>` says is never taken for markup. Each works in
linear time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline.sources.stream import tidy
from pipeline.sources.wikitext.blocks import text_of_lines
from pipeline.sources.wikitext.braces import expanded
from pipeline.sources.wikitext.extensions import without_extensions
from pipeline.sources.wikitext.links import without_links
from pipeline.sources.wikitext.marks import HOLE, Cuts, Kept, unmarked
from pipeline.sources.wikitext.tables import without_tables
from pipeline.sources.wikitext.tags import without_switches, without_tags
from pipeline.sources.wikitext.template_texts import Page
from pipeline.sources.wikitext.templates import Templates
from pipeline.sources.wikitext.variants import Variants
from pipeline.sources.wikitext.wikis import Wiki

__all__ = ["Rendered", "rendered"]


class Rendered(NamedTuple):
    """The text of a page."""

    text: str
    cuts: Cuts
    """Characters of wikitext that a rule left out, by rule."""
    code: list[tuple[int, int]]
    """Places in the text of code and of preformatted text: the first character and that after the last."""


def rendered(
    markup: str,
    wiki: Wiki,
    *,
    title: str = "",
    drop_sections: Iterable[str] | None = None,
    variant: str = "",
    tables: bool = False,
) -> Rendered:
    """The text of a page of `wiki`.

    Args:
        drop_sections: headings whose sections are left out; None for those that list links and sources in its language.
        variant: of the language, where the wiki is written in several ("" for its plain form).
        tables: show the rows of tables, rather than leaving them out.
    """
    kept, cuts = Kept(), Cuts()
    text = without_extensions(unmarked(markup).replace("\r\n", "\n"), kept, cuts)
    variants = Variants(wiki.code, variant)
    text = variants.chosen(text)
    templates = Templates(Page(wiki.code, title, kept), wiki.templates)
    text, cuts["templates"] = expanded(text, templates.show, HOLE)
    text = without_links(without_switches(without_tags(text)), wiki, cuts)
    lines = without_tables(text.split("\n"), cuts, rows=tables)
    dropped = wiki.end_sections if drop_sections is None else {heading.casefold() for heading in drop_sections}
    text = text_of_lines(lines, dropped, kept, cuts)
    text, code = kept.restored_with_code(variants.converted(tidy(text)))
    return Rendered(text, {rule: size for rule, size in cuts.items() if size}, code)
