"""Accounts of characters: they add up, and records that become several documents are settled as one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from datatrove.data import Document

from pipeline.tasks.ledger import Account, Amount, DocumentMetrics, Ledger, note_part, note_record, take_record


def _document(text: str, source: str = "web") -> Document:
    return Document(text=text, id="x", metadata={"source": source, "url": ""})


def _count(ledger: Ledger, *documents: tuple[Document, str | None], source: str = "web") -> Account:
    """What the step that reads the sources does with them."""
    records = ledger.records(source)
    for document, rule in documents:
        characters = len(document.text)
        record = take_record(document.metadata, characters)
        document.text = document.text.replace("\0", "")
        records.count(document, rule, record, characters)
    records.close()
    return ledger.account(source)


def test_ledgers_of_tasks_add_up(tmp_path: Path) -> None:
    for rank, text in enumerate(("é", "ab")):
        ledger = Ledger()
        document = _document(text)
        before = ledger.read(document)
        if rank:
            ledger.reject(document, "rule", before)
        else:
            document.text = ""
            ledger.keep(document, before, {"lines": 1})
        ledger.note("seen")
        ledger.save(tmp_path, rank)
    metrics = Ledger.merged(tmp_path).metrics()
    assert metrics.written() == {
        "documents_in": 2,
        "documents_out": 1,
        "bytes_in": 4,
        "bytes_out": 0,
        "characters_in": 3,
        "characters_out": 0,
        "dropped": {"rule": 1},
        "by_source": {
            "web": {
                "documents_in": 2,
                "documents_out": 1,
                "characters_in": 3,
                "characters_out": 0,
                "cut": {"lines": 1},
                "rejected": {"rule": {"documents": 1, "characters": 2}},
            }
        },
        "noted": {"seen": 2},
    }
    assert DocumentMetrics.read(metrics.written()) == metrics
    assert not [file for file in (tmp_path / "ledger").iterdir() if file.suffix != ".json"]


def test_metrics_of_earlier_versions_have_no_accounts() -> None:
    """They counted documents alone."""
    found = DocumentMetrics.read({"documents_in": 3, "by_source": {"web": {"documents_in": 3, "dropped": 1}}})
    assert (found.documents_in, found.by_source["web"].documents_in) == (3, 3)
    assert not found.has_accounts


def test_a_record_is_its_text_where_the_reader_says_nothing() -> None:
    account = _count(Ledger(), (_document("abc"), None), (_document("de"), "too_short"))
    assert (account.characters_in, account.characters_out, account.unaccounted) == (5, 3, 0)
    assert account.rejected == {"too_short": Amount(documents=1, characters=2)}


def test_what_no_rule_is_named_for_is_markup() -> None:
    document = _document("a\0bc")
    note_record(document.metadata, 100, navigation=60, licence=-3, nothing=0)
    account = _count(Ledger(), (document, None))
    assert account.cut == {"navigation": 60, "licence": -3, "nul_bytes": 1, "markup": 39}
    assert account.unaccounted == 0


def test_a_rejected_record_counts_with_all_its_characters() -> None:
    document = _document("abc")
    note_record(document.metadata, 100, navigation=60)
    account = _count(Ledger(), (document, "too_short"))
    assert account.rejected == {"too_short": Amount(documents=1, characters=100)}
    assert not account.cut


@pytest.mark.parametrize(
    ("rules", "cut", "rejected"),
    [
        ((None, None, None), {"licence": 50, "markup": 41}, {}),
        (("too_short", None, None), {"licence": 50, "markup": 41}, {"too_short": (1, 2)}),
        ((None, None, "too_short"), {"licence": 50, "markup": 41}, {"too_short": (1, 4)}),
        (("few_letters", "too_short", "too_short"), {}, {"few_letters": (1, 93), "too_short": (2, 7)}),
    ],
)
def test_a_record_of_several_documents_is_settled_as_one(
    rules: tuple[str | None, ...], cut: dict[str, int], rejected: dict[str, tuple[int, int]]
) -> None:
    chapters = [_document("ab"), _document("cde"), _document("fghi")]
    note_record(chapters[0].metadata, 100, licence=50)
    for chapter in chapters[1:]:
        note_part(chapter.metadata)
    account = _count(Ledger(), *zip(chapters, rules, strict=True), (_document("another"), None))
    assert account.characters_in == 107
    assert account.cut == cut
    assert {rule: (each.documents, each.characters) for rule, each in account.rejected.items()} == rejected
    assert account.unaccounted == 0


def test_what_moves_is_counted_on_both_sides() -> None:
    ledger = Ledger()
    document = _document("abc", "maths")
    ledger.move(document, "web")
    ledger.keep(_document("de"), 2)
    assert ledger.account("web").moved_out == {"maths": Amount(documents=1, characters=3)}
    assert ledger.account("maths").moved_in == {"web": Amount(documents=1, characters=3)}
    assert [account.unaccounted for account in ledger.accounts.values()] == [0, 0]
    metrics = ledger.metrics()
    assert (metrics.documents_in, metrics.documents_out, metrics.characters_in, metrics.characters_out) == (2, 2, 5, 5)


@pytest.mark.parametrize("seed", range(20))
def test_the_sum_holds_for_any_records(seed: int) -> None:
    chance = random.Random(seed)
    ledger = Ledger()
    documents: list[tuple[Document, str | None]] = []
    total = 0
    for _ in range(chance.randrange(30)):
        parts = [_document("x" * chance.randrange(9) + "\0" * chance.randrange(3)) for _ in range(chance.randint(1, 4))]
        if chance.random() < 0.7 or len(parts) > 1:
            total += (characters := chance.randrange(200))
            note_record(parts[0].metadata, characters, one=chance.randrange(50), two=-chance.randrange(50))
        else:
            total += len(parts[0].text)
        for part in parts[1:]:
            note_part(part.metadata)
        documents += [(part, chance.choice((None, None, "one", "failure/x"))) for part in parts]
    account = _count(ledger, *documents)
    assert account.characters_in == total
    assert account.unaccounted == 0
    assert account.documents_in == len(documents)
    assert account.characters_out == sum(len(document.text) for document, rule in documents if rule is None)
