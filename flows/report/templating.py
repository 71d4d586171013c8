"""The templates of every page that the flows write: one environment, escaping all that comes from a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from infra.durable import write_durably
from infra.units import duration, percent, printable, shorten, size

__all__ = ["environment", "templates", "write_page"]

TEMPLATES = Path(__file__).parent / "templates"


def environment(shown: Callable[[object], str], **more: Any) -> Environment:
    """What loads from `TEMPLATES`, and puts only `Markup` into a page as it is: all else is `shown`, then escaped."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else shown(value),
        **more,
    )


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The environment of the HTML pages."""
    found = environment(printable)
    found.filters |= {"size": size, "duration": duration, "shorten": shorten, "percent": percent}
    return found


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Write an HTML page, whole or not at all; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, templates().get_template(template).render(**values).encode("utf-8"))
    return path
