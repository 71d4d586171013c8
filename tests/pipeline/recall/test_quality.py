"""A learned score: what is like the examples scores higher, and sources are parted at the places asked for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.errors import UserError
from pipeline.recall.quality import quality
from pipeline.recall.section import QualityConfig
from pipeline.tasks.documents import read_documents
from pipeline.tasks.ledger import DocumentMetrics
from tests.pipeline.corpus import Row, published, set_workers, write_documents
from tests.pipeline.recall.test_stage import CLASSIFIER, page


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting others takes longer than these files."""
    set_workers(monkeypatch, 1)


def _rows(source: str, count: int = 60) -> list[Row]:
    """A third is maths, a third sport, a third has some of both."""
    fields = {"good": ("maths",), "bad": ("sport",), "mixed": ("maths", "sport")}
    names = [(name, number) for number in range(count // 3) for name in fields]
    return [(f"{name}-{source}-{n}", source, page(*fields[name], seed=f"{source}{name}{n}")) for name, n in names]


def _files(folder: Path) -> dict[str, list[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, field in (("good", "maths"), ("bad", "sport")):
        lines = (json.dumps({"text": page(field, seed=f"{name}{n}")}) + "\n" for n in range(60))
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return {"positive": [str(folder / "good.jsonl")], "negative": [str(folder / "bad.jsonl")]}


def _run(folder: Path, files: list[list[Row]], **keys: Any) -> tuple[Path, DocumentMetrics]:
    config = QualityConfig.model_validate(_files(folder) | {"classifier": CLASSIFIER} | keys)
    (folder / "out").mkdir()
    return folder / "out", quality(config, {"dedup": write_documents(folder / "in", *files)}, folder / "out")


@pytest.mark.parametrize("keys", [{}, {"negative": []}])
def test_the_best_third_is_what_the_examples_are(tmp_path: Path, keys: dict[str, Any]) -> None:
    out, metrics = _run(tmp_path, [_rows("web")], keep=0.33, **keys)
    kept = list(read_documents(out))
    assert len(kept) == 20
    assert sum(document.id.startswith("good") for document in kept) >= 18
    rejects = list(read_documents(out, "rejects"))
    assert {document.metadata["rule"] for document in rejects} == {"quality"}
    assert min(d.metadata["quality"] for d in kept) >= max(d.metadata["quality"] for d in rejects)
    assert (metrics.documents_in, metrics.documents_out) == (60, 20)


def test_each_source_is_cut_by_itself_and_others_are_left_alone(tmp_path: Path) -> None:
    sport = [(f"s{n}", "worse", page("sport", seed=f"s{n}")) for n in range(20)]
    out, _ = _run(tmp_path, [_rows("web"), sport, _rows("wiki", 9)], keep=0.5, sources=["web", "worse"])
    kept = list(read_documents(out))
    assert Counter(document.metadata["source"] for document in kept) == {"web": 30, "worse": 10, "wiki": 9}
    assert {d.metadata["source"] for d in kept if "quality" in d.metadata} == {"web", "worse"}


def test_the_best_become_sources_that_a_mixture_can_name(tmp_path: Path) -> None:
    out, _ = _run(tmp_path, [_rows("web")], keep=0.9, buckets={"high": 0.8, "middle": 0.5})
    scores: dict[str, list[float]] = {}
    for document in read_documents(out):
        scores.setdefault(document.metadata["source"], []).append(document.metadata["quality"])
        assert document.metadata.get("from_source", "web") == "web"
    assert {name: len(found) for name, found in scores.items()} == {"web": 24, "web.middle": 18, "web.high": 12}
    assert min(scores["web.high"]) >= max(scores["web.middle"]) >= min(scores["web.middle"]) >= max(scores["web"])
    told = json.loads((out / "quality.json").read_text())["web"]
    assert told["least"] < told["buckets"]["middle"] < told["buckets"]["high"]


def test_documents_of_one_score_stay_together(tmp_path: Path) -> None:
    same = [(f"d{n}", "web", page("garden", seed="same")) for n in range(10)]
    out, _ = _run(tmp_path, [same], keep=0.1)
    assert len(list(read_documents(out))) == 10


def test_same_bytes_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for workers in (1, 2):
        set_workers(monkeypatch, workers)
        files = [_rows("web")[:30], _rows("web")[30:]]
        out, metrics = _run(tmp_path / str(workers), files, keep=0.5, buckets={"high": 0.9}, negative=[])
        results.append((published(out), metrics))
    assert results[0] == results[1]


def test_what_is_amiss_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"quality\.sources names absent; there are web"):
        _run(tmp_path / "a", [_rows("web", 3)], sources=["absent"])
    for name, content in (("empty", ""), ("broken", "{}\n")):
        (tmp_path / f"{name}.jsonl").write_text(content)
    with pytest.raises(UserError, match="no positive examples"):
        _run(tmp_path / "b", [_rows("web", 3)], positive=[str(tmp_path / "empty.jsonl")])
    with pytest.raises(UserError, match=r"broken\.jsonl: record 1: .* quality\.negative files are JSONL"):
        _run(tmp_path / "c", [_rows("web", 3)], negative=[str(tmp_path / "broken.jsonl")])
    with pytest.raises(ValidationError, match="a share of documents"):
        QualityConfig(positive=("x",), buckets={"high": 1.0})
