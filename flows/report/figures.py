"""What the report is made of: sections of figures."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from infra.units import printable

__all__ = ["Chart", "Section", "chart", "escaped", "section"]


@dataclass(frozen=True)
class Chart:
    """One figure of the page."""

    title: str
    svg: Markup
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, a sentence, and figures."""

    anchor: str
    title: str
    text: str
    charts: list[Chart]


def escaped(text: object) -> str:
    """Foreign text as it may stand in an SVG: printable, and no markup."""
    return escape(printable(text))


def chart(title: str, svg: str, caption: str = "") -> list[Chart]:
    """The figure, or none where there was nothing to draw."""
    return [Chart(title, Markup(svg), caption)] if svg else []


def section(anchor: str, title: str, text: str, *groups: list[Chart]) -> Section | None:
    """A section of the figures that there are; None where there are none."""
    found = [each for group in groups for each in group]
    return Section(anchor, title, text, found) if found else None
