"""Recall finds a planted field, stops when nothing new turns up, and does not depend on the width."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from infra.errors import UserError
from pipeline.recall import stage as recall_stage
from pipeline.recall.section import RecallConfig
from pipeline.recall.stage import recall
from pipeline.tasks.documents import count_documents, read_documents
from tests.pipeline.corpus import Row, published, set_workers, write_documents

COMMON = "the of and to in is that it was for on are with as at be this from or have an by not but what all were"
FIELDS = {
    "maths": "theorem lemma integral proof polynomial prime matrix vector algebra equation converges bounded",
    "geometry": "angle triangle circle tangent parallel chord radius polygon sphere axis vertex plane",
    "garden": "rose soil seed prune water sun compost bloom spade hedge lawn bulb",
    "sport": "goal match team coach league score referee ball penalty season stadium striker",
}
CLASSIFIER = {"dim": 16, "epochs": 15, "buckets": 2000, "learning_rate": 0.3, "min_count": 1, "word_n_grams": 1}


def page(*fields: str, seed: str, length: int = 80) -> str:
    """A page of common words and words of these fields."""
    source = random.Random(seed)
    own = [word for field in fields for word in FIELDS[field].split()]
    common = COMMON.split()
    return " ".join(source.choice(own if source.random() < 0.35 else common) for _ in range(length))


def corpus(folder: Path, files: int = 3) -> tuple[Path, set[str]]:
    """Pages of four hosts, and which of them are of the field.

    Seeds know maths only. The host `a.org` has maths below /maths, and there also geometry, which no seed has a word
    of: only discovery leads to it, and then to the geometry of `b.org`.
    """
    rows: list[tuple[str, str, str, str]] = []
    for number in range(30):
        for name, url, fields in (
            ("m", f"http://www.a.org/maths/m{number}", ("maths",)),
            ("o", f"http://a.org/news/o{number}", ("sport",)),
            ("g", f"http://b.org/x/g{number}", ("geometry",)),
            ("s", f"http://b.org/y/s{number}", ("sport",)),
            ("r", f"http://c.org/r{number}", ("garden",)),
            ("t", f"http://d.org/t/t{number}", ("sport", "garden")),
        ):
            rows.append((f"{name}{number}", "web", url, page(*fields, seed=f"{name}{number}")))
        if number < 12:
            rows.append((f"h{number}", "web", f"http://a.org/maths/h{number}", page("geometry", seed=f"h{number}")))
    rows.append(("wiki", "wiki", "http://w.org/maths", page("maths", seed="wiki")))
    random.Random(1).shuffle(rows)
    artifact = write_documents(folder / "dedup", *(to_rows(rows[n::files]) for n in range(files)))
    set_urls(artifact, {name: url for name, _, url, _ in rows})
    return artifact, {name for name, *_ in rows if name[0] in "mgh"}


def to_rows(rows: list[tuple[str, str, str, str]]) -> list[Row]:
    return [(name, source, text) for name, source, _, text in rows]


def set_urls(artifact: Path, urls: dict[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in sorted((artifact / "documents").glob("*.parquet")):
        table = pq.read_table(file)
        column = pa.array([urls[name] for name in table["id"].to_pylist()])
        pq.write_table(table.set_column(table.schema.get_field_index("url"), "url", column), file)


def config(folder: Path, **changes: Any) -> RecallConfig:
    seeds = folder / "seeds.jsonl"
    seeds.write_text("".join(json.dumps({"text": page("maths", seed=f"seed{n}")}) + "\n" for n in range(40)))
    domain = {"seeds": [str(seeds)]} | changes.pop("domain", {})
    defaults = {
        "domains": {"maths": domain},
        "classifier": CLASSIFIER,
        "negatives": 40,
        "min_pages": 5,
        "max_rounds": 6,
    }
    return RecallConfig.model_validate(defaults | changes)


def found(out: Path) -> set[str]:
    return {document.id for document in read_documents(out) if document.metadata["source"] == "maths"}


def test_discovery_leads_where_no_seed_does(tmp_path: Path) -> None:
    artifact, wanted = corpus(tmp_path)
    metrics = recall(config(tmp_path), {"dedup": artifact}, tmp_path / "out")
    rounds = json.loads((tmp_path / "out" / "recall.json").read_text())["maths"]
    assert rounds[0]["pages"] < 40, "the first round knows maths alone"
    assert rounds[0]["paths"] == ["a.org/maths"]
    assert list(rounds[0]["hosts"]) == ["a.org"]
    assert found(tmp_path / "out") == wanted
    assert rounds[-1]["known"] >= 0.98
    assert len(rounds) < 6, "it stopped by itself"
    assert metrics.recalled == {"maths": len(wanted)}
    assert count_documents(tmp_path / "out") == count_documents(artifact)
    kept = {document.id: document.metadata for document in read_documents(tmp_path / "out")}
    assert kept["g1"]["from_source"] == "web"
    assert kept["g1"]["recall_score"] >= 0.5
    assert kept["s1"]["source"] == "web"
    assert kept["wiki"]["source"] == "wiki", "no candidate"


def test_the_bytes_do_not_depend_on_width_or_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, _ = corpus(tmp_path)
    settings = config(tmp_path, max_rounds=2)
    recall(settings, {"dedup": artifact}, tmp_path / "one")
    monkeypatch.setattr(recall_stage, "FEW_BYTES", 0)
    set_workers(monkeypatch, 2)
    monkeypatch.setattr(recall_stage, "Relabel", None)  # "killed" when all rounds are done
    with pytest.raises(TypeError):
        recall(settings, {"dedup": artifact}, tmp_path / "two")
    monkeypatch.undo()
    set_workers(monkeypatch, 2)
    monkeypatch.setattr(recall_stage, "train", None)  # and no round is repeated
    recall(settings, {"dedup": artifact}, tmp_path / "two")
    assert published(tmp_path / "one") == published(tmp_path / "two")


def test_what_a_person_says_goes_before(tmp_path: Path) -> None:
    artifact, wanted = corpus(tmp_path)
    settings = config(tmp_path, domain={"not_urls": ["a.org/maths"]}, max_rounds=2)
    recall(settings, {"dedup": artifact}, tmp_path / "out")
    rounds = json.loads((tmp_path / "out" / "recall.json").read_text())["maths"]
    assert rounds[0]["paths"] == []
    assert not {name for name in found(tmp_path / "out") if name[0] in "gh"}
    named = config(tmp_path, domain={"seeds": [], "urls": ["a.org/maths", "b.org/x"]}, max_rounds=1)
    recall(named, {"dedup": artifact}, tmp_path / "named")
    assert found(tmp_path / "named") == wanted


def test_the_ranking_is_cut_by_bytes_and_the_rest_may_go(tmp_path: Path) -> None:
    artifact, _ = corpus(tmp_path)
    settings = config(tmp_path, max_bytes=5000, max_rounds=1, keep_others=False)
    metrics = recall(settings, {"dedup": artifact}, tmp_path / "out")
    (told,) = json.loads((tmp_path / "out" / "recall.json").read_text())["maths"]
    assert 4000 < told["bytes"] <= 5000
    assert told["threshold"] > 0.5
    assert {name[0] for name in found(tmp_path / "out")} == {"m"}
    assert metrics.dropped == {"not_recalled": count_documents(artifact) - 1 - told["pages"]}
    rejected = list(read_documents(tmp_path / "out", "rejects"))
    assert {document.metadata["rule"] for document in rejected} == {"not_recalled"}


@pytest.mark.parametrize(
    ("line", "problem"), [("{}", "record 1: not a JSON object"), ("no JSON", "record 1"), ('{"text": 3}', "record 1")]
)
def test_a_bad_seed_is_named(tmp_path: Path, line: str, problem: str) -> None:
    artifact, _ = corpus(tmp_path)
    settings = config(tmp_path)
    (tmp_path / "seeds.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=rf"seeds\.jsonl: {problem}"):
        recall(settings, {"dedup": artifact}, tmp_path / "out")


def test_a_field_without_examples_is_told(tmp_path: Path) -> None:
    artifact, _ = corpus(tmp_path)
    settings = config(tmp_path, domain={"seeds": [], "seed_sources": ["openwebmath"]})
    with pytest.raises(UserError, match=r"recall\.domains\.maths has no examples of the field"):
        recall(settings, {"dedup": artifact}, tmp_path / "out")
    with pytest.raises(UserError, match=r"recall\.domains\.maths has no examples of anything else"):
        recall(config(tmp_path, candidates=["crawl"]), {"dedup": artifact}, tmp_path / "other")
    with pytest.raises(ValueError, match="a domain wants examples to start from"):
        config(tmp_path, domain={"seeds": []})
