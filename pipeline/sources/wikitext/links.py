"""Links: `[[page|label]]` and `[address label]` become their labels; pictures, categories and other languages go.

A link whose page cannot be one (`[[ ]]`, a test of a shell) is text, as in MediaWiki.
"""

from __future__ import annotations

import re

from pipeline.sources.wikitext.marks import HOLE, Cuts
from pipeline.sources.wikitext.namespaces import LANGUAGE_CODES
from pipeline.sources.wikitext.wikis import FILES, Wiki

__all__ = ["without_links"]

MOST_DEPTH = 20
"""Links within the captions of pictures within those of others; deeper ones are text."""
_TOKENS = re.compile(r"(\[\[|\]\])")
_SCHEME = r"(?:https?:|ftps?:|gopher:|irc:|ircs:|sftp:|ssh:|git:|svn:)?"
_EXTERNAL = re.compile(
    rf"\[((?:{_SCHEME}//|(?:mailto|news|tel|urn|magnet|xmpp|bitcoin):)[^\s\[\]<>\x01-\x1f]+)([^\[\]\n]*(?:\[[^\[\]\n]*\][^\[\]\n]*)?)\]",
    re.IGNORECASE,
)
_ENDINGS = frozenset(
    (
        "jpg",
        "jpeg",
        "png",
        "gif",
        "svg",
        "tif",
        "tiff",
        "webp",
        "xcf",
        "djvu",
        "pdf",
        "ogg",
        "oga",
        "ogv",
        "webm",
        "mp3",
        "mp4",
        "wav",
        "mid",
        "flac",
        "stl",
    )
)
_IMPOSSIBLE = re.compile(r"[<>{}\[\]\n\x01]")
_SHELL = re.compile(r"\s+(?:[-!$\"'(]|\S+\s*(?:==?|!=|=~|-[a-z]{2})\s)")
"""A test as bash wants it, with a space after the brackets."""


def without_links(text: str, wiki: Wiki, cuts: Cuts) -> str:
    """`text` with every link replaced by what it shows."""
    stack: list[list[str]] = [[]]
    for token in _TOKENS.split(text):
        if token == "[[" and len(stack) <= MOST_DEPTH:
            stack.append([])
        elif token == "]]" and len(stack) > 1:
            stack[-2].append(_shown("".join(stack.pop()), wiki, cuts))
        else:
            stack[-1].append(token)
    while len(stack) > 1:
        rest = stack.pop()
        stack[-1] += ["[[", *rest]
    flat = "".join(stack[0])
    return _EXTERNAL.sub(lambda link: link[2].strip() or HOLE, flat) if "[" in flat else flat


def _shown(inner: str, wiki: Wiki, cuts: Cuts) -> str:
    target, bar, label = inner.partition("|")
    page = target.strip().replace(HOLE, "")
    space, colon, _ = page.partition(":")
    name = space.strip().replace("_", " ").lower() if colon else ""
    written = page if name in wiki.hidden else target  # a picture may have its options on lines of their own
    if not page.strip(":#") or _IMPOSSIBLE.search(written) or _SHELL.match(target):
        return f"[[{inner}]]"
    file = name in wiki.hidden or (bar and _is_file(name, page))
    if file or name in LANGUAGE_CODES:
        rule = "media" if file else "interlanguage"
        cuts[rule] = cuts.get(rule, 0) + len(inner) + 4
        return HOLE
    if bar and label.strip():
        return label
    return page.lstrip(":").replace("_", " ") if not bar else _short(page)


def _is_file(name: str, page: str) -> bool:
    """Whether this is a picture under the name that another wiki has for files: writers bring it along."""
    return name in FILES and page.rpartition(".")[2].lower() in _ENDINGS


def _short(page: str) -> str:
    """What `[[page|]]` shows: the name without its namespace and what tells it from others."""
    name = page.lstrip(":").rpartition(":")[2]
    return name.partition(" (")[0].partition(", ")[0]
