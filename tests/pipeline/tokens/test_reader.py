from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import UserError
from pipeline.sections import ShardsConfig
from pipeline.tokens.reader import MIXTURE_PERIOD, ShardReader, permute
from pipeline.tokens.shards import shards
from tests.examples import examples
from tests.pipeline.corpus import only, words, write_documents
from tests.pipeline.tokens.test_tokenizer import small_tokenizer

LENGTH = 32


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources of different sizes, in several files."""
    root = tmp_path_factory.mktemp("reader")
    sizes = {"web": 30, "wiki": 9, "book": 3}
    rows = [(f"{s}-{i}", s, words(100 * k + i, 40 + 7 * i)) for k, (s, n) in enumerate(sizes.items()) for i in range(n)]
    inputs = {"decontaminate": write_documents(root / "documents", rows[::2], rows[1::2])}
    inputs["tokenizer"] = small_tokenizer(root / "tokenizer")
    (root / "shards").mkdir()
    shards(ShardsConfig(sequence_length=LENGTH, rows_per_file=70, validation_fraction=0.1), inputs, root / "shards")
    return root / "shards"


@given(st.integers(1, 3000), st.integers(0, 5))
@settings(max_examples=examples(60), deadline=None)
def test_permute_is_a_permutation(size: int, key: int) -> None:
    image = permute(np.arange(size), size, key)
    assert sorted(image) == list(range(size))
    assert permute(np.asarray([size - 1]), size, key)[0] == image[-1]
    assert permute(image, size, key, inverse=True).tolist() == list(range(size))


def test_permute_depends_on_its_key_and_shuffles() -> None:
    a, b = permute(np.arange(1000), 1000, 1), permute(np.arange(1000), 1000, 2)
    assert (a != b).mean() > 0.99
    assert abs(np.corrcoef(a, np.arange(1000))[0, 1]) < 0.1


@given(
    batch=st.sampled_from([1, 4, 6, 12]),
    seed=st.integers(0, 3),
    step=st.integers(0, 500),
    mixed=st.booleans(),
)
@settings(max_examples=examples(40), deadline=None)
def test_ranks_share_out_the_global_batch(artifact: Path, batch: int, seed: int, step: int, mixed: bool) -> None:
    mixture = {"web": 0.5, "book": 0.5} if mixed else None
    reader = ShardReader(artifact, "train", global_batch=batch, seed=seed, mixture=mixture, verify=False)
    whole = reader.batch(step)
    assert whole.tokens.shape == whole.documents.shape == (batch, LENGTH)
    assert whole.rows == reader.step_rows(step)
    for world in (w for w in (2, 3, 4) if batch % w == 0):
        for rank in range(world):
            part = reader.batch(step, rank, world)
            assert part.rows == whole.rows[rank::world]
            assert part.tokens.equal(whole.tokens[rank::world])
            assert part.documents.equal(whole.documents[rank::world])


@pytest.mark.parametrize("epoch", [0, 1, 5])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_every_row_once_per_epoch(artifact: Path, batch: int, epoch: int) -> None:
    reader = ShardReader(artifact, "train", global_batch=batch, seed=3)
    first, last = epoch * reader.rows, (epoch + 1) * reader.rows
    rows = [row for step in range(first // batch, -(-last // batch)) for row in reader.step_rows(step)]
    begin = first - first // batch * batch
    assert sorted(rows[begin : begin + reader.rows]) == list(range(reader.rows))


def test_epochs_and_seeds_differ(artifact: Path) -> None:
    reader = ShardReader(artifact, "train", global_batch=1)
    other = ShardReader(artifact, "train", global_batch=1, seed=1)
    first = [only(reader.step_rows(step)) for step in range(reader.rows)]
    assert first != [only(reader.step_rows(step + reader.rows)) for step in range(reader.rows)]
    assert first != [only(other.step_rows(step)) for step in range(reader.rows)]


def test_mixture_is_exact_in_each_period_and_each_source_keeps_its_epochs(artifact: Path) -> None:
    reader = ShardReader(artifact, "train", global_batch=MIXTURE_PERIOD // 4, mixture={"wiki": 3, "book": 1})
    ranges = {name: range(begin, begin + count) for name, (begin, count) in reader._source_rows.items()}
    rows = [row for step in range(8) for row in reader.step_rows(step)]
    for period in (rows[:MIXTURE_PERIOD], rows[MIXTURE_PERIOD:]):
        counts = Counter(name for row in period for name, those in ranges.items() if row in those)
        assert counts == {"wiki": MIXTURE_PERIOD * 3 // 4, "book": MIXTURE_PERIOD // 4}
    for name in ("wiki", "book"):
        mine = [row for row in rows if row in ranges[name]]
        size = len(ranges[name])
        for epoch in range(len(mine) // size):
            assert sorted(mine[epoch * size : (epoch + 1) * size]) == list(ranges[name])


@given(
    batch=st.sampled_from([1, 5, 12]), seed=st.integers(0, 3), steps=st.integers(0, 150), mixed=st.booleans(),
    data=st.data(),
)  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_the_steps_of_a_row_are_those_that_read_it(
    artifact: Path, batch: int, seed: int, steps: int, mixed: bool, data: st.DataObject
) -> None:
    mixture = {"web": 0.7, "book": 0.3} if mixed else None
    reader = ShardReader(artifact, "train", global_batch=batch, seed=seed, mixture=mixture)
    read: dict[int, set[int]] = {}
    for step in range(steps):
        for row in reader.step_rows(step):
            read.setdefault(row, set()).add(step)
    rows = data.draw(st.lists(st.integers(0, reader.rows - 1), min_size=1, max_size=20))
    for row in [*rows, *list(read)[:5]]:
        assert reader.steps_of(row, steps) == sorted(read.get(row, ()))


def test_resume_is_one_integer(artifact: Path) -> None:
    reader = ShardReader(artifact, "train", global_batch=4)
    batches = [reader.batch(step) for step in range(9)]
    resumed = ShardReader(artifact, "train", global_batch=4)
    for step, batch in enumerate(batches[5:], 5):
        again = resumed.batch(step)
        assert again.rows == batch.rows
        assert again.tokens.equal(batch.tokens)


def test_trace_names_the_documents_whose_tokens_are_in_the_batch(artifact: Path) -> None:
    from tokenizers import Tokenizer

    reader = ShardReader(artifact, "train", global_batch=3)
    eos = reader.card.eos
    texts = {d.id: d.text for d in _documents(artifact)}
    tokenizer = Tokenizer.from_file(str(artifact.parent / "tokenizer" / "tokenizer.json"))
    for step in range(20):
        batch = reader.batch(step)
        named = reader.documents(step)
        for place, row in enumerate(batch.rows):
            here = [entry for entry in named if entry["row"] == row]
            assert len(here) == int(batch.documents[place].max()) + 1
            for number, entry in enumerate(here):
                ids = batch.tokens[place][batch.documents[place] == number].tolist()
                text = tokenizer.decode([i for i in ids if i != eos])
                assert text in texts[entry["id"]]
                assert entry["url"] == f"http://h/{entry['id']}"
                assert entry["id"].startswith(entry["source"])


def _documents(artifact: Path):  # type: ignore[no-untyped-def]
    from pipeline.tasks.documents import read_documents

    return read_documents(artifact.parent / "documents")


def test_damage_is_found_when_it_is_read(artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "shards"
    shutil.copytree(artifact, copy)
    file = copy / "train" / "web-00000.parquet"
    content = bytearray(file.read_bytes())
    row, width = 5, 2 * LENGTH
    begin = json.loads((copy / "shards.json").read_text())["splits"]["train"]["web"]["files"][0]["tokens_at"][0]
    content[begin + row * width + 3] ^= 1
    file.write_bytes(content)
    reader = ShardReader(copy, "train", global_batch=1)
    number = reader._source_rows["web"][0] + row
    for step in range(len(reader)):
        if reader.step_rows(step) == [number]:
            with pytest.raises(UserError, match=r"web-00000\.parquet: damaged \(row 5 "):
                reader.batch(step)
        else:
            reader.batch(step)
    file.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"web-00000\.parquet: damaged"):
        ShardReader(copy, "train", global_batch=1)
    ShardReader(copy, "validation", global_batch=1)
    file.unlink()
    with pytest.raises(UserError, match="missing"):
        ShardReader(copy, "train", global_batch=1)


def test_a_batch_that_does_not_divide_among_the_ranks(artifact: Path) -> None:
    with pytest.raises(ValueError, match="among 3 ranks"):
        ShardReader(artifact, "train", global_batch=4).batch(0, 0, 3)


def test_an_address_reads_as_a_folder_does(artifact: Path) -> None:
    local, remote = (ShardReader(place, "train", global_batch=6) for place in (artifact, f"file://{artifact}"))
    for step in (0, 7, 1000):
        assert remote.batch(step).tokens.equal(local.batch(step).tokens)
        assert remote.documents(step) == local.documents(step)


def test_documents_of_a_batch_are_those_of_the_files(artifact: Path) -> None:
    """The reader finds documents by their end; the files say where each begins."""
    reader = ShardReader(artifact, "train", global_batch=1)
    files = [file for _, entry in sorted(reader.card.splits["train"].items()) for file in entry.files]
    offsets = [row for file in files for row in pq.read_table(artifact / file.name)["offsets"].to_pylist()]
    for step in range(len(reader)):
        batch = reader.batch(step)
        marks = np.zeros(LENGTH, dtype=np.int64)
        marks[offsets[batch.rows[0]][1:]] = 1
        assert batch.documents[0].tolist() == np.cumsum(marks).tolist()


def test_arguments_that_do_not_fit_are_refused(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no split 'test'"):
        ShardReader(artifact, "test", global_batch=2)
    with pytest.raises(ValueError, match="names math"):
        ShardReader(artifact, "train", global_batch=2, mixture={"math": 1, "web": 1})
    with pytest.raises(ValueError, match="would never be read"):
        ShardReader(artifact, "train", global_batch=2, mixture={"wiki": 1e-6, "web": 1})
    with pytest.raises(ValueError, match="among 3 ranks"):
        ShardReader(artifact, "train", global_batch=4).batch(0, 0, 3)
    with pytest.raises(UserError, match="not a shards artifact"):
        ShardReader(tmp_path, "train", global_batch=1)


def test_card_agrees_with_the_files(artifact: Path) -> None:
    card = json.loads((artifact / "shards.json").read_text())
    for split, sources in card["splits"].items():
        for source, entry in sources.items():
            tables = [pq.read_table(artifact / file["name"]) for file in entry["files"]]
            assert sum(len(table) for table in tables) == entry["rows"]
            assert {value for table in tables for value in table["source"].to_pylist()} <= {source}
            assert ShardReader(artifact, split, global_batch=1).source_rows[source] == entry["rows"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 1}, "format 1, 2 is wanted"),
        ({"eos": "none"}, r"damaged \(eos: "),
        ({"splits": {"train": {"web": {"files": []}}}}, r"damaged \(splits.train.web.documents: "),
    ],
)
def test_a_damaged_card_is_named(artifact: Path, tmp_path: Path, change: dict[str, object], says: str) -> None:
    card = json.loads((artifact / "shards.json").read_text()) | change
    (tmp_path / "shards.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=f"shards.json: {says}"):
        ShardReader(tmp_path, "train", global_batch=1)
