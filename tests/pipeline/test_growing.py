"""A corpus that grows by a file a night: parts of the nights before are taken, the bytes are those of one run."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra import kept_parts
from infra.kept_parts import KeptParts, PartsPlace
from pipeline import extract as extraction
from pipeline.clean.section import CleanConfig
from pipeline.clean.stage import clean
from pipeline.dedup.decontaminate import decontaminate
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.stage import dedup
from pipeline.extract import extract
from pipeline.sections import DecontaminateConfig, ExtractConfig, ShardsConfig, TokenizerConfig
from pipeline.tokens import shards as packing
from pipeline.tokens.names import DocumentNames
from pipeline.tokens.reader import ShardReader
from pipeline.tokens.shards import shards
from pipeline.tokens.tokenizer import tokenizer
from tests.pipeline.corpus import published, set_workers, words, write_reasoning

NIGHTS = 10
NO_RULES = dict.fromkeys(
    ("url", "language", "gopher_repetition", "gopher_quality", "c4_quality", "fineweb_quality", "pii"), False
)
Stages = Mapping[str, Callable[[Mapping[str, Path], Path], object]]


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A task per file, as of files of megabytes, one after the other."""
    set_workers(monkeypatch, 1)
    monkeypatch.setattr(extraction, "TASK_BYTES", 1)
    yield
    kept_parts.use(None)


@pytest.fixture
def made_anew(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Tasks that were run while parts were kept, by pipeline."""
    found: Counter[str] = Counter()
    keep, one_at_a_time = KeptParts.keep, threading.Lock()

    def count(parts: KeptParts, follows_from: Any, files: Mapping[str, Path]) -> None:
        with one_at_a_time:
            found[follows_from[0]] += 1
        keep(parts, follows_from, files)

    monkeypatch.setattr(KeptParts, "keep", count)
    return found


def _night(folder: Path, number: int) -> None:
    """Two files: texts of the night's own, copies of earlier nights', and one that joins two earlier ones."""
    own = [words(100 * number + text, 90) for text in range(4)]
    before = [words(100 * (number // 2) + text, 90) for text in range(2)]
    near = [text.replace(text.split()[40], "changed", 1) for text in before]
    bridge = [" ".join((words(100 * (number - 1), 90), words(100 * (number - 1) + 1, 90)))] if number else []
    texts = {"web": [*own, *before, *bridge], "books": [words(100 * number + 50, 90), *near, own[0]]}
    for source, rows in texts.items():
        path = folder / source / f"night-{number:02d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"text": text, "url": f"http://h/{number}"}) + "\n" for text in rows))


def _stages(raw: Path, fixed: Path, *, mixed_within: str = "source", **dedup_keys: Any) -> Stages:
    sources = {name: {"kind": "jsonl", "paths": [str(raw / name)], "profile": "web"} for name in ("books", "web")}
    config = ExtractConfig.model_validate({"sources": sources})
    cleaning = CleanConfig.model_validate({"rules": NO_RULES, "rules_by_source": {}})
    reasoning = {"reasoning": fixed / "reasoning"}
    loose = {"max_loss": 1.0}
    rows = ShardsConfig.model_validate(
        {"sequence_length": 64, "validation_fraction": 0.1, "rows_per_file": 10, "mixed_within": mixed_within}
    )
    return {
        "extract": lambda _, out: extract(config, {}, out),
        "clean": lambda made, out: clean(cleaning, made, out),
        "dedup": lambda made, out: dedup(DedupConfig.model_validate(loose | dedup_keys), made, out),
        "decontaminate": lambda made, out: decontaminate(DecontaminateConfig(), {**made, **reasoning}, out),
        "shards": lambda made, out: shards(rows, {**made, "tokenizer": fixed / "tokenizer"}, out),
    }


def _run(stages: Stages, out: Path, keep: Path | None) -> dict[str, tuple[object, dict[str, bytes]]]:
    """Metrics and files of every stage; parts are kept below `keep`."""
    made: dict[str, Path] = {}
    for name, stage in stages.items():
        kept_parts.use(PartsPlace(folder=str(keep / name), made_by="this code") if keep else None)
        made[name] = out / name
        made[name].mkdir(parents=True)
        made[f"{name} metrics"] = stage(made, made[name])  # type: ignore[assignment]
    kept_parts.use(None)
    return {name: (made[f"{name} metrics"], published(made[name])) for name in stages}


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions to keep out, and the tokenizer that all nights have."""
    folder = tmp_path_factory.mktemp("fixed")
    questions = [words(number, 20) for number in (900, 901)]
    write_reasoning(folder / "reasoning", train=[words(903, 20)], validation=questions[:1], test=questions[1:])
    for number in range(2):
        _night(folder / "raw", number)
    with pytest.MonkeyPatch.context() as patch:
        set_workers(patch, 1)
        stages = _stages(folder / "raw", folder)
        made: dict[str, Path] = {"reasoning": folder / "reasoning"}
        for name in ("extract", "clean", "dedup", "decontaminate"):
            made[name] = folder / "made" / name
            made[name].mkdir(parents=True)
            stages[name](made, made[name])
        (folder / "tokenizer").mkdir()
        tokenizer(TokenizerConfig(vocabulary=400, train_bytes=100_000), made, folder / "tokenizer")
    return folder


@pytest.mark.parametrize("keys", [{"mixed_within": "file", "precedence": ["web"]}, {"sentences": True}])
def test_ten_nights_are_one_run(tmp_path: Path, fixed: Path, made_anew: Counter[str], keys: dict[str, Any]) -> None:
    nights = NIGHTS if "mixed_within" in keys else 3
    stages = _stages(tmp_path / "raw", fixed, **keys)
    for night in range(nights):
        _night(tmp_path / "raw", night)
        made_anew.clear()
        grown = _run(stages, tmp_path / f"grown-{night}", tmp_path / "parts")
        assert {made_anew[name] for name in ("extract", "clean", "signing")} == {2}  # the night's two files
    assert made_anew["decontaminate"] == made_anew["filtering"] < 2 * nights
    assert grown == _run(stages, tmp_path / "at-once", None)


@pytest.mark.parametrize("keep", [False, True])
def test_a_stage_killed_at_its_very_end_runs_again(tmp_path: Path, fixed: Path, keep: bool) -> None:
    """When all tasks have their marks, and the artifact is not published yet."""
    stages = _stages(tmp_path / "raw", fixed, sentences=True)
    _night(tmp_path / "raw", 1)
    first = _run(stages, tmp_path / "out", tmp_path / "parts" if keep else None)
    made = {name: tmp_path / "out" / name for name in stages}
    for name, stage in stages.items():
        kept_parts.use(PartsPlace(folder=str(tmp_path / "parts" / name), made_by="this code") if keep else None)
        assert (stage(made, made[name]), published(made[name])) == first[name]


def test_rows_are_added_behind_rows(tmp_path: Path, fixed: Path, made_anew: Counter[str], monkeypatch: Any) -> None:
    """Mixed by file, of many documents: what is held out is a matter of each text, and no file but the last changes."""
    monkeypatch.setattr(packing, "FEW", 0)
    stages = _stages(tmp_path / "raw", fixed, mixed_within="file")
    folder = tmp_path / "raw" / "web"
    (tmp_path / "raw" / "books").mkdir(parents=True)
    (tmp_path / "raw" / "books" / "all.jsonl").write_text(json.dumps({"text": words(7, 700)}) + "\n")
    before: dict[str, bytes] = {}
    for night in range(4):
        folder.mkdir(exist_ok=True)
        rows = [{"text": words(1000 * night + text, 90)} for text in range(12)]
        # a night in the middle brings a file of another source, which comes first by its name
        (folder / f"night-{night}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if night == 2:
            (tmp_path / "raw" / "books" / "more.jsonl").write_text(json.dumps({"text": words(8, 700)}) + "\n")
        made_anew.clear()
        _, files = _run(stages, tmp_path / f"made-{night}", tmp_path / "parts")["shards"]
        filled = [name for name in before if name.startswith("train/web") and name != max(before)]
        assert night == 0 or len(filled) > 1
        assert all(files[name] == before[name] for name in filled)
        before = {name: body for name, body in files.items() if name.startswith("train/web")}
    assert (
        made_anew["packing"] < len(before) / 2
    )  # the night's, the last file of the night before, and what is held out
    reader = ShardReader(tmp_path / "made-3" / "shards", "train", global_batch=4)
    named = {each["id"]: each["source"] for step in range(len(reader)) for each in reader.documents(step)}
    assert {source: sum(each == source for each in named.values()) for source in ("books", "web")}["books"] == 2
    assert all(name.startswith(source) for name, source in named.items())
    some = next(name for name in named if "night-1" in name)
    (index,) = DocumentNames(reader.folder, reader.card.documents.files).find(some)
    assert reader.rows_of(index)
