"""Looks at a page as people do, at the widths of a phone, a small and a large screen, in light and dark.

What runs out of its box, scrolls sideways or has too little contrast is named. Contrast and the rest of what helps
people who see little are judged by axe-core.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import axe_playwright_python
from playwright.sync_api import Browser, Page, sync_playwright

from tests.flows.chromium import CHROMIUM

__all__ = ["SCHEMES", "WIDTHS", "browser", "faults", "look"]

WIDTHS = (390, 1000, 1400)
SCHEMES = ("light", "dark")
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
OVERFLOWS = """() => {
  const wide = document.documentElement.scrollWidth > window.innerWidth
    ? [`the page is ${document.documentElement.scrollWidth} wide`] : [];
  const named = e => `<${e.tagName.toLowerCase()} class="${e.className}"> ${(e.textContent || '').trim().slice(0, 40)}`;
  const scrolls = e => e && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
  const spilled = [...document.querySelectorAll('body *:not(svg *)')].filter(e =>
    e.checkVisibility() && getComputedStyle(e).display !== 'inline' && e.clientWidth
    && e.scrollWidth > e.clientWidth + 1 && !scrolls(e));
  return [...wide, ...spilled.map(named)];
}"""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
"""WCAG to 2.2 AA, and what axe-core holds for good besides: landmarks, headings."""
AXE_RUN = """async rules => (await axe.run(document, {resultTypes: ['violations'], runOnly: rules}))
  .violations.flatMap(v => v.nodes.map(n => `${v.id}: ${n.html.slice(0, 120)} (${n.any[0]?.message || v.help})`))"""


@contextmanager
def browser() -> Iterator[Browser]:
    """Headless Chromium with nothing but what a page brings."""
    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def faults(page: Page, *, contrast: bool = True) -> list[str]:
    """What is amiss on a page as it is shown."""
    found: list[str] = page.evaluate(OVERFLOWS)
    if contrast:
        page.evaluate(AXE)
        found += page.evaluate(AXE_RUN, RULES)
    return found


def look(where: Browser, address: str, folder: Path, name: str) -> list[str]:
    """Open a page at every width and in both schemes, keep a picture of each, and name what is amiss.

    Contrast does not depend on the width: it is judged at the first and the last.
    """
    found = []
    for scheme in SCHEMES:
        context = where.new_context(color_scheme=scheme, bypass_csp=True)  # axe is a script, and pages allow none
        page = context.new_page()
        page.goto(address)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
            said = faults(page, contrast=width != WIDTHS[1])
            found += [f"{name} at {width}, {scheme}: {fault}" for fault in said]
        context.close()
    return found
