"""A corpus that grows by a file a night: parts of the nights before are taken, the bytes are those of one run."""

from __future__ import annotations

import json
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
    keep = KeptParts.keep

    def count(parts: KeptParts, follows_from: Any, files: Mapping[str, Path]) -> None:
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


def _stages(raw: Path, fixed: Path, **dedup_keys: Any) -> Stages:
    sources = {name: {"kind": "jsonl", "paths": [str(raw / name)], "profile": "web"} for name in ("books", "web")}
    config = ExtractConfig.model_validate({"sources": sources})
    cleaning = CleanConfig.model_validate({"rules": NO_RULES, "rules_by_source": {}})
    reasoning = {"reasoning": fixed / "reasoning"}
    loose = {"max_loss": 1.0}
    return {
        "extract": lambda _, out: extract(config, {}, out),
        "clean": lambda made, out: clean(cleaning, made, out),
        "dedup": lambda made, out: dedup(DedupConfig.model_validate(loose | dedup_keys), made, out),
        "decontaminate": lambda made, out: decontaminate(DecontaminateConfig(), {**made, **reasoning}, out),
        "shards": lambda made, out: shards(
            ShardsConfig(sequence_length=64, validation_fraction=0.1), {**made, "tokenizer": fixed / "tokenizer"}, out
        ),
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


@pytest.mark.parametrize("keys", [{}, {"sentences": True}, {"precedence": ["web"]}])
def test_ten_nights_are_one_run(tmp_path: Path, fixed: Path, made_anew: Counter[str], keys: dict[str, Any]) -> None:
    nights = NIGHTS if not keys else 3
    stages = _stages(tmp_path / "raw", fixed, **keys)
    for night in range(nights):
        _night(tmp_path / "raw", night)
        made_anew.clear()
        grown = _run(stages, tmp_path / f"grown-{night}", tmp_path / "parts")
        assert {made_anew[name] for name in ("extract", "clean", "signing")} == {2}  # the night's two files
    assert made_anew["decontaminate"] == made_anew["filtering"] < 2 * nights
    assert grown == _run(stages, tmp_path / "at-once", None)
