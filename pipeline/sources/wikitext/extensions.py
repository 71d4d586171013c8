"""What MediaWiki takes out of a page before it reads any markup: comments and the tags of extensions.

As there, one pass from left to right, in which the first end tag ends a tag whatever lies between, and a tag without an
end is text (`Preprocessor_Hash::buildDomTreeArrayFromText`). So `<nowiki>`, `<pre>` and listings come through whatever
they hold, and what is in a reference cannot disturb the text around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline.sources.wikitext.entities import decoded
from pipeline.sources.wikitext.marks import HOLE, Cuts, Kept
from pipeline.sources.wikitext.template_names import FIXED, NAMES

__all__ = ["without_extensions"]

_DROPPED = {
    "ref": "references",
    "references": "references",
    **dict.fromkeys(("gallery", "imagemap", "timeline", "graph", "chart", "mapframe", "maplink", "score"), "media"),
    **dict.fromkeys(("hiero", "phonos", "slippymap", "googlemap", "videotranscript"), "media"),
    **dict.fromkeys(("includeonly", "templatedata", "templatestyles", "indicator", "inputbox"), "tags"),
    **dict.fromkeys(("categorytree", "charinsert", "dynamicpagelist", "section", "abschnitt", "quiz"), "tags"),
    **dict.fromkeys(
        (
            "langconvert",
            "pages",
            "pagelist",
            "pagequality",
            "page-collection",
            "languages",
            "rss",
            "mapdata",
            "listing",
        ),
        "tags",
    ),
}
"""Tags that show no text of the article, and the rule that counts them."""
_KEPT = ("nowiki", "pre", "syntaxhighlight", "source", "math", "ce", "chem", "code", "poem")
_OPEN = re.compile(rf"<!--|<({'|'.join([*_DROPPED, *_KEPT])})(?=[\s/>])", re.IGNORECASE)
_ENDS = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in [*_DROPPED, *_KEPT]}
_NOWIKI = re.compile(r"</?nowiki\s*/?>", re.IGNORECASE)
_STYLE = re.compile(r"</(?:b|i|u|em|strong|var|span|small|sup|sub|mark|kbd|samp|a|abbr|nowiki)\s*>", re.IGNORECASE)
_INLINE = re.compile(r"\b(?:inline|enclose\s*=\s*[\"']?none)\b", re.IGNORECASE)
_DISPLAYED = re.compile(r"\bdisplay\s*=\s*[\"']?block\b", re.IGNORECASE)
_QUOTES = re.compile("'{2,}")
_TEMPLATE = re.compile(r"\{\{([^{}|]{1,40})")
_TEMPLATES = frozenset({*NAMES, *FIXED})
_LINK = re.compile(r"(?<!\w)\[\[[^\W\d_:]")


def without_extensions(text: str, kept: Kept, cuts: Cuts) -> str:
    """`text` with comments and extension tags replaced by marks, and what was dropped counted in `cuts`."""
    parts: list[str] = []
    at = done = 0
    endless: set[str] = set()  # tags that do not end any more
    while opening := _OPEN.search(text, at):
        begin, name = opening.start(), (opening[1] or "").lower()
        if not name:
            end = _comment_end(text, opening.end())
            whole_line = end < len(text) and text[begin - 1 : begin] in ("", "\n") and text[end] == "\n"
            parts.append(text[done:begin])
            cuts["comments"] = cuts.get("comments", 0) + end - begin
            at = done = end + whole_line
            continue
        found = None if name in endless else _extent(text, opening.end(), name)
        if found is None:
            endless.add(name)
            at = opening.end()
            continue
        attributes, content, end = found
        parts.append(text[done:begin])
        parts.append(_shown(name, attributes, content, end - begin, kept, cuts))
        at = done = end
    return "".join([*parts, text[done:]])


def _comment_end(text: str, at: int) -> int:
    end = text.find("-->", at)
    return len(text) if end < 0 else end + 3


def _extent(text: str, at: int, name: str) -> tuple[str, str | None, int] | None:
    """Attributes, content (None of an empty tag) and end of a tag; None if it does not end."""
    close = text.find(">", at)
    if close < 0:
        return None
    if text[close - 1] == "/":
        return text[at : close - 1], None, close + 1
    end = _ENDS[name].search(text, close + 1)
    return (text[at:close], text[close + 1 : end.start()], end.end()) if end else None


def _shown(name: str, attributes: str, content: str | None, size: int, kept: Kept, cuts: Cuts) -> str:
    if rule := _DROPPED.get(name):
        cuts[rule] = cuts.get(rule, 0) + size
        return HOLE
    if content is None:
        return kept.inline("")
    return _SHOWN[name](attributes, content, kept)


def _nowiki(attributes: str, content: str, kept: Kept) -> str:
    return kept.inline(decoded(content))


def _pre(attributes: str, content: str, kept: Kept) -> str:
    return kept.block(decoded(_NOWIKI.sub("", content)).removeprefix("\n").rstrip(), code=True)


def _listing(attributes: str, content: str, kept: Kept) -> str:
    """A listing is shown as it is written: `&lt;` in it is no reference."""
    if _INLINE.search(attributes):
        return kept.inline(content.strip(), code=True)
    return kept.block(content.lstrip("\n").rstrip(), code=True)


def _formula(attributes: str, content: str, kept: Kept) -> str:
    """TeX between the marks that Markdown and TeX itself have for it."""
    tex = decoded(content).strip()
    if not tex:
        return HOLE
    return kept.block(f"$${tex}$$") if _DISPLAYED.search(attributes) else kept.inline(f"${tex}$")


def _chemistry(attributes: str, content: str, kept: Kept) -> str:
    return kept.inline(content.strip()) if content.strip() else HOLE


def _code(attributes: str, content: str, kept: Kept) -> str:
    """Code within a line comes through as written, unless it is written with markup: then that is read as such."""
    plain = _NOWIKI.sub("", content)
    quotes = _QUOTES.findall(content)
    styled = bool(quotes) and len(quotes) % 2 == 0
    if _holds_templates(content) or styled or (_STYLE.search(content)) or _LINK.search(content):
        return without_extensions(content, kept, {})
    if "\n" in plain.strip("\n"):
        return kept.block(decoded(plain).strip("\n"), code=True)
    return kept.inline(decoded(plain), code=True)


def _holds_templates(code: str) -> bool:
    """Whether there are templates of the wiki in it, and not those of a language."""
    return (
        any(" ".join(name.lower().split()) in _TEMPLATES for name in _TEMPLATE.findall(code)) if "{{" in code else False
    )


def _poem(attributes: str, content: str, kept: Kept) -> str:
    """Lines that stay lines; the markup in them is read."""
    return f"\n\n{without_extensions(content, kept, {}).strip()}\n\n"


_SHOWN: dict[str, Callable[[str, str, Kept], str]] = {
    "nowiki": _nowiki,
    "pre": _pre,
    "syntaxhighlight": _listing,
    "source": _listing,
    "math": _formula,
    "ce": _chemistry,
    "chem": _chemistry,
    "code": _code,
    "poem": _poem,
}
