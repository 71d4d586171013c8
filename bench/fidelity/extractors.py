"""Extractors of text from HTML, ours and the peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.fidelity.needs import peer
from pipeline.sources.html import text_of

__all__ = ["Extractor", "extractors_of", "safely"]

Extractor = Callable[[str], str | None]


def extractors_of() -> tuple[dict[str, Extractor], list[str]]:
    """Those that are installed, by name, ours first, and the names of the others."""
    peers = _peers()
    there = {"ours": _ours} | {name: found for name, found in peers.items() if found is not None}
    return there, [name for name, found in peers.items() if found is None]


def safely(extract: Extractor, page: str) -> str:
    """The text, or "" where it breaks down."""
    try:
        return extract(page) or ""
    except Exception:  # a peer that breaks down has found nothing
        return ""


def _ours(html: str) -> str:
    return text_of(html, main_content=True)[1]


def _peers() -> dict[str, Extractor | None]:
    def resiliparse(module: Any) -> Extractor:
        return lambda html: str(module.extract_plain_text(html, main_content=True))

    def justext(module: Any) -> Extractor:
        stop = frozenset(word for name in module.get_stoplists() for word in module.get_stoplist(name))

        def extract(html: str) -> str:
            paragraphs = module.justext(html, stop, 50, 200, 0.1, 0.2, 0.2, 200, True)  # as in trafilatura's evaluation
            return "\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)

        return extract

    def readability(module: Any) -> Extractor:
        from lxml.html import fromstring

        return lambda html: str(fromstring(module.Document(html).summary()).text_content())

    return {
        "trafilatura": peer("trafilatura", lambda module: lambda html: module.extract(html, include_comments=False)),
        "resiliparse": peer("resiliparse.extract.html2text", resiliparse),
        "readability": peer("readability", readability),
        "jusText": peer("justext", justext),
    }
