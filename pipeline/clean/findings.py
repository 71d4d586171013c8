"""What rules did to a document without dropping it: characters that they cut, and what else they noted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pipeline.tasks.documents import CUT_SHOWN

__all__ = ["FOUND", "Findings"]

FOUND = "found by the rules"
"""Key under which what the rules found comes back with a document's metadata."""
LINES, CITATIONS = "c4/lines", "c4/citations"
SHOWN = ("mended",)
"""Rules that replace characters and may be looked at: what was masked is not kept."""


class Findings:
    """Of one document."""

    def __init__(self) -> None:
        self.noted: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        """Characters that a rule took out; negative where it put some in."""
        self.pieces: dict[str, str] = {}
        """The beginning of what that was, by rule, where there is something to look at."""

    def note(self, name: str, amount: int = 1) -> None:
        """Count something that is worth a number."""
        self.noted[name] += amount

    def lost(self, cuts: Iterable[tuple[str, str]]) -> None:
        """Note what C4's rule took out of the document: lines, each with its reason, and citations."""
        by_reason: dict[str, list[str]] = {}
        for reason, text in cuts:
            by_reason.setdefault(reason, []).append(text)
        for reason, texts in by_reason.items():
            rule = CITATIONS if reason == "citation" else f"{LINES}/{reason}"
            gone = "".join(texts)
            self.cut[rule] += len(gone)
            self.pieces[rule] = (self.pieces.get(rule, "") + gone)[:CUT_SHOWN]
            if rule != CITATIONS:
                self.note(f"c4_lines/{reason}", len(texts) - sum(map(str.isspace, texts)))

    def replaced(self, before: str, after: str, rule: str) -> None:
        """Note what a rule that puts other characters in the place of some did to `before`, now `after`."""
        if before == after:
            return
        self.note(rule)
        self.cut[rule] += len(before) - len(after)
        if rule in SHOWN:
            pairs = zip(before.splitlines(), after.splitlines(), strict=False)
            self.pieces[rule] = "\n".join(f"{old} → {new}" for old, new in pairs if old != new)[:CUT_SHOWN]

    def told(self) -> tuple[dict[str, int], dict[str, int], dict[str, str]]:
        """What was noted, and what was cut, without what is 0; and some of the text that was cut."""
        return _without_nought(self.noted), _without_nought(self.cut), self.pieces


def _without_nought(counts: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
