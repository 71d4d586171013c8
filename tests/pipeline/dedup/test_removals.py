"""Removals decided by tasks against those decided by one process: the same rows in the same files."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.execution import ENVIRONMENT_KEY, Execution
from pipeline.dedup.clusters import KEYS
from pipeline.dedup.removals import write_removals
from pipeline.dedup.rounds import Limits
from pipeline.dedup.section import DedupConfig

FILES, MOST = 5, 40


def _made(work: Path, seed: int) -> None:
    """Keys and pairs at random: many copies, a text that half of all documents have, and a file without any."""
    source = random.Random(seed)
    (work / "keys").mkdir(parents=True)
    (work / "pairs").mkdir()
    counts = [0 if number == 2 else source.randint(1, MOST) for number in range(FILES)]
    for number, count in enumerate(counts):
        words = [source.choice([0, source.randint(0, 60)]) for _ in range(count)]
        characters = [4 * word + source.randint(0, 2) for word in words]
        columns = [
            [f"{source.choice('ab')}é{source.randint(0, 9)}" for _ in range(count)],
            [source.choice(["web", "wiki", "book"]) for _ in range(count)],
            [source.randint(0, 2) for _ in range(count)],
            *([value.to_bytes(2, "big") + bytes(14) for value in values] for values in (characters, words)),
        ]
        pq.write_table(pa.table(columns, schema=KEYS), work / "keys" / f"{number:05d}.parquet")
    full = [number for number, count in enumerate(counts) if count]
    for band in range(3):
        pairs = [
            [value for number in source.sample(full, 2) for value in (number, source.randrange(counts[number]))]
            for _ in range(30 * (band > 0))
        ]
        np.array(pairs, dtype="<u4").tofile(work / "pairs" / f"{band:05d}_00.dups")


def _read(work: Path) -> list[pa.Table]:
    files = sorted((work / "removals").glob("*.parquet"))
    assert len(files) == FILES
    return [pq.read_table(file) for file in files]


def _bytes(work: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((work / "removals").glob("*.parquet"))]


@pytest.mark.parametrize(
    ("seed", "keys"), [(0, {}), (1, {"exact": False}), (2, {"folded": False}), (3, {"minhash": False})]
)
def test_tasks_decide_as_one_process_does(
    keys: dict[str, bool], seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, Execution(workers=1).model_dump_json())
    config = DedupConfig(**keys)
    found = []
    for name, limits in (("here", Limits()), ("tasks", Limits(block=6, task=20, here=0))):
        _made(tmp_path / name, seed)
        write_removals(config, tmp_path / name, limits)
        found.append(_read(tmp_path / name))
    assert found[0] == found[1]
    assert _bytes(tmp_path / "here") == _bytes(tmp_path / "tasks"), "what is kept by them is found again"
    assert sum(table.num_rows for table in found[0]) > 5
    assert list((tmp_path / "tasks" / "joining").glob("*/*.arrow")) != [], "the labels are left for whoever resumes"


def test_processes_of_their_own_decide_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for workers, limits in ((1, Limits()), (2, Limits(block=50, task=100, here=0))):
        monkeypatch.setenv(ENVIRONMENT_KEY, Execution(workers=workers).model_dump_json())
        _made(tmp_path / str(workers), 7)
        write_removals(DedupConfig(exact=False, folded=False), tmp_path / str(workers), limits)
        found.append(_read(tmp_path / str(workers)))
    assert found[0] == found[1]
