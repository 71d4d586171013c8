"""A number over the last runs, as a line no larger than a word (Tufte, Beautiful Evidence, 2006)."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from flows.report.figures import escaped

__all__ = ["sparkline"]

WIDTH, HEIGHT, EDGE = 120, 28, 4


def sparkline(values: Sequence[float], label: str) -> Markup:
    """An inline SVG, its last value marked; nothing for fewer than two."""
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    room = (high - low) or 1.0
    points = [
        (
            EDGE + number * (WIDTH - 2 * EDGE) / (len(values) - 1),
            HEIGHT - EDGE - (value - low) / room * (HEIGHT - 2 * EDGE) if high > low else HEIGHT / 2,
        )
        for number, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    said = escaped(label)
    return Markup(
        f'<svg class="spark" role="img" aria-label="{said}" viewBox="0 0 {WIDTH} {HEIGHT}"><title>{said}</title>'
        f'<polyline points="{line}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/></svg>'
    )
