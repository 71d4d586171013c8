"""Where the characters of a source went, as a diagram: a band that runs down through the stages and grows thinner.

What a rule took leaves the band to the right, as thick as it is much. Plain SVG, whose colours the page's style sheet
decides; narrow enough to be read on a telephone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flows.report.figures import escaped
from infra.units import count, percent, shorten

__all__ = ["Loss", "Step", "flow"]

WIDTH, LEFT, BAND = 420, 108, 90
"""Of the drawing, of the labels left of the band, and of the band where all is in it, in units of the drawing."""
LABELS = LEFT + BAND + 22
"""Where the labels of what left begin."""
LINE, ROW, GAP = 17, 46, 5
"""Heights: of a label, the least of a stage, and between what left."""
SHOWN = 4
"""Rules of a stage that are drawn by themselves, the others together."""
LONGEST = 24
"""Characters of a rule's name; of a longer one its last part is shown."""
LEAST = 0.0005
"""Share of what came into a stage that is drawn by itself."""


class Loss(NamedTuple):
    """What a rule took."""

    kind: str
    """`cut` out of documents that stay, `rejected` with whole ones, or `moved` to another source."""
    rule: str
    characters: int


class Step(NamedTuple):
    """A stage."""

    name: str
    came: int
    """Characters that came in."""
    left: int
    """Characters that went out again."""
    losses: tuple[Loss, ...]
    """The greatest first."""


def flow(steps: Sequence[Step], *, label: str) -> str:
    """The diagram; empty where nothing came in."""
    most = max((step.came for step in steps), default=0)
    if not most:
        return ""
    parts: list[str] = []
    top = 6.0
    for step in steps:
        top = _stage(parts, step, top, BAND / most)
    last = steps[-1]
    parts.append(_text(LEFT - 10, top + 12, "left over", "name end"))
    parts.append(_text(LEFT + 2, top + 12, f"{count(last.left)} characters, {percent(last.left / most)}", "name"))
    return (
        f'<svg class="flow" role="img" aria-label="{escaped(label)}" viewBox="0 0 {WIDTH} {top + 20:g}">'
        f"{''.join(parts)}</svg>"
    )


def _stage(parts: list[str], step: Step, top: float, scale: float) -> float:
    """Draw a stage below `top`; where the next one begins."""
    losses = list(_shown(step))
    wide, after = step.came * scale, step.left * scale
    y = top + 4
    right = LEFT + wide
    ribbons: list[str] = []
    for loss in losses:
        thick = max(loss.characters * scale, 0.8)
        middle = max(y + thick / 2, y + LINE / 2)
        ribbons.append(_ribbon(loss, right - loss.characters * scale, right, top, middle, thick, step.came))
        right -= loss.characters * scale
        y += max(thick, LINE) + GAP
    bottom = max(y, top + ROW)
    parts.append(
        f'<path class="kept" d="M{LEFT} {top:g}H{LEFT + max(after, 0.8):.6g}V{bottom:g}H{LEFT}Z">'
        f"<title>{escaped(step.name)}: {count(step.left)} of {count(step.came)} characters stay</title></path>"
    )
    parts += ribbons
    parts.append(_text(LEFT - 10, top + 15, step.name, "name end"))
    share = percent(step.left / step.came) if step.came else "–"
    parts.append(_text(LEFT - 10, top + 30, f"{count(step.came)} → {share}", "dim end"))
    return bottom


def _shown(step: Step) -> Iterator[Loss]:
    """The chief losses, and the others together."""
    many = [loss for loss in step.losses[:SHOWN] if loss.characters >= LEAST * step.came]
    yield from many
    if rest := step.losses[len(many) :]:
        kind = "cut" if all(loss.kind == "cut" for loss in rest) else "rejected"
        name = f"{len(rest)} other rules" if len(rest) > 1 else rest[0].rule
        yield Loss(kind, name, sum(each.characters for each in rest))


def _ribbon(loss: Loss, low: float, high: float, top: float, middle: float, thick: float, came: int) -> str:
    """From a piece of the band's upper edge to a label on the right."""
    y1, y2 = middle - thick / 2, middle + thick / 2
    end = LABELS - 6
    shape = (
        f"M{low:.6g} {top:g}C{low:.6g} {y2:.6g} {low:.6g} {y2:.6g} {end} {y2:.6g}V{y1:.6g}"
        f"C{high:.6g} {y1:.6g} {high:.6g} {y1:.6g} {high:.6g} {top:g}Z"
    )
    share = loss.characters / came
    what = f"{percent(share) if share >= LEAST else '< 0.1 %'} {_named(loss.rule)}"
    title = f"{loss.kind} by {loss.rule}: {count(loss.characters)} characters"
    return (
        f'<path class="{loss.kind}" d="{shape}"><title>{escaped(title)}</title></path>'
        f"{_text(LABELS, middle + 4, what, '')}"
    )


def _named(rule: str) -> str:
    return shorten(rule if len(rule) <= LONGEST else rule.rpartition("/")[2], LONGEST)


def _text(x: float, y: float, text: str, css: str) -> str:
    return f'<text class="{css}" x="{x:g}" y="{y:g}">{escaped(text)}</text>'
