"""What became of each character: read, kept, cut out of kept documents, rejected with whole ones.

A stage of documents counts in a `Ledger`, each task in one of its own; together they are the stage's `DocumentMetrics`.
For every source, and exactly: characters in = characters out + cut, by rule + rejected, by rule. (`recall` gives
documents another source: what moved in is on the left then, what moved out on the right.) Characters are Unicode code
points; those out of one stage are those in of the next.

A reader of raw files says of a record how many characters it had and which rules took some of them, in the document's
metadata under `RECORD`; the step that reads the sources takes the entry out again and counts it. A record without an
entry had the characters of its text; one that was turned away undecoded, as an image or a page of status 404, has none,
and counts as a document alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from pydantic import BaseModel, Field, PrivateAttr

from infra.durable import write_whole
from infra.facts import StageMetrics
from infra.json_objects import JsonObject
from infra.units import shorten

if TYPE_CHECKING:  # who reads a manifest does without datatrove
    from datatrove.data import Document

__all__ = [
    "MARKUP",
    "RECORD",
    "Account",
    "Amount",
    "DocumentMetrics",
    "Ledger",
    "Record",
    "Records",
    "note_part",
    "note_record",
    "take_record",
]

RECORD = "ledger of the record"
"""Key of a document's metadata between a reader and the step that counts."""
MARKUP = "markup"
"""The rule of what a record had beside its text where no other rule is named for it."""
NULS = "nul_bytes"
"""The rule of NULs, which no later stage can hold, and of which a text may have a few."""
OTHER = "other"
"""The rule of a difference that a stage has no name for."""
EXAMPLES, SHOWN, LOOKED_AT = 3, 80, 500
"""Documents remembered for each rule; characters of each that are shown; of its text, where they are sought."""


class Record(NamedTuple):
    """A record before it became a document's text."""

    characters: int
    """What it had, decoded: markup included."""
    cut: dict[str, int]
    """Characters that a rule took out, by rule; negative where a rule put some in. What no rule is named for is
    `markup`."""
    is_part: bool = False
    """Whether it is a further document of the record before."""


def note_record(metadata: JsonObject, characters: int, **cut: int) -> None:
    """Say of the document with this metadata what its record had, and what rules took of it.

    A record that became several documents is noted with the first of them, the others by `note_part`.
    """
    metadata[RECORD] = (characters, {rule: amount for rule, amount in cut.items() if amount}, False)


def note_part(metadata: JsonObject) -> None:
    """Say that the document with this metadata is a further one of the record that the document before it noted."""
    metadata[RECORD] = (0, {}, True)


def take_record(metadata: JsonObject, kept: int) -> Record:
    """Take the entry out of the metadata of a document with `kept` characters of text."""
    characters, cut, is_part = metadata.pop(RECORD, (kept, {}, False))
    return Record(characters, dict(cut), is_part)


class Amount(BaseModel):
    """So many documents, with so many characters."""

    documents: int = 0
    characters: int = 0

    def add(self, documents: int, characters: int) -> None:
        """Count some more."""
        self.documents += documents
        self.characters += characters


class Account(BaseModel):
    """What became of one source in one stage."""

    documents_in: int = 0
    documents_out: int = 0
    characters_in: int = 0
    characters_out: int = 0
    cut: dict[str, int] = Field(default_factory=dict)
    """Characters that a rule took out of kept documents, by rule; negative where it put more in than it took out."""
    rejected: dict[str, Amount] = Field(default_factory=dict)
    """Whole documents, by rule."""
    moved_in: dict[str, Amount] = Field(default_factory=dict)
    """What came from other sources, by source."""
    moved_out: dict[str, Amount] = Field(default_factory=dict)
    """What went to other sources, by source."""

    @property
    def characters_cut(self) -> int:
        """By all rules together."""
        return sum(self.cut.values())

    @property
    def characters_rejected(self) -> int:
        """With whole documents, by all rules together."""
        return sum(amount.characters for amount in self.rejected.values())

    @property
    def unaccounted(self) -> int:
        """Characters in of which the account does not say what became: 0 in every account that is right."""
        moved = sum(each.characters for each in self.moved_in.values())
        moved -= sum(each.characters for each in self.moved_out.values())
        return self.characters_in + moved - self.characters_out - self.characters_cut - self.characters_rejected

    def cut_out(self, rule: str, characters: int) -> None:
        """Count characters that a rule took out of a kept document."""
        if characters:
            self.cut[rule] = self.cut.get(rule, 0) + characters

    def reject(self, rule: str, documents: int, characters: int) -> None:
        """Count documents that a rule rejected."""
        self.rejected.setdefault(rule, Amount()).add(documents, characters)

    def add(self, other: Account) -> None:
        """Count what another account of the same source did."""
        for name in ("documents_in", "documents_out", "characters_in", "characters_out"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for rule, characters in other.cut.items():
            self.cut_out(rule, characters)
        for name in ("rejected", "moved_in", "moved_out"):
            mine = getattr(self, name)
            for key, amount in getattr(other, name).items():
                mine.setdefault(key, Amount()).add(amount.documents, amount.characters)


class DocumentMetrics(StageMetrics):
    """What a stage of documents reports. Zero where an earlier version did not count."""

    documents_in: int = 0
    documents_out: int = 0
    bytes_in: int | None = None
    bytes_out: int | None = None
    """As UTF-8; what `extract` reads as it lies in the files."""
    characters_in: int = 0
    characters_out: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    """Documents of all sources that a rule rejected, by rule."""
    by_source: dict[str, Account] = Field(default_factory=dict)
    noted: dict[str, int] = Field(default_factory=dict)
    """What else is worth a number."""

    def written(self) -> JsonObject:
        """As JSON values; what nothing was counted of is left out."""
        found = self.model_dump(mode="json", exclude={"by_source", "noted"}, exclude_none=True)
        accounts = {source: _without_empty(account.model_dump(mode="json")) for source, account in self.sources}
        return {**found, "by_source": accounts, **_without_empty({"noted": self.noted})}

    @property
    def has_accounts(self) -> bool:
        """Whether characters were counted, which earlier versions did not do."""
        return bool(self.characters_in)

    @property
    def sources(self) -> Iterator[tuple[str, Account]]:
        """The accounts by name."""
        yield from sorted(self.by_source.items())


def _without_empty(values: JsonObject) -> JsonObject:
    return {name: value for name, value in values.items() if value != {}}


class Ledger(BaseModel):
    """What a task counted, kept in a file so that a resumed stage has the counts of the tasks it did not repeat."""

    accounts: dict[str, Account] = Field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    noted: dict[str, int] = Field(default_factory=dict)
    examples: dict[str, dict[str, list[str]]] = Field(default_factory=dict)
    """By source and rule, the first `EXAMPLES` documents that the rule cut or rejected."""
    _watch: Callable[[str], None] | None = PrivateAttr(None)

    def watch(self, look: Callable[[str], None]) -> None:
        """Call `look` with the source of every document that has been counted."""
        self._watch = look

    def account(self, source: str) -> Account:
        """That of a source."""
        return self.accounts.setdefault(source, Account())

    def example(self, document: Document, rule: str, text: str = "") -> None:
        """Remember a document, if it is among the first, by `text` of it or what else there is to show."""
        kept = self.examples.setdefault(document.metadata["source"], {}).setdefault(rule, [])
        if len(kept) < EXAMPLES:
            shown = text or document.text[:LOOKED_AT] or document.metadata.get("failure") or document.metadata["url"]
            kept.append(f"{document.id} ({shorten(shown, SHOWN)})")

    def counted(self, source: str) -> None:
        """Tell who watches that a document of this source has been counted."""
        if self._watch:
            self._watch(source)

    def read(self, document: Document) -> int:
        """Count the bytes of a document that came in; its characters, for `keep`, `move` or `reject`."""
        self.bytes_in += len(document.text.encode())
        return len(document.text)

    def keep(self, document: Document, before: int, cut: Mapping[str, int] | None = None, rest: str = OTHER) -> None:
        """Count a document that stays, and had `before` characters; what no rule in `cut` took is `rest`'s."""
        account = self.account(document.metadata["source"])
        account.documents_in += 1
        account.documents_out += 1
        account.characters_in += before
        account.characters_out += len(document.text)
        self.bytes_out += len(document.text.encode())
        for rule, characters in (cut or {}).items():
            account.cut_out(rule, characters)
        account.cut_out(rest, before - len(document.text) - sum((cut or {}).values()))
        self.counted(document.metadata["source"])

    def reject(self, document: Document, rule: str, before: int) -> None:
        """Count a document that `rule` rejects, and that had `before` characters."""
        account = self.account(document.metadata["source"])
        account.documents_in += 1
        account.characters_in += before
        account.reject(rule, 1, before)
        self.example(document, rule)
        self.counted(document.metadata["source"])

    def records(self, source: str) -> Records:
        """Counts what the readers found in the files of a source."""
        return Records(self, source)

    def move(self, document: Document, origin: str) -> None:
        """Count a document that stays as it is, but came as one of `origin`'s."""
        source, characters = document.metadata["source"], len(document.text)
        before, after = self.account(origin), self.account(source)
        before.documents_in += 1
        before.characters_in += characters
        before.moved_out.setdefault(source, Amount()).add(1, characters)
        after.moved_in.setdefault(origin, Amount()).add(1, characters)
        after.documents_out += 1
        after.characters_out += characters
        self.bytes_out += len(document.text.encode())

    def note(self, name: str, amount: int = 1) -> None:
        """Count something else that is worth a number, under `noted` in the metrics."""
        self.noted[name] = self.noted.get(name, 0) + amount

    def add(self, other: Ledger) -> None:
        """Count what another task did."""
        for source, account in other.accounts.items():
            self.account(source).add(account)
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        for name, amount in other.noted.items():
            self.note(name, amount)
        for source, by_rule in other.examples.items():
            for rule, found in by_rule.items():
                kept = self.examples.setdefault(source, {}).setdefault(rule, [])
                kept += found[: EXAMPLES - len(kept)]

    def save(self, work: Path, rank: int) -> None:
        """Write the counts of task `rank` below a stage's work folder, whole or not at all."""
        folder = work / "ledger"
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{rank:05d}.json", self.model_dump_json(exclude_defaults=True).encode())

    @classmethod
    def merged(cls, work: Path) -> Self:
        """The counts of all tasks of a stage that have ended."""
        total = cls()
        for file in sorted((work / "ledger").glob("*.json")):
            total.add(cls.model_validate(json.loads(file.read_text())))
        return total

    def metrics(self) -> DocumentMetrics:
        """What the stage reports."""
        dropped: dict[str, int] = {}
        for account in self.accounts.values():
            for rule, amount in account.rejected.items():
                dropped[rule] = dropped.get(rule, 0) + amount.documents
        names = ("documents_in", "documents_out", "characters_in", "characters_out")
        totals = {name: sum(getattr(account, name) for account in self.accounts.values()) for name in names}
        return DocumentMetrics(
            **totals,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            dropped=dict(sorted(dropped.items())),
            by_source=dict(sorted(self.accounts.items())),
            noted=dict(sorted(self.noted.items())),
        )


class Records:
    """Counts the documents of records: a record is settled when the next one begins, or `close` is called."""

    def __init__(self, ledger: Ledger, source: str) -> None:
        self.ledger, self.source, self.account = ledger, source, ledger.account(source)
        self.record, self.kept, self.characters_kept = Record(0, {}), 0, 0
        self.rejected: dict[str, Amount] = {}

    def count(self, document: Document, rule: str | None, record: Record, characters: int) -> None:
        """Count a document that stays (`rule` is None) or not; its text had so many characters when it was read."""
        if not record.is_part:
            self.close()
            self.record = record
        self.account.documents_in += 1
        if rule is not None:
            self.rejected.setdefault(rule, Amount()).add(1, characters)
            self.ledger.example(document, rule)
            return
        self.kept += 1
        self.characters_kept += len(document.text)
        self.account.documents_out += 1
        self.account.characters_out += len(document.text)
        self.record.cut[NULS] = self.record.cut.get(NULS, 0) + characters - len(document.text)
        self.ledger.bytes_out += len(document.text.encode())

    def close(self) -> None:
        """Settle the record: what was no text goes with its rules where a document stays, else with the reject."""
        self.account.characters_in += self.record.characters
        rest = self.record.characters - self.characters_kept
        for rule, amount in self.rejected.items():
            rest -= amount.characters
            self.account.reject(rule, amount.documents, amount.characters)
        if self.kept:
            for rule, characters in self.record.cut.items():
                self.account.cut_out(rule, characters)
            self.account.cut_out(MARKUP, rest - sum(self.record.cut.values()))
        elif self.rejected:
            self.account.reject(next(iter(self.rejected)), 0, rest)
        self.record, self.kept, self.characters_kept, self.rejected = Record(0, {}), 0, 0, {}
        self.ledger.counted(self.source)
