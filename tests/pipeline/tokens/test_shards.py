from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import UserError
from pipeline.sections import ShardsConfig, TokenizerConfig
from pipeline.tasks.rules import REJECTS
from pipeline.tokens import stream as stream_module
from pipeline.tokens.encoder import Encoder
from pipeline.tokens.rows import checksum
from pipeline.tokens.shards import shards
from pipeline.tokens.stream import TokenStream
from pipeline.tokens.tokenise import keys, token_dtype
from pipeline.tokens.tokenizer import FIM_TOKENS, train_tokenizer
from tests.pipeline.corpus import published, set_workers, words, write_documents
from tests.pipeline.tokens.test_tokenizer import small_tokenizer

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


def _index(folder: Path) -> list[dict]:  # type: ignore[type-arg]
    """The documents, by their index."""
    rows = [row for file in sorted((folder / "index").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    return [{"index": number, **row} for number, row in enumerate(rows)]


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


def test_characters_are_those_of_the_rows(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    inputs = {
        "decontaminate": write_documents(tmp_path / "documents", ROWS[:40], [*ROWS[40:], ("few", "poem", "a word")]),
        "tokenizer": small_tokenizer(tmp_path / "tokenizer"),
    }
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"shards: source poem loses 6 of 6 characters .* less_than_a_row"):
        shards(CONFIG, inputs, tmp_path / "out")
    told = shards(CONFIG.model_copy(update={"max_loss": 1.0}), inputs, tmp_path / "out")
    assert told is not None
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json"))
    for (split, source), stream in _streams(tmp_path / "out").items():
        assert getattr(told.by_source[source], f"{split}_characters") == len(tokenizer.decode(stream))
    assert all(account.unaccounted == 0 for account in told.by_source.values())
    assert told.by_source["poem"].rejected["less_than_a_row"].characters == 6
    assert told.by_source["poem"].rejected.keys() == REJECTS["shards"].keys()
    assert told.by_source["web"].cut["row_remainder"] > 0


def test_rows_hold_each_document_once_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer

    monkeypatch.setattr(stream_module, "ROWS_AT_ONCE", 2)  # documents that go on in the next rows
    folder = _run(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json"))
    eos = tokenizer.token_to_id("<|eos|>")
    texts = {name: (source, text) for name, source, text in ROWS}
    index = _index(folder)
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
        assert {document: ids.tolist() for document, ids in TokenStream(folder, split, source)} == found
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
        return {row["id"] for row in _index(folder) if row["split"] == "validation"}

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = held_out(_run(tmp_path / "a"))
    assert 3 <= len(first) <= 24
    renamed = [(f"other-{name}", source, text) for name, source, text in ROWS]
    assert held_out(_run(tmp_path / "b", rows=renamed, files=1)) == {f"other-{name}" for name in first}


def test_every_source_of_a_small_corpus_has_rows_held_out(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"validation_fraction": 1e-9})
    few = [(f"few-{n}", "few", f"{n} " + "a short text of some words. " * 8) for n in range(60)]
    two = [(f"two-{n}", "two", f"{n} " + "a book of many pages. " * 40) for n in range(2)]
    card = json.loads((_run(tmp_path, config, rows=[*ROWS, *few, *two]) / "shards.json").read_text())
    held_out = card["splits"]["validation"]
    assert {source: held_out[source]["rows"] > 0 for source in held_out} == {
        **{source: True for _, source, _ in ROWS},
        "few": True,
        "two": False,  # half of what there is would go
    }
    assert held_out["few"]["documents"] <= 6


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
    index = _index(folder)
    ends = sum(stream.count(1) for stream in _streams(folder).values())
    assert ends <= len(index)
    assert not any(3 in stream for stream in _streams(folder).values())


def test_other_readers_open_the_files(tmp_path: Path) -> None:
    import pyarrow.dataset as ds

    folder = _run(tmp_path)
    table = ds.dataset(folder / "train", format="parquet").to_table()
    assert table.schema.field("tokens").type.byte_width == 16 * 2
    assert set(table.column_names) == {"tokens", "checksum", "documents", "offsets", "source"}


def test_dtype_follows_the_vocabulary() -> None:
    assert token_dtype(65_536) == np.dtype("<u2")
    assert token_dtype(65_537) == np.dtype("<u4")


def test_too_little_text_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not fill one row"):
        _run(tmp_path, rows=[("a", "web", "few words")], files=1)


def test_no_text_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documents"):
        _run(tmp_path, rows=[], files=1)


def test_a_wrong_fast_encoder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    right = published(_run(tmp_path / "a"))
    monkeypatch.setattr(Encoder, "agrees", lambda self, texts: not list(texts))
    monkeypatch.setattr(
        "pipeline.tokens.pretokenise.PieceTable.encode", lambda self, text: np.zeros(3, dtype=np.uint32)
    )
    assert published(_run(tmp_path / "b")) == right


def test_fill_in_the_middle(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    rows = [(f"d{i}", "code" if i % 2 else "web", words(i, 60)) for i in range(40)]
    config = CONFIG.model_copy(update={"fim_rate": 0.5})
    inputs = {
        "decontaminate": write_documents(tmp_path / "documents", rows),
        "tokenizer": small_tokenizer(tmp_path / "tokenizer"),
    }
    (tmp_path / "without").mkdir()
    with pytest.raises(UserError, match=r"lacks <\|fim_begin\|>"):
        shards(config, inputs, tmp_path / "without")
    train_tokenizer(TokenizerConfig(vocabulary=400, fill_in_middle=True), iter(text for _, _, text in rows)).save(
        str(inputs["tokenizer"] / "tokenizer.json")
    )
    (tmp_path / "shards").mkdir()
    shards(config, inputs, tmp_path / "shards")
    tokenizer = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))
    marks = [tokenizer.token_to_id(token) for token in FIM_TOKENS]
    assert marks == [7, 8, 9]
    streams = _streams(tmp_path / "shards")
    assert not set(marks) & set(streams["train", "web"])
    texts = {text for _, source, text in rows if source == "code"}
    turned = whole = 0
    documents: list[list[int]] = [[]]
    for token in streams["train", "code"]:
        documents[-1].append(token)
        if token == 1:
            documents.append([])
    for ids in documents[:-1]:
        if ids[0] != marks[0]:
            whole += tokenizer.decode(ids[:-1]) in texts
            continue
        hole, end = ids.index(marks[1]), ids.index(marks[2])
        prefix, suffix, middle = ids[1:hole], ids[hole + 1 : end], ids[end + 1 : -1]
        assert tokenizer.decode(prefix + middle + suffix) in texts
        turned += 1
    assert turned + whole == len(documents) - 1
    assert turned > 3 < whole


def test_the_dataset_card(tmp_path: Path) -> None:
    """The dataset card names the files of each split, and every source."""
    folder = _run(tmp_path)
    text = (folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert [entry["split"] for entry in front["configs"][0]["data_files"]] == ["train", "validation"]
    card = json.loads((folder / "shards.json").read_text())
    for source, entry in card["splits"]["train"].items():
        assert f"| {source} | train | {entry['documents']:,} | {entry['rows']:,} |" in text
    assert len(pq.read_table(folder / "train")) == sum(e["rows"] for e in card["splits"]["train"].values())


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    length=st.sampled_from([8, 16, 33]),
    rows_per_file=st.sampled_from([1, 3, 1000]),
    files=st.integers(1, 4),
    seed=st.integers(0, 3),
)
@settings(max_examples=10, deadline=None)
def test_packing_loses_only_the_rest(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], length: int, rows_per_file: int, files: int, seed: int
) -> None:
    """Any documents, row length and file size: the stream is that of the documents sorted by their hash."""
    folder = tmp_path_factory.mktemp("packing")
    rows = [("d", "web", words(100 + i, n)) for i, n in enumerate(lengths)]
    config = ShardsConfig(sequence_length=length, rows_per_file=rows_per_file, validation_fraction=0, seed=seed)
    try:
        artifact = _run(folder, config, files, rows)
    except UserError as error:
        assert "do not fill one row" in str(error)  # noqa: PT017  # or the hypothesis holds
        return
    encoder = Encoder(folder / "tokenizer")
    texts = sorted((text for _, _, text in rows), key=lambda text: keys(text.encode(), seed)[1])
    expected = [token for text in texts for token in [*encoder.slowly([text])[0].tolist(), encoder.eos]]
    stream = _streams(artifact)["train", "web"]
    assert stream == expected[: len(expected) // length * length]
    index = _index(artifact)
    for file in json.loads((artifact / "shards.json").read_text())["splits"]["train"]["web"]["files"]:
        for row in pq.read_table(artifact / file["name"]).to_pylist():
            assert row["checksum"] == checksum(row["tokens"])
            assert len(row["documents"]) == len(row["offsets"])
            assert all(document < len(index) for document in row["documents"])
