from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flows.report.domain_figures import gained_and_forgotten, text_kept
from flows.report.report import write_report
from flows.run.record import RunRecord
from infra.store import LocalStore, Store
from tests.flows.example import HOSTILE, example_run, identity

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements, text and balance of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> out of order"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def written(record: dict[str, Any], store: Store, folder: Path) -> tuple[str, Page]:
    path = write_report(RunRecord.model_validate(record), store, folder / "deep" / "report.html")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    return text, page


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    folder = tmp_path_factory.mktemp("report")
    return written(*example_run(folder), folder)


def test_every_part_is_there(whole: tuple[str, Page]) -> None:
    said = " ".join(" ".join(whole[1].text).split())
    for words in (
        "completed", "24 November 2026, 11:46 UTC", "deepmill-sample version 3", "champion", "1,398", "1.2 M", "4.9 M",
        "48 %", "3.2 MB", "4 m 12 s", "gopher_repetition", "Duplicates", "Mixture", "Learning rate", "Expert load",
        "Fine-tuning: loss", "GRPO: reward", "GRPO: accuracy", "GRPO: format", "GRPO: KL", "GRPO: length",
        "Accuracy by checkpoint", "Accuracy by suite", "gsm8k", "Experts that the tasks use",
        "1 were trained: layer 1: 0.", "Size against quality", "Bits per byte by source", "7 + 5 = 12",
        "✓ right", "✗ wrong", "best of times", "✓ passed", "took the place of version 2", "pretrain: steps: 100",
        "3.11.9", "2.13.0",
        "with local changes", "0123456789",
    ):  # fmt: skip
        assert words in said, words
    for name in ("extract", "export"):
        assert identity(name) in said
    assert re.search(r"[0-9a-f]{64}", said), "checksums of files"


def test_text_is_escaped_wherever_it_comes_from(whole: tuple[str, Page]) -> None:
    text, page = whole
    assert "<script" not in text
    assert "<b>web" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "script" not in {tag for tag, _ in page.elements}
    assert "".join(page.text).count("<script>alert('x')</script>") >= HOSTILE.count("<script>") * 5


def test_nothing_is_loaded_from_anywhere(whole: tuple[str, Page]) -> None:
    text, page = whole
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            if name in {"src", "href", "xlink:href", "srcset", "action"}:
                assert value is not None
                assert value.startswith(("#", "data:")), (tag, name, value)
            assert not name.startswith("on"), (tag, name)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    policy = next(a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_ids_are_unique_on_the_page(whole: tuple[str, Page]) -> None:
    ids = [attributes["id"] for _, attributes in whole[1].elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    first, _ = written(record, store, tmp_path / "one")
    second, _ = written(record, store, tmp_path / "two")
    assert first == second


def test_a_failed_run(tmp_path: Path) -> None:
    text, page = written(*example_run(tmp_path, until="dedup", state="failed"), tmp_path)
    said = " ".join(page.text)
    assert "web.warc.gz: record 7" in said
    assert "gopher_repetition" in said
    assert 'class="failed"' in text
    for absent in ("Pretraining", "Quality", "Release", "What the model says"):
        assert absent not in said


def test_a_record_with_next_to_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    for record in ({}, {"run_id": "r", "state": "running", "stages": {}, "release": {}, "error": None}):
        written(record, store, tmp_path)


def test_what_a_domain_gained_and_cost() -> None:
    series = {
        "validation_bits_per_byte_domain": [(0.0, 2.0), (10.0, 1.5)],
        "validation_bits_per_byte_general": [(0.0, 2.0), (10.0, 2.02)],
    }
    svg, caption = gained_and_forgotten(series)
    assert "domain" in svg
    assert "general" in svg
    assert "lost: +1.00%" in caption
    assert gained_and_forgotten({})[0] == ""


def test_what_fine_tuning_did_to_text() -> None:
    name = "validation_bits_per_byte_"
    sft = {f"{name}book": [(0.0, 2.0), (9.0, 2.5)], f"{name}web": [(0.0, 3.0), (9.0, 2.9)], "loss": [(1.0, 1.0)]}
    grpo = {f"{name}book": [(0.0, 2.5), (9.0, 2.6)], f"{name}web": [(0.0, 2.9), (9.0, 2.9)]}
    svg, caption = text_kept({"sft": sft, "dpo": {}, "grpo": grpo})
    assert all(label in svg for label in ("before sft", "after sft", "after grpo", "book", "web"))
    assert caption.endswith("Most was forgotten of book in sft: +25.0%.")
    assert text_kept({"sft": {"loss": [(1.0, 1.0)]}})[0] == ""


def test_what_it_tells_to_type_works_where_it_is_read(tmp_path: Path) -> None:
    """Of a store elsewhere and of a recipe of one's own; and says what was done, and no more."""
    record, store = example_run(tmp_path)
    record["root"] = "/data/mine"
    record["recipe_name"] = record["recipe"]["name"] = "mine"
    del record["stages"]["grpo"]
    said = " ".join(" ".join(written(record, store, tmp_path)[1].text).split())
    assert f"DEEPMILL_ROOT=/data/mine deepmill rerun {record['run_id']} DEEPMILL_ROOT=/data/mine deepmill" in said
    assert "DEEPMILL_ROOT=/data/mine deepmill plan mine.yaml" in said
    assert "Fine-tuned on chains of thought." in said


def test_a_version_held_back(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    record["release"] |= {"promoted": False}
    record["release"]["gates"][0] |= {"passed": False}
    said = " ".join(" ".join(written(record, store, tmp_path)[1].text).split())
    assert "did not pass and is not the champion" in said
    assert "✗ failed" in said
    assert "deepmill chat deepmill-sample/3" in said


def test_broken_metrics_cost_only_their_figure(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    evaluate = store.path("evaluate", identity("evaluate"))
    (evaluate / "evaluation.json").write_text(
        '{"checkpoints": {"grpo": 3, "sft": {"accuracy": NaN, "bits_per_byte": 1}}, "samples": [1, {}], '
        '"continuations": {}}',
        encoding="utf-8",
    )
    (store.path("pretrain", identity("pretrain")) / "history.json").write_text('{"steps": [1, {"loss": 2}]}')
    said = " ".join(written(record, store, tmp_path)[1].text)
    assert "Accuracy by checkpoint" not in said
    assert "Documents by stage" in said
