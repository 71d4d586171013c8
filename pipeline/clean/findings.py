"""What rules did to a document without dropping it: characters that they cut, and what else they noted.

C4 keeps some lines of a document and drops the others. Which these were is seen by comparing the text before with the
text after, where the kept lines follow one another; so it holds for any rule that takes out lines.
"""

from __future__ import annotations

from collections import Counter

from datatrove.pipeline.filters.c4_filters import CITATION_REGEX

__all__ = ["FOUND", "Findings"]

FOUND = "found by the rules"
"""Key under which what the rules found comes back with a document's metadata."""
LINES, CITATIONS, SPACES = "c4/lines", "c4/citations", "c4/spaces"


class Findings:
    """Of one document."""

    def __init__(self) -> None:
        self.noted: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        """Characters that a rule took out; negative where it put some in."""
        self._reasons: list[str] = []

    def note(self, name: str, amount: int = 1) -> None:
        """Count something that is worth a number."""
        self.noted[name] += amount

    def dropped_line(self, reason: str, lines: int) -> None:
        """Note why the next line, or lines, went."""
        self.note(f"c4_lines/{reason}", lines)
        self._reasons += [reason] * lines

    def lines(self, before: str, after: str) -> None:
        """Count what a rule that keeps whole lines took out of `before`, of which `after` is left."""
        reasons, self._reasons = self._reasons, []
        if before is after or before == after:
            return
        gone = Counter(_cut_lines(before, after, reasons))
        gone[SPACES] = len(before) - len(after) - gone.total()
        self.cut.update(gone)

    def told(self) -> tuple[dict[str, int], dict[str, int]]:
        """What was noted, and what was cut, without what is 0."""
        return {k: n for k, n in self.noted.items() if n}, {k: n for k, n in self.cut.items() if n}


def _cut_lines(before: str, after: str, reasons: list[str]) -> dict[str, int]:
    """Characters of the lines that are gone, with their ends, by rule; of the citations in those that stay."""
    kept = after.split("\n")
    counts: Counter[str] = Counter()
    gone: list[str] = []
    at = 0
    for line in before.splitlines(keepends=True):
        bare = line.strip()
        left = CITATION_REGEX.sub("", bare)
        if at < len(kept) and kept[at] in (left, left.strip()):
            at += 1
            counts[CITATIONS] += len(bare) - len(left)
        else:
            gone.append(line)
    if len(reasons) < len(gone):  # empty lines at the ends go without one
        gone = [line for line in gone if line.strip()]
    told = reasons if len(reasons) == len(gone) else [""] * len(gone)
    for reason, line in zip(told, gone, strict=True):
        counts[f"{LINES}/{reason}" if reason else LINES] += len(line)
    return counts
