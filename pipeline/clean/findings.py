"""What rules did to a document without dropping it: characters that they cut, and what else they noted."""

from __future__ import annotations

from collections import Counter

__all__ = ["FOUND", "Findings"]

FOUND = "found by the rules"
"""Key under which what the rules found comes back with a document's metadata."""
LINES, CITATIONS = "c4/lines", "c4/citations"


class Findings:
    """Of one document."""

    def __init__(self) -> None:
        self.noted: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        """Characters that a rule took out; negative where it put some in."""

    def note(self, name: str, amount: int = 1) -> None:
        """Count something that is worth a number."""
        self.noted[name] += amount

    def lost(self, reason: str, text: str) -> None:
        """Note what C4's rule took out of the document: a line for a reason, or a citation."""
        if reason == "citation":
            self.cut[CITATIONS] += len(text)
            return
        self.cut[f"{LINES}/{reason}"] += len(text)
        self.note(f"c4_lines/{reason}", int(not text.isspace()))

    def told(self) -> tuple[dict[str, int], dict[str, int]]:
        """What was noted, and what was cut, without what is 0."""
        return {k: n for k, n in self.noted.items() if n}, {k: n for k, n in self.cut.items() if n}
