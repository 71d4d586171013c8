"""Charts as inline SVG: the same data gives the same bytes, and the page's style sheet decides the colours.

matplotlib draws with stand-in colours that are then replaced by CSS variables, so one chart suits a light and a dark
page; text stays text, in the page's font. Every function returns ``""`` where there is nothing to draw.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from flows.report.figures import escaped
from flows.run.run_view import Point
from infra.units import count, decimal, percent, printable, shorten, size

__all__ = [
    "Node",
    "bars",
    "curves",
    "group_bars",
    "heat_map",
    "intervals",
    "lineage",
    "lines",
    "scatter",
    "stacks",
    "standalone",
]

SERIES = tuple(f"#0000{number}" for number in range(11, 19))
ON_SERIES = tuple(f"#0000{number}" for number in range(21, 29))
"""Of text on them."""
INK, MUTED, GRID = "#000001", "#000002", "#000003"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    colour: f"--{name}-{number}"
    for name, colours in (("series", SERIES), ("on-series", ON_SERIES))
    for number, colour in enumerate(colours, 1)
}
POINTS = 400
"""Most points drawn of one series."""
WIDTH = 4.7
"""Inches of 72 units: on a telephone the text is then nine pixels high, on a large screen thirteen."""
LINE_LETTERS = 50
"""That fit beside each other in a legend."""
LONG_LABEL = 18
"""Letters from which on a bar's label stands above it."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a source may be called $x_$
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.prop_cycle": cycler(color=SERIES),
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "savefig.bbox": "standard",
}

Form = Callable[[float], str]


@contextmanager
def _figure(height: float, name: str, label: str) -> Iterator[tuple[Figure, list[str]]]:
    """A figure to draw on; the list holds its SVG when the block is left."""
    result: list[str] = []
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
            warnings.simplefilter("ignore")  # a letter that no font of this machine has: the reader's may
            figure = Figure(figsize=(WIDTH, height), layout="constrained")
            yield figure, result
            stream = io.StringIO()
            figure.savefig(stream, format="svg", metadata={"Date": None})
            result.append(_inline(stream.getvalue(), name, label))
    finally:
        log.setLevel(level)


def _inline(svg: str, name: str, label: str) -> str:
    """An SVG document as an element of a page: no ids that clash, no addresses, colours and fonts of the page."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]+)"', body)
    assert view is not None
    opening = f'<svg class="chart" role="img" aria-label="{escaped(label)}" viewBox="{view[1]}">'
    body = opening + body[body.index(">") + 1 :]
    body = re.sub(r' id="([^"]+)"', rf' id="{name}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\1{name}-", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", body)
    body = re.sub(r"font-family: [^;\"]+;?", "", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return re.sub(r"\s*\n\s*", "\n", body).strip()


def _thin(points: Sequence[Point]) -> list[Point]:
    """At most `POINTS` points: means of runs of neighbours, and the last point as it is."""
    if len(points) <= POINTS:
        return list(points)
    stride = -(-len(points) // POINTS)
    runs = [points[start : start + stride] for start in range(0, len(points), stride)]
    means = [(run[-1][0], sum(value for _, value in run) / len(run)) for run in runs]
    return [*means[:-1], points[-1]]


def _form(axes: Axes, form: Form) -> None:
    """Few ticks; plain decimals all written alike."""
    if form is decimal:
        form = "{:g}".format
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))


def lines(
    name: str,
    series: Mapping[str, Sequence[Point]],
    *,
    label: str,
    x_label: str = "step",
    form: Form = decimal,
    dotted: Sequence[str] = (),
    dashed: Mapping[str, Sequence[Point]] | None = None,
    floor: float | None = None,
    height: float = 2.5,
    ticks: Mapping[float, str] | None = None,
) -> str:
    """Series over steps. Those `dotted` are few measurements, drawn as points on a line; those in `dashed` belong to
    the series of the same name and share its colour. `ticks` are where the x axis says what."""
    drawn = {key: _thin(points) for key, points in series.items() if points}
    if not drawn:
        return ""
    with _figure(height, name, label) as (figure, result):
        axes = figure.subplots()
        for key, points in drawn.items():
            xs, ys = zip(*points, strict=True)
            marker = "o" if key in dotted or len(points) == 1 else ""
            (line,) = axes.plot(xs, ys, label=shorten(key, 30), marker=marker, markersize=4.5)
            if dashed and dashed.get(key):
                xs, ys = zip(*_thin(dashed[key]), strict=True)
                axes.plot(xs, ys, linestyle="--", linewidth=1.2, color=line.get_color())
        axes.set_xlabel(printable(x_label))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        if ticks:
            axes.set_xticks(list(ticks), list(ticks.values()))
        axes.grid(visible=False, axis="x")
        if floor is not None:
            axes.set_ylim(bottom=floor)
        axes.margins(x=0.02)
        _form(axes, form)
        if len(drawn) > 1:
            _legend(figure, drawn)
    return result[0]


def _legend(figure: Figure, names: Collection[str]) -> None:
    """Above the chart, in as many columns as have room."""
    each = max(len(shorten(name, 30)) for name in names) + 8  # the line before it
    figure.legend(loc="outside upper left", ncols=max(1, min(len(names), LINE_LETTERS // each)))


def curves(name: str, series: Mapping[str, Sequence[Point]], *, label: str, x_label: str, y_label: str) -> str:
    """Measured points of two quantities, those of a series joined."""
    with _figure(2.8, name, label) as (figure, result):
        axes = figure.subplots()
        for key, points in series.items():
            axes.plot([x for x, _ in points], [y for _, y in points], label=shorten(key, 30), marker="o", markersize=5)
        axes.set_xlabel(printable(x_label))
        axes.set_ylabel(printable(y_label))
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        _form(axes, decimal)
        _legend(figure, series)
    return result[0]


def standalone(chart: str) -> str:
    """A chart as a file of its own, in the colours of a light page."""
    styles = "".join(f"--{name}:{colour};" for name, colour in _colours().items())
    size = f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" style="{styles}'
    return chart.replace("<svg ", f'<svg {size}background:#fff;font-family:sans-serif" ', 1) + "\n"


def _colours() -> dict[str, str]:
    """Of the report's style sheet, the first given."""
    sheet = (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    return dict(reversed(re.findall(r"--([\w-]+): (#\w+)", sheet)))


def bars(name: str, rows: Sequence[tuple[str, float]], *, label: str, form: Form = count) -> str:
    """One horizontal bar per row, the first on top, with its value at its end."""
    if not rows:
        return ""
    above = max(len(key) for key, _ in rows) > LONG_LABEL
    with _figure((0.36 if above else 0.27) * len(rows) + 0.25, name, label) as (figure, result):
        axes = figure.subplots()
        places = range(len(rows))
        drawn = axes.barh(places, [value for _, value in rows], height=0.3 if above else 0.68, color=SERIES[0])
        axes.bar_label(drawn, [form(value) for _, value in rows], padding=4, color=INK)
        if above:
            axes.set_yticks([])
            for place, (key, _) in zip(places, rows, strict=True):
                axes.annotate(shorten(key, 50), (0, place - 0.22), va="bottom", color=INK)
        else:
            axes.set_yticks(places, [shorten(key, LONG_LABEL) for key, _ in rows])
        axes.invert_yaxis()
        axes.margins(x=0.14, y=0.05 if above else 0.02)
        _bare(axes)
    return result[0]


def _bare(axes: Axes) -> None:
    """Horizontal bars with their values written need no axis."""
    axes.grid(visible=False)
    axes.xaxis.set_major_locator(NullLocator())
    axes.spines["bottom"].set_visible(False)
    for text in axes.get_yticklabels():
        text.set_color(INK)


def stacks(name: str, rows: Sequence[tuple[str, Mapping[str, float]]], *, label: str) -> str:
    """One horizontal bar per row, cut into parts; the first on top."""
    parts = list(dict.fromkeys(part for _, values in rows for part in values))
    if not rows or not parts:
        return ""
    with _figure(0.34 * len(rows) + 0.55, name, label) as (figure, result):
        axes = figure.subplots()
        places = range(len(rows))
        left = [0.0] * len(rows)
        widest = max(sum(values.values()) for _, values in rows) or 1.0
        for number, part in enumerate(parts):
            widths = [float(values.get(part, 0.0)) for _, values in rows]
            drawn = axes.barh(
                places, widths, left=left, height=0.68, label=shorten(part, 30), color=SERIES[number % len(SERIES)]
            )
            texts = [count(width) if width > 0.09 * widest else "" for width in widths]
            axes.bar_label(drawn, texts, label_type="center", color=ON_SERIES[number % len(SERIES)], fontsize=8)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set_yticks(places, [shorten(key, 32) for key, _ in rows])
        axes.invert_yaxis()
        axes.margins(x=0.02, y=0.02)
        _bare(axes)
        _legend(figure, parts)
    return result[0]


def group_bars(name: str, groups: Mapping[str, Mapping[str, float]], *, label: str, form: Form = decimal) -> str:
    """For every key a group of bars, one per member of `groups`."""
    keys = list(dict.fromkeys(key for values in groups.values() for key in values))
    if not keys:
        return ""
    with _figure(2.5, name, label) as (figure, result):
        axes = figure.subplots()
        width = 0.8 / len(groups)
        for number, (group, values) in enumerate(groups.items()):
            places = [place + (number - (len(groups) - 1) / 2) * width for place in range(len(keys))]
            heights = [values.get(key, 0.0) for key in keys]
            drawn = axes.bar(places, heights, width=width * 0.92, label=shorten(group, 30))
            if len(keys) * len(groups) <= 12:
                axes.bar_label(drawn, [form(value) for value in heights], padding=2, fontsize=7.5, color=MUTED)
        axes.set_xticks(range(len(keys)), [shorten(key, 18) for key in keys])
        axes.grid(visible=False, axis="x")
        _form(axes, form)
        _legend(figure, groups)
    return result[0]


def intervals(name: str, rows: Sequence[tuple[str, float, float, float]], *, label: str) -> str:
    """Label, share, lower and upper end of each row, left to right."""
    if not rows:
        return ""
    with _figure(2.5, name, label) as (figure, result):
        axes = figure.subplots()
        places = range(len(rows))
        values = [value for _, value, _, _ in rows]
        reach = [
            [max(value - low, 0.0) for _, value, low, _ in rows],
            [max(high - value, 0.0) for _, value, _, high in rows],
        ]
        axes.bar(places, values, width=0.52, color=SERIES[: len(rows)], alpha=0.9)
        axes.errorbar(places, values, yerr=reach, fmt="none", ecolor=INK, capsize=5, elinewidth=1.3)
        for place, (_, value, _, high) in enumerate(rows):
            axes.annotate(percent(value), (place, max(high, value)), (0, 4), textcoords="offset points", ha="center")
        axes.set_xticks(places, [shorten(key, 24) for key, _, _, _ in rows])
        axes.grid(visible=False, axis="x")
        axes.set_xlim(-0.6, len(rows) - 0.4)
        axes.set_ylim(0, max(0.05, *(1.15 * max(high, value) for _, value, _, high in rows)))
        _form(axes, percent)
    return result[0]


def scatter(name: str, points: Sequence[tuple[str, float, float]], *, label: str, x_label: str, y_label: str) -> str:
    """Named points: label, bytes, and a quantity of which less is better."""
    if not points:
        return ""
    with _figure(2.5, name, label) as (figure, result):
        axes = figure.subplots()
        axes.plot([x for _, x, _ in points], [y for _, _, y in points], color=MUTED, linewidth=1, linestyle=":")
        for number, (key, x, y) in enumerate(points):
            axes.plot([x], [y], marker="o", markersize=9, color=SERIES[number % len(SERIES)])
            text = f"{shorten(key, 20)}  {size(x)}"
            above = 9 if number % 2 == 0 else -17  # precisions of like size lie side by side
            axes.annotate(text, (x, y), (0, above), textcoords="offset points", ha="center")
        axes.set_xlabel(printable(x_label))
        axes.set_ylabel(printable(y_label))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
        axes.margins(x=0.2, y=0.25)
        axes.set_xlim(left=0)
        _form(axes, decimal)
    return result[0]


def heat_map(
    name: str,
    rows: Mapping[str, Sequence[Point]],
    *,
    label: str,
    bar_label: str,
    x_label: str = "step",
    form: Form = decimal,
) -> str:
    """One band per row over the steps: the darker, the greater."""
    drawn = {key: _thin(points) for key, points in rows.items() if points}
    if not drawn:
        return ""
    length = min(len(points) for points in drawn.values())
    table = [[value for _, value in points[-length:]] for points in drawn.values()]
    steps = [step for step, _ in next(iter(drawn.values()))[-length:]]
    with _figure(0.3 * len(drawn) + 0.9, name, label) as (figure, result):
        axes = figure.subplots()
        image = axes.imshow(
            table,
            aspect="auto",
            cmap="YlGnBu",
            interpolation="nearest",
            extent=(steps[0] - 0.5, steps[-1] + 0.5, len(drawn) - 0.5, -0.5),
        )
        axes.set_yticks(range(len(drawn)), [shorten(key, 24) for key in drawn])
        axes.set_xlabel(x_label)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=max(6 * len(drawn), 8))
        bar.set_label(printable(bar_label))
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(MaxNLocator(3))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    return result[0]


class Node(NamedTuple):
    """A stage in the lineage, and the stages it reads from."""

    name: str
    state: str
    inputs: tuple[str, ...]


def lineage(nodes: Sequence[Node], *, row: int, width: int = 84) -> str:
    """What was made from what, as arcs beside a table: one dot per node, `row` pixels apart, in topological order."""
    if not nodes:
        return ""
    places = {name: number for number, (name, _, _) in enumerate(nodes)}
    right = width - 12
    longest = max(
        (places[name] - places[source] for name, _, inputs in nodes for source in inputs if source in places), default=1
    )
    arcs, dots = [], []
    for name, state, inputs in nodes:
        end = row * places[name] + row / 2
        for source in inputs:
            if source not in places:
                continue
            start = row * places[source] + row / 2
            span = places[name] - places[source]
            bend = 0.0 if span == 1 else (right - 8) * (0.3 + 0.7 * span / longest) * 4 / 3
            arcs.append(
                f'<path d="M{right} {start:g}C{right - bend:.4g} {start:g} {right - bend:.4g} {end:g} {right} {end:g}">'
                f"<title>{escaped(source)} → {escaped(name)}</title></path>"
            )
        dots.append(
            f'<circle class="{escaped(state)}" cx="{right}" cy="{end:g}" r="6">'
            f"<title>{escaped(name)}: {escaped(state)}</title></circle>"
        )
    height = row * len(nodes)
    return (
        f'<svg class="lineage" role="img" aria-label="Which artifact was made from which" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}">{"".join(arcs)}{"".join(dots)}</svg>'
    )
