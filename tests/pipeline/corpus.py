"""Tiny artifacts for the corpus tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.execution import ENVIRONMENT_KEY
from pipeline.tasks.documents import SCHEMA

Row = tuple[str, str, str]
"""id, source, text"""


def write_documents(artifact: Path, *files: Iterable[Row], profile: str | Callable[[str], str] | None = None) -> Path:
    """An artifact whose files hold the given rows; the profile is one for all, or goes by the source."""

    def said(source: str) -> str:
        return json.dumps({"profile": profile(source) if callable(profile) else profile} if profile else {})

    (artifact / "documents").mkdir(parents=True)
    for number, rows in enumerate(files):
        table = pa.Table.from_pylist(
            [
                {"id": name, "text": text, "source": source, "url": f"http://h/{name}", "metadata": said(source)}
                for name, source, text in rows
            ],
            SCHEMA,
        )
        pq.write_table(table, artifact / "documents" / f"{number:05d}.parquet")
    return artifact


def write_reasoning(folder: Path, **splits: list[str]) -> Path:
    """A `reasoning` artifact with the given questions."""
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        rows = [{"question": text, "reasoning": "since 1 + 1 = 2", "answer": "2"} for text in splits.get(split, [])]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def set_workers(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """Let the stages run this wide."""
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"workers": workers}))


def published(folder: Path) -> dict[str, bytes]:
    """The bytes of every file that the store would publish."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and ".work" not in file.parts
    }


def words(seed: int, count: int) -> str:
    """Reproducible text of `count` words that no other seed shares."""
    import random

    source = random.Random(seed)
    vocabulary = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 9))) for _ in range(200)]
    return " ".join(source.choices(vocabulary, k=count))


def only(values: Iterable[Any]) -> Any:
    """The single element of `values`."""
    (value,) = values
    return value
