"""The reader over a real S3 server: the batches of the folder, at the cost of the rows that are asked for."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import UserError
from pipeline.sections import ShardsConfig
from pipeline.tokens.reader import ShardReader
from pipeline.tokens.shards import shards
from tests.infra.s3_requests import Requests, on_server
from tests.pipeline.corpus import only, words, write_documents
from tests.pipeline.tokens.test_tokenizer import small_tokenizer

LENGTH = 128
BATCH = 4
BUCKET = "s3://test/shards"

pytestmark = pytest.mark.drill


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    rows = [(f"d{i}", "web" if i % 3 else "wiki", words(i, 400)) for i in range(400)]
    inputs = {
        "decontaminate": write_documents(root / "documents", rows),
        "tokenizer": small_tokenizer(root / "tokenizer"),
    }
    (root / "out").mkdir()
    shards(ShardsConfig(sequence_length=LENGTH, rows_per_file=1000, validation_fraction=0), inputs, root / "out")
    return root / "out"


@pytest.fixture(scope="module")
def remote(folder: Path, s3: dict[str, str]) -> Iterator[Any]:
    """A file system with the artifact at `BUCKET`."""
    with on_server(s3) as system:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and ".work" not in file.parts:
                system.put_file(str(file), f"{BUCKET}/{file.relative_to(folder)}")
        yield system


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=st.integers(0, 10**9), mixed=st.booleans(), world=st.sampled_from([1, 2, 4]))
def test_batches_are_those_of_the_folder(folder: Path, remote: Any, step: int, mixed: bool, world: int) -> None:
    mixture = {"web": 1.0, "wiki": 3.0} if mixed else None
    there, here = (
        ShardReader(place, "train", global_batch=BATCH, seed=3, mixture=mixture) for place in (BUCKET, folder)
    )
    for rank in range(world):
        wanted, found = here.batch(step, rank, world), there.batch(step, rank, world)
        assert found.rows == wanted.rows
        assert found.tokens.equal(wanted.tokens)
        assert found.documents.equal(wanted.documents)


def test_a_resume_asks_for_the_card_and_its_rows_and_nothing_else(
    folder: Path, remote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it resumes: two ranges for a row, its tokens and its checksum."""
    whole = sum(file["bytes"] for entry in _card(folder)["splits"]["train"].values() for file in entry["files"])
    costs = []
    for step in (0, 17, 10**9):
        with monkeypatch.context() as patch:
            requests = Requests(patch)
            remote.invalidate_cache()
            reader = ShardReader(BUCKET, "train", global_batch=BATCH)
            reader.batch(step)
        rows = [size or 0 for name, size in requests.seen if name.endswith(".parquet")]
        costs.append((len(requests.seen), rows))
        assert sorted(rows) == [8] * BATCH + [2 * LENGTH] * BATCH
        assert sum(rows) < whole / 100
        assert {name for name, _ in requests.seen if not name.endswith(".parquet")} == {"shards/shards.json"}
    assert costs[0] == costs[1] == costs[2]


def test_damage_is_found_in_the_row_that_has_it(folder: Path, remote: Any) -> None:
    name = "train/wiki-00000.parquet"
    content = bytearray((folder / name).read_bytes())
    entry = _card(folder)["splits"]["train"]["wiki"]["files"][0]
    content[entry["tokens_at"][0] + 5 * 2 * LENGTH + 1] ^= 1
    copy = f"{BUCKET}-damaged"
    remote.copy(BUCKET, copy, recursive=True)
    remote.pipe_file(f"{copy}/{name}", bytes(content))
    remote.invalidate_cache()
    reader = ShardReader(copy, "train", global_batch=1)
    number = reader._source_rows["wiki"][0] + 5
    places = {only(reader.step_rows(step)): step for step in range(len(reader))}
    with pytest.raises(UserError, match=r"wiki-00000\.parquet: damaged \(row 5 does not have its checksum\)"):
        reader.batch(places[number])
    for row in random.Random(1).sample(sorted(places.keys() - {number}), 5):
        reader.batch(places[row])
    remote.rm_file(f"{copy}/{name}")
    remote.invalidate_cache()
    with pytest.raises(UserError, match="missing; make the shards again"):
        ShardReader(copy, "train", global_batch=1).batch(places[number])


def test_documents_of_a_step_are_found_there_too(folder: Path, remote: Any) -> None:
    there, here = (ShardReader(place, "train", global_batch=BATCH) for place in (BUCKET, folder))
    assert there.documents(11) == here.documents(11)


def _card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / "shards.json").read_text())
    return card
