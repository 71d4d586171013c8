"""Stops a stage of documents that loses more of a source than its `max_loss`, by characters.

At once: a task stops as soon as what it has seen, with what tasks before it counted, is sure to be too much. That is
when more is lost than the limit allows of all that the source has, which the files of documents say beforehand, or
more than it allows of the first `ENOUGH` characters. At the end every source is judged, however small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.errors import UserError
from infra.units import count, percent
from pipeline.sections import LossLimits
from pipeline.tasks.ledger import MARKUP, Account, Ledger

__all__ = ["Losses"]

ENOUGH = 50_000_000
"""Characters of a source after which its losses so far are believed."""
EVERY = 64
"""Documents of a source between two looks at its losses."""
MOST_LEDGERS = 200
"""Tasks before it whose counts a task looks at."""


@dataclass(frozen=True)
class Losses:
    """The losses of one stage."""

    stage: str
    limits: LossLimits
    remedy: str
    """What to do about them; `{source}` stands for the source's name."""
    totals: Mapping[str, int] = field(default_factory=dict)
    """Characters of each source that will come in, as far as it is known."""
    only_rejects: bool = False
    """Whether what is cut out of kept documents is no loss: markup, navigation, a licence."""
    intended: tuple[str, ...] = ()
    """How rules begin that reject what nobody wants, which is no loss, and none of the source either."""

    def ledger(self, work: Path) -> Ledger:
        """Of a task; it raises a UserError once it has counted too much lost."""
        files = sorted((work / "ledger").glob("*.json"))
        before = Ledger()
        for file in files[:: -(-len(files) // MOST_LEDGERS) or 1]:
            before.add(Ledger.model_validate_json(file.read_text()))
        ledger = Ledger()
        seen: Counter[str] = Counter()

        def look(source: str) -> None:
            seen[source] += 1
            if seen[source] % EVERY == 0:
                together = Ledger()
                for each in (before, ledger):
                    together.add(each)
                self._check(together, source, at_the_end=False)

        ledger.watch(look)
        return ledger

    def settled(self, work: Path) -> Ledger:
        """The counts of all tasks.

        Raises:
            UserError: a source lost too much.
        """
        ledger = Ledger.merged(work)
        self.judge(ledger)
        return ledger

    def judge(self, ledger: Ledger) -> None:
        """Raise a UserError where a source lost too much, at the end of the stage."""
        for source in sorted(ledger.accounts):
            self._check(ledger, source, at_the_end=True)

    def _check(self, ledger: Ledger, source: str, *, at_the_end: bool) -> None:
        account = ledger.account(source)
        lost = self._lost(account)
        all_ = account.characters_in - sum(
            amount.characters for rule, amount in account.rejected.items() if rule.startswith(self.intended)
        )
        limit = self.limits.of(source, account.documents_in)
        if not at_the_end and all_ < ENOUGH:
            all_ = max(all_, self.totals.get(source, ENOUGH))
        if lost.total() > limit * all_:
            raise UserError(self._told(source, lost, all_, limit, ledger))

    def _lost(self, account: Account) -> Counter[str]:
        """Characters by rule."""
        rejected = {rule: each.characters for rule, each in account.rejected.items()}
        lost = Counter({rule: n for rule, n in rejected.items() if not rule.startswith(self.intended)})
        if not self.only_rejects:
            lost.update({rule: n for rule, n in account.cut.items() if rule != MARKUP})
        return lost

    def _told(self, source: str, lost: Counter[str], all_: int, limit: float, ledger: Ledger) -> str:
        rule, most = lost.most_common(1)[0]
        examples = ", ".join(ledger.examples.get(source, {}).get(rule, ())) or "see rejects"
        key = f"{self.stage}.max_loss"
        return (
            f"{self.stage}: source {source} loses {count(lost.total())} of {count(all_)} characters "
            f"({percent(lost.total() / max(all_, 1))}, where {key} allows {percent(limit)}), "
            f"{count(most)} of them by {rule}, as {examples}; {self.remedy.format(source=source)}, "
            f"or raise {key}_by_source.{source} if this is meant"
        )
