from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.report import charts
from tests.flows.example import HOSTILE

NAMES = ("plain", HOSTILE, "漢字", "$x_{$")


def drawn() -> dict[str, str]:
    steps = [(step, 1 / step) for step in range(1, 2000)]
    return {
        "lines": charts.lines("lines", dict.fromkeys(NAMES, steps), label=HOSTILE),
        "bars": charts.bars("bars", [(name, 12_345.0) for name in NAMES], label=HOSTILE),
        "stacks": charts.stacks("stacks", [(name, dict.fromkeys(NAMES, 7.0)) for name in NAMES], label=HOSTILE),
        "group": charts.group_bars("group", {name: dict.fromkeys(NAMES, 0.5) for name in NAMES}, label=HOSTILE),
        "intervals": charts.intervals("intervals", [(name, 0.5, 0.4, 0.6) for name in NAMES], label=HOSTILE),
        "scatter": charts.scatter(
            "scatter", [(name, 1e6, 0.1) for name in NAMES], label=HOSTILE, x_label=HOSTILE, y_label=HOSTILE
        ),
        "curves": charts.curves(
            "curves",
            {name: [(0.5, 2.0), (8.0, 1.5)] for name in NAMES},
            label=HOSTILE,
            x_label=HOSTILE,
            y_label=HOSTILE,
        ),
        "heat": charts.heat_map("heat", dict.fromkeys(NAMES, steps), label=HOSTILE, bar_label=HOSTILE),
        "lineage": charts.lineage(
            [charts.Node("plain", "made", ()), charts.Node(HOSTILE, "made", ("plain", "elsewhere"))], row=50
        ),
    }


@pytest.fixture(scope="module")
def svgs() -> dict[str, str]:
    return drawn()


def test_the_same_data_gives_the_same_bytes(svgs: dict[str, str]) -> None:
    assert drawn() == svgs


def test_well_formed_escaped_and_self_contained(svgs: dict[str, str]) -> None:
    for name, svg in svgs.items():
        root = ET.fromstring(svg)
        assert root.tag == "svg", name
        assert root.attrib["aria-label"]
        assert not list(root.iter("script")), name
        assert "http" not in svg, name
        assert "<style" not in svg, name
        assert all(value.startswith(("#", "data:image/png;base64,")) for value in re.findall(r'href="([^"]*)"', svg))


def test_ids_are_unique_and_all_references_resolve(svgs: dict[str, str]) -> None:
    ids = [found for svg in svgs.values() for found in re.findall(r' id="([^"]+)"', svg)]
    assert len(ids) == len(set(ids))
    for name, svg in svgs.items():
        references = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)
        assert {first or second for first, second in references} <= set(ids), name


def test_colours_are_the_page_s(svgs: dict[str, str]) -> None:
    for name, svg in svgs.items():
        assert "#0000" not in svg, name
        if name != "lineage":
            assert "var(--ink)" in svg or "var(--muted)" in svg, name


def test_text_stays_text(svgs: dict[str, str]) -> None:
    assert "12.3 k" in svgs["bars"]
    assert "50 %" in svgs["intervals"]
    assert "plain 1.0 MB" in " ".join(svgs["scatter"].split())
    assert "漢字" in svgs["bars"]
    assert "$x_{$" in svgs["bars"]
    assert "&lt;script&gt;" in svgs["bars"]


def test_long_series_are_thinned_to_means_that_keep_the_end() -> None:
    points = charts._thin([(float(step), float(step % 2)) for step in range(10_001)])
    assert len(points) <= charts.POINTS
    assert points[-1] == (10_000.0, 0.0)
    assert all(abs(value - 0.5) < 0.03 for _, value in points[:-1])
    assert charts._thin([(1.0, 2.0)]) == [(1.0, 2.0)]


@pytest.mark.parametrize(
    "empty",
    [
        lambda: charts.lines("n", {"a": []}, label=""),
        lambda: charts.bars("n", [], label=""),
        lambda: charts.stacks("n", [], label=""),
        lambda: charts.group_bars("n", {}, label=""),
        lambda: charts.intervals("n", [], label=""),
        lambda: charts.scatter("n", [], label="", x_label="", y_label=""),
        lambda: charts.heat_map("n", {}, label="", bar_label=""),
        lambda: charts.lineage([], row=50),
    ],
)
def test_nothing_to_draw(empty: Callable[[], str]) -> None:
    assert empty() == ""


def test_one_point_and_zeros_can_be_drawn() -> None:
    assert charts.lines("n", {"a": [(1.0, 2.0)]}, label="")
    assert charts.bars("n", [("a", 0.0)], label="")
    assert charts.stacks("n", [("a", {"kept": 0.0})], label="")
    assert charts.intervals("n", [("a", 0.0, 0.0, 0.0)], label="")
    assert charts.scatter("n", [("a", 1.0, 0.0)], label="", x_label="", y_label="")
    assert charts.heat_map("n", {"a": [(1.0, 2.0)]}, label="", bar_label="")


def test_lineage_draws_every_input_once() -> None:
    nodes = [charts.Node("a", "cached", ()), charts.Node("b", "made", ("a",)), charts.Node("c", "made", ("a", "b"))]
    svg = charts.lineage(nodes, row=40)
    assert re.findall(r"<title>(. → .)</title>", svg) == ["a → b", "a → c", "b → c"]
    assert 'class="cached"' in svg


def test_a_chart_alone_has_all_its_colours(svgs: dict[str, str]) -> None:
    alone = charts.standalone(svgs["curves"])
    tree = ET.fromstring(alone)
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    given = dict(part.split(":", 1) for part in tree.attrib["style"].split(";"))
    wanted = set(re.findall(r"var\((--[\w-]+)\)", alone))
    assert {"--series-1", "--muted"} <= wanted <= given.keys()
    assert given["--series-1"] == "#0f766e"  # of the light page, the first in the sheet


def _luminance(colour: str) -> float:
    """WCAG 2's relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_on_every_bar_can_be_read(svgs: dict[str, str]) -> None:
    """In both schemes, 4.5 to 1; axe does not look at text over shapes."""
    for place in range(1, 5):
        assert f"var(--on-series-{place})" in svgs["stacks"]
    sheet = (Path(charts.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    for part in sheet.split("prefers-color-scheme: dark"):
        scheme = dict(re.findall(r"--([\w-]+): (#\w{6})", part))
        for place in range(1, 9):
            both = sorted(_luminance(scheme[f"{name}-{place}"]) for name in ("series", "on-series"))
            assert (both[1] + 0.05) / (both[0] + 0.05) >= 4.5, place
