"""The templates of every page that the flows write: one environment, escaping all that comes from a run."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from infra.units import duration, percent, printable, shorten, size

__all__ = ["TEMPLATES", "templates"]

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The environment that loads from `TEMPLATES`; only `Markup` goes into a page as it is."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
    )
    found.filters |= {"size": size, "duration": duration, "shorten": shorten, "percent": percent}
    return found
