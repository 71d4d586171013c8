"""What rules did to a document without dropping it: characters that they cut, and what else they noted.

C4 keeps some lines of a document and drops the others. Which these were is seen by comparing the text before with the
text after, where the kept lines follow one another; so it holds for any rule that takes out lines.
"""

from __future__ import annotations

from collections import Counter

from datatrove.pipeline.filters.c4_filters import CITATION_REGEX

from pipeline.tasks.documents import CUT_SHOWN

__all__ = ["FOUND", "Findings"]

FOUND = "found by the rules"
"""Key under which what the rules found comes back with a document's metadata."""
SHOWN = ("mended",)
"""Rules that replace characters and may be looked at; what was masked is not kept."""
LINES, CITATIONS, SPACES = "c4/lines", "c4/citations", "c4/spaces"


class Findings:
    """Of one document."""

    def __init__(self) -> None:
        self.noted: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        """Characters that a rule took out; negative where it put some in."""
        self.pieces: dict[str, str] = {}
        """What that was, by rule, as far as there is something to look at."""
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
        gone, citations = _cut_lines(before, after, reasons)
        self.pieces |= {rule: "".join(lines)[:CUT_SHOWN] for rule, lines in gone.items()}
        counts = {rule: sum(map(len, lines)) for rule, lines in gone.items()} | {CITATIONS: citations}
        self.cut.update(counts | {SPACES: len(before) - len(after) - sum(counts.values())})

    def replaced(self, before: str, after: str, rule: str) -> None:
        """Count what a rule that puts other characters in the place of some did to `before`, now `after`."""
        if before == after:
            return
        self.note(rule)
        self.cut[rule] += len(before) - len(after)
        if rule in SHOWN:
            pairs = zip(before.splitlines(), after.splitlines(), strict=False)
            self.pieces[rule] = "\n".join(f"{old} → {new}" for old, new in pairs if old != new)[:CUT_SHOWN]

    def told(self) -> tuple[dict[str, int], dict[str, int], dict[str, str]]:
        """What was noted, and what was cut, without what is 0; and some of the text that was cut."""
        cut = {rule: characters for rule, characters in self.cut.items() if characters}
        return {name: amount for name, amount in self.noted.items() if amount}, cut, self.pieces


def _cut_lines(before: str, after: str, reasons: list[str]) -> tuple[dict[str, list[str]], int]:
    """The lines that are gone, with their ends, by rule; and the characters of citations in those that stay."""
    kept = after.split("\n")
    gone: list[str] = []
    citations = 0
    at = 0
    for line in before.splitlines(keepends=True):
        bare = line.strip()
        left = CITATION_REGEX.sub("", bare)
        if at < len(kept) and kept[at] in (left, left.strip()):
            at += 1
            citations += len(bare) - len(left)
        else:
            gone.append(line)
    if len(reasons) < len(gone):  # empty lines at the ends go without one
        gone = [line for line in gone if line.strip()]
    told = reasons if len(reasons) == len(gone) else [""] * len(gone)
    found: dict[str, list[str]] = {}
    for reason, line in zip(told, gone, strict=True):
        found.setdefault(f"{LINES}/{reason}" if reason else LINES, []).append(line)
    return found, citations
