"""The files of `deepmill disclose`: three Markdown pages for people, and all facts as JSON.

Markdown is made safe for what a corpus, a recipe or a registry holds: nothing in it becomes markup or leaves its cell.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from flows.report.disclosure import Disclosure
from flows.report.templating import environment
from infra.units import percent, printable
from pipeline.sections import Stated

__all__ = ["FACTS", "PAGES", "licences", "plain", "write_disclosure"]

PAGES = ("training-content.md", "ab2013.md", "datasheet.md")
FACTS = "disclosure.json"
NOT_STATED, NOT_KNOWN = "not stated by the provider", "not known"
MARKUP = re.compile(r"([\\`*_\[\]|~$])|^([#+=-])|(?<=^[0-9])([.)])(?=\s|$)")
"""What Markdown would take for its own: anywhere, at the beginning of a line, after a number there."""
MOST_NAMED = 20
"""Rules named in a cell; the JSON has all."""


def write_disclosure(found: Disclosure, folder: Path) -> list[Path]:
    """Write the files into `folder`; the same facts give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = found.model_dump_json(indent=1) + "\n"
    bodies = {FACTS: facts} | {
        page: _pages().get_template(page).render(found=found, facts=FACTS, sha256=sha256(facts.encode()).hexdigest())
        for page in PAGES
    }
    for name, body in bodies.items():
        (folder / name).write_text(body, encoding="utf-8")
    return [folder / name for name in bodies]


def licences(sources: Mapping[str, Stated]) -> str:
    """A section of a model's card with the licences that are stated of its sources; empty where none is."""
    rows = [f"| {plain(name)} | {plain(_said(each.licence))} |" for name, each in sorted(sources.items())]
    head = ["", "## Training data", "", "| source | licence |", "|---|---|"]
    return "\n".join([*head, *rows, ""]) if any(each.licence for each in sources.values()) else ""


@lru_cache(maxsize=1)
def _pages() -> Environment:
    found = environment(plain, keep_trailing_newline=True, undefined=StrictUndefined)
    found.filters |= {"said": _said, "known": _known, "rules": _rules, "percent": percent, "day": _day}
    return found


def plain(value: object) -> Markup:
    """Text on one line, in which Markdown and HTML find nothing of theirs."""
    line = " ".join(printable(value).split())
    return Markup(MARKUP.sub(r"\\\g<0>", html.escape(line, quote=False)))


def _said(value: object) -> str:
    """What a person was to say."""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return str(value) if value else NOT_STATED


def _known(value: object) -> str:
    """What was to be measured."""
    return NOT_KNOWN if value is None or value == "" else f"{value:,}" if isinstance(value, int) else str(value)


def _day(moment: str | None) -> str:
    """The day of a moment as ISO 8601 writes it."""
    return (moment or "").partition("T")[0] or NOT_KNOWN


def _rules(counts: dict[str, int]) -> str:
    """Rules with their counts, most first."""
    ordered: Iterable[tuple[str, int]] = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{rule} {n:,}" for rule, n in list(ordered)[:MOST_NAMED]]
    more = len(counts) - len(named)
    return (", ".join(named) + (f" and {more} more rules" if more else "")) or "none"
