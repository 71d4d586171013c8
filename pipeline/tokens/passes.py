"""How often training reads the text of each source.

Muennighoff et al. 2023 (arXiv 2305.16264, section 6): text read up to four times is nearly as good as new text; what
is read more often teaches less each time, and after some sixteen times nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ADVICE", "passes", "repeated"]

MOST_PASSES = 4.0
"""Times that a text may be read before a person is told."""
ADVICE = "beyond 4 times it teaches little more (arXiv 2305.16264); lower its weight, add text, or take fewer steps"
_SLACK = 0.05
"""Passes beyond that which are none to speak of."""


def passes(rows: Mapping[str, float], mixture: Mapping[str, float] | None, sequences: float) -> dict[str, float]:
    """Times that each source is read, of `rows` by source, in a training on `sequences` rows.

    Without a mixture all are read as often; with one, each by its share of the weights.
    """
    rows = {source: count for source, count in rows.items() if count}
    if mixture is None:
        total = sum(rows.values())
        return dict.fromkeys(sorted(rows), sequences / total) if total else {}
    weights = {source: weight for source, weight in mixture.items() if weight > 0 and source in rows}
    total = sum(weights.values())
    return {source: sequences * weight / total / rows[source] for source, weight in sorted(weights.items())}


def repeated(rows: Mapping[str, float], mixture: Mapping[str, float] | None, sequences: float) -> str:
    """The sources that are read too often, the most repeated first; empty where none is."""
    times = passes(rows, mixture, sequences)
    found = sorted(
        (item for item in times.items() if item[1] > MOST_PASSES + _SLACK), key=lambda item: (-item[1], item[0])
    )
    if not found:
        return ""
    if mixture is None:
        return f"the text is read {found[0][1]:.1f} times over"
    (first, most), *others = found
    return f"{first} is read {most:.1f} times over" + "".join(f", {source} {count:.1f}" for source, count in others)
