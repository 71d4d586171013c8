"""A stage stops when it loses too much of a source: at once, or at its end, and says by which rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document

from infra.errors import UserError
from pipeline.dedup.section import DedupConfig
from pipeline.sections import DecontaminateConfig, LossLimits
from pipeline.tasks import losses as module
from pipeline.tasks.ledger import Ledger, note_record, take_record
from pipeline.tasks.losses import EVERY, Losses


def _document(text: str, number: int = 0, source: str = "shelf") -> Document:
    return Document(text=text, id=f"{source}/{number}", metadata={"source": source, "url": ""})


def _losses(limits: LossLimits | None = None, **more: Any) -> Losses:
    return Losses("clean", limits or LossLimits(), "give {source} other rules", **more)


def _reject(ledger: Ledger, count: int, rule: str = "gopher/short", source: str = "shelf") -> None:
    for number in range(count):
        ledger.reject(_document("0123456789", number, source), rule, 10)


def _keep(ledger: Ledger, count: int, cut: dict[str, int] | None = None) -> None:
    for number in range(count):
        ledger.keep(_document("01234", number), 5 + sum((cut or {}).values()), cut)


def test_the_end_names_source_rule_examples_and_remedy(tmp_path: Path) -> None:
    ledger = _losses().ledger(tmp_path)
    _keep(ledger, 2)
    _reject(ledger, 4)
    _reject(ledger, 1, "c4/few")
    ledger.save(tmp_path, 0)
    with pytest.raises(UserError) as caught:
        _losses().settled(tmp_path)
    message = str(caught.value)
    for part in (
        "clean: source shelf loses 50 of 60 characters (83 %, where clean.max_loss allows 50 %)",
        "40 of them by gopher/short, as shelf/0 (0123456789), shelf/1 (0123456789), shelf/2 (0123456789);",
        "give shelf other rules, or raise clean.max_loss_by_source.shelf",
    ):
        assert part in message
    assert "shelf/3" not in message


def test_cuts_within_kept_documents_are_losses(tmp_path: Path) -> None:
    ledger = _losses().ledger(tmp_path)
    _keep(ledger, 3, {"c4/lines": 6})
    with pytest.raises(UserError, match=r"18 of them by c4/lines"):
        _losses().judge(ledger)
    _losses(only_rejects=True).judge(ledger)


def test_the_limit_itself_is_not_too_much() -> None:
    ledger = Ledger()
    _keep(ledger, 2)
    _reject(ledger, 1)
    _losses().judge(ledger)
    with pytest.raises(UserError):
        _losses(LossLimits(max_loss=0.49)).judge(ledger)


def test_a_source_may_have_a_limit_of_its_own() -> None:
    ledger = Ledger()
    _reject(ledger, 1)
    _losses(LossLimits(max_loss_by_source={"shelf": 1.0})).judge(ledger)
    strict = LossLimits(max_loss=1, max_loss_by_source={"shelf": 0.2})
    with pytest.raises(UserError, match="allows 20 %"):
        _losses(strict).judge(ledger)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        LossLimits(max_loss_by_source={"shelf": 2})


@pytest.mark.parametrize(("limits", "most"), [(DedupConfig(), "90 %"), (DecontaminateConfig(), "50 %")])
def test_where_a_stage_is_meant_to_take_text_away_only_large_sources_have_a_limit(
    limits: LossLimits, most: str
) -> None:
    ledger = Ledger()
    _reject(ledger, limits.MANY - 1)
    _losses(limits).judge(ledger)
    _reject(ledger, 1)
    with pytest.raises(UserError, match=f"allows {most}"):
        _losses(limits).judge(ledger)
    small = Ledger()
    _reject(small, 3)
    with pytest.raises(UserError, match="allows 80 %"):
        _losses(limits.model_copy(update={"max_loss": 0.8})).judge(small)


def test_what_nobody_wants_is_no_loss_and_nothing_of_the_source() -> None:
    ledger = Ledger()
    _reject(ledger, 90, "status/404")
    _keep(ledger, 2)
    _losses(intended=("status/",)).judge(ledger)
    _reject(ledger, 2, "too_short")
    with pytest.raises(UserError, match="loses 20 of 30 characters"):
        _losses(intended=("status/",)).judge(ledger)


def test_a_task_stops_when_the_loss_is_sure(tmp_path: Path) -> None:
    ledger = _losses(totals={"shelf": 10 * 10 * EVERY}).ledger(tmp_path)
    _reject(ledger, 5 * EVERY)
    with pytest.raises(UserError, match=r"of 6,400 characters"):
        _reject(ledger, EVERY)
    assert ledger.account("shelf").documents_in == 6 * EVERY


def test_a_task_stops_for_what_tasks_before_it_lost(tmp_path: Path) -> None:
    losses = _losses(totals={"shelf": 10 * 10 * EVERY})
    first = losses.ledger(tmp_path)
    _reject(first, 5 * EVERY)
    first.save(tmp_path, 0)
    with pytest.raises(UserError, match=r"loses 3,840 of 6,400 characters"):
        _reject(losses.ledger(tmp_path), EVERY)


def test_where_the_whole_is_not_known_enough_of_it_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENOUGH", 10 * 3 * EVERY)
    ledger = _losses().ledger(tmp_path)
    _reject(ledger, EVERY)
    with pytest.raises(UserError):
        _reject(ledger, EVERY)  # more than half of enough
    ledger = _losses().ledger(tmp_path)
    _keep(ledger, 8 * EVERY)
    _reject(ledger, 4 * EVERY)
    with pytest.raises(UserError, match="loses 3,200 of 5,760"):
        _reject(ledger, EVERY)


def test_records_of_readers_are_watched_too(tmp_path: Path) -> None:
    ledger = _losses(totals={"shelf": 1000}, only_rejects=True).ledger(tmp_path)
    records = ledger.records("shelf")

    def read(number: int) -> None:
        document = _document("", number)
        note_record(document.metadata, 10, navigation=3)
        records.count(document, "too_short", take_record(document.metadata, 0), 0)

    with pytest.raises(UserError, match="too_short, as shelf/0"):
        list(map(read, range(2 * EVERY)))
    assert ledger.account("shelf").documents_in <= EVERY + 1
