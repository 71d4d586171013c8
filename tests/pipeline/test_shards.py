from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from pipeline.sections import ShardsConfig
from pipeline.shards import shards, token_dtype
from tests.pipeline.corpus import published, set_workers, words, write_documents
from tests.pipeline.test_tokenizer import small_tokenizer

CONFIG = ShardsConfig(sequence_length=16, validation_fraction=0.2, rows_per_file=100)
ROWS = [(f"d{i}", "web" if i % 3 else "wiki", words(i, 5 + 11 * (i % 9))) for i in range(60)]


def _run(root: Path, config: ShardsConfig = CONFIG, files: int = 3, rows: list[tuple[str, str, str]] = ROWS) -> Path:
    inputs = {
        "decontaminate": write_documents(root / "documents", *(rows[i::files] for i in range(files))),
        "tokenizer": small_tokenizer(root / "tokenizer"),
    }
    (root / "shards").mkdir()
    shards(config, inputs, root / "shards")
    return root / "shards"


def _streams(folder: Path) -> dict[tuple[str, str], list[int]]:
    """All tokens of each split and source, in order."""
    card = json.loads((folder / "shards.json").read_text())
    streams = {}
    for split, sources in card["splits"].items():
        for source, entry in sources.items():
            cells = [
                cell for file in entry["files"] for cell in pq.read_table(folder / file["name"])["tokens"].to_pylist()
            ]
            streams[split, source] = np.frombuffer(b"".join(cells), dtype=card["dtype"]).tolist()
    return streams


def test_rows_hold_each_document_once_and_its_end(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = _run(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json"))
    eos = tokenizer.token_to_id("<|eos|>")
    texts = {name: (source, text) for name, source, text in ROWS}
    index = pq.read_table(folder / "documents.parquet").to_pylist()
    expected = {row["id"]: [*tokenizer.encode(texts[row["id"]][1]).ids, eos] for row in index}
    assert len(index) == len(ROWS)
    assert {row["id"]: row["tokens"] for row in index} == {name: len(ids) for name, ids in expected.items()}
    card = json.loads((folder / "shards.json").read_text())
    for (split, source), stream in _streams(folder).items():
        entry = card["splits"][split][source]
        tables = [pq.read_table(folder / file["name"]).to_pylist() for file in entry["files"]]
        assert all(len(table) <= CONFIG.rows_per_file for table in tables)
        found: dict[int, list[int]] = {}
        for number, row in enumerate(row for table in tables for row in table):
            cells = stream[number * 16 : (number + 1) * 16]
            ends = [*row["offsets"][1:], 16]
            assert row["offsets"][0] == 0
            for document, begin, end in zip(row["documents"], row["offsets"], ends, strict=True):
                found.setdefault(document, []).extend(cells[begin:end])
        here = [row for row in index if (row["split"], row["source"]) == (split, source)]
        wanted = {row["index"]: expected[row["id"]] for row in here}
        missing = 0
        for document, ids in wanted.items():
            got = found.pop(document, [])
            assert ids[: len(got)] == got
            missing += len(ids) - len(got)
        assert not found
        assert missing == entry["tokens_dropped"] < 16


def test_held_out_documents_are_a_share_that_the_text_decides(tmp_path: Path) -> None:
    def held_out(folder: Path) -> set[str]:
        table = pq.read_table(folder / "documents.parquet").to_pylist()
        return {row["id"] for row in table if row["split"] == "validation"}

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = held_out(_run(tmp_path / "a"))
    assert 3 <= len(first) <= 24
    renamed = [(f"other-{name}", source, text) for name, source, text in ROWS]
    assert held_out(_run(tmp_path / "b", rows=renamed, files=1)) == {f"other-{name}" for name in first}


def test_order_depends_on_the_seed_and_on_no_file_order(tmp_path: Path) -> None:
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    variants = {"a": (CONFIG, ROWS), "b": (CONFIG, shuffled), "c": (CONFIG.model_copy(update={"seed": 2}), ROWS)}
    streams = {}
    for name, (config, rows) in variants.items():
        (tmp_path / name).mkdir()
        streams[name] = _streams(_run(tmp_path / name, config, files=2, rows=rows))
    assert streams["a"] == streams["b"]
    assert streams["a"] != streams["c"]


def test_same_bytes_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for workers in (1, 2):
        set_workers(monkeypatch, workers)
        (tmp_path / str(workers)).mkdir()
        results.append(published(_run(tmp_path / str(workers))))
    assert results[0] == results[1]
    assert "shards.json" in results[0]


def test_control_tokens_in_text_stay_text(tmp_path: Path) -> None:
    rows = [*ROWS, ("trick", "web", "before <|eos|> and <|user|> after " * 9)]
    folder = _run(tmp_path, rows=rows)
    index = pq.read_table(folder / "documents.parquet").to_pylist()
    ends = sum(stream.count(1) for stream in _streams(folder).values())
    assert ends <= len(index)
    assert not any(3 in stream for stream in _streams(folder).values())


def test_other_readers_open_the_files(tmp_path: Path) -> None:
    import pyarrow.dataset as ds

    folder = _run(tmp_path)
    table = ds.dataset(folder / "train", format="parquet").to_table()
    assert table.schema.field("tokens").type.byte_width == 16 * 2
    assert set(table.column_names) == {"tokens", "documents", "offsets", "source"}


def test_dtype_follows_the_vocabulary() -> None:
    assert token_dtype(65_536) == np.dtype("<u2")
    assert token_dtype(65_537) == np.dtype("<u4")


def test_too_little_text_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not fill one row"):
        _run(tmp_path, rows=[("a", "web", "few words")], files=1)


def test_no_text_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documents"):
        _run(tmp_path, rows=[], files=1)
