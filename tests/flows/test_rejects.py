"""The command `rejects`, and the line of `plan`, on the artifacts of a recorded run."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli import app
from flows.commands.app import console
from flows.report.accounts import STAGES
from infra.errors import UserError
from infra.store import LocalStore
from pipeline.clean.section import CleanConfig, CleanRules
from pipeline.clean.stage import clean
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.stage import dedup
from pipeline.tasks.rules import CUTS, REJECTS, says
from tests.flows.registry.test_trace import publish
from tests.pipeline.clean.test_clean import GERMAN, GOOD
from tests.pipeline.corpus import set_workers, words, write_documents

MENU = "Home [about] us and news"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """Of a run whose clean stage cut a line and rejected a text, and whose dedup stage rejected a copy."""
    set_workers(monkeypatch, 1)
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "store"))
    monkeypatch.setattr(console, "width", 160)
    rows = [
        ("page", "shelf", f"{MENU}\n{GOOD}"),
        ("german", "shelf", GERMAN),
        ("other", "web", f"{GOOD}\nAnd on it goes."),
    ]
    rules = CleanRules(c4_quality=True, terminal_punctuation=True)
    config = CleanConfig(rules=rules, max_loss=1)
    store = LocalStore(tmp_path / "store")
    stages = {}
    for name, inputs in (("clean", {"extract": write_documents(tmp_path / "in", rows)}), ("dedup", {})):
        folder = tmp_path / name
        folder.mkdir()
        if name == "clean":
            metrics = clean(config, inputs, folder)
        else:
            copies = [("one", "web", words(1, 90)), ("two", "web", words(1, 90))]
            metrics = dedup(DedupConfig(), {"clean": write_documents(tmp_path / "copies", copies)}, folder)
        publish(store, name, folder, config={}, metrics=metrics.written())
        stages[name] = {"identity": f"{name}-1"}
    store.write_run("run-1", {"run_id": "run-1", "started": "1", "stages": stages})
    return store


def _shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    app(["rejects", *arguments], standalone_mode=False)
    return capsys.readouterr().out


def test_without_a_rule_all_rules_are_told(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in _shown(capsys).splitlines()]
    assert ["clean", "shelf", "language/other", "1"] in [line[:4] for line in lines]
    assert ["clean", "shelf", "c4/lines/no_terminal_punc", "cut", str(len(MENU) + 1)] in [line[:5] for line in lines]
    assert ["dedup", "web", "exact", "1"] in [line[:4] for line in lines]
    assert "dedup" not in _shown(capsys, "--source", "shelf")
    assert "clean" not in _shown(capsys, "--stage", "dedup")


def test_cut_lines_are_shown_by_the_beginning_of_a_rule(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    shown = _shown(capsys, "--rule", "c4/lines", "--source", "shelf")
    assert "page cut out of by clean, c4/lines/no_terminal_punc: lines that do not end a sentence" in shown
    assert MENU in shown, "as it was, though it looks like the console's markup"
    assert "Der alte Hafen" not in shown


def test_rejected_documents_are_shown(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    shown = _shown(capsys, "run", "--rule", "language")
    assert "german rejected by clean, language/other" in shown
    assert "Der alte Hafen" in shown
    assert _shown(capsys, "--rule", "", "-n", "1").count("rejected by") == 1


def test_every_stage_with_accounts_has_its_rules() -> None:
    assert set(REJECTS) == set(STAGES)
    assert set(CUTS) < set(STAGES)
    assert says("extract", "status/404") == "an HTTP status that is not wanted"
    assert says("extract", "of an earlier version") == ""


def test_what_is_not_there_is_told(store: LocalStore) -> None:
    with pytest.raises(
        UserError, match=r"nothing went by it; the rules are c4/lines/no_terminal_punc, exact, language"
    ):
        app(["rejects", "--rule", "gopher"], standalone_mode=False)
    with pytest.raises(UserError, match="no such source; there are shelf, web"):
        app(["rejects", "--source", "book"], standalone_mode=False)
    with pytest.raises(UserError, match="--stage sft: no stage with documents"):
        app(["rejects", "--stage", "sft"], standalone_mode=False)


def test_plan_says_what_was_kept_when_last_made(
    store: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.jsonl").write_text('{"text": "some"}\n')
    (tmp_path / "mine.yaml").write_text(
        f"extract: {{sources: {{shelf: {{kind: jsonl, paths: ['{tmp_path / 'notes.jsonl'}']}}}}}}\n"
    )
    app(["plan", str(tmp_path / "mine.yaml")], standalone_mode=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["characters", "kept", "when", "last", "made", "clean", "dedup"] in lines
    kept = len(GOOD) / (len(GOOD) + len(MENU) + 1 + len(GERMAN))
    assert ["shelf", f"{100 * kept:.0f}", "%"] in lines
    assert not [line for line in lines if line[:1] == ["web"]], "no source of this recipe"
