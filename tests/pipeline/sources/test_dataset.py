"""Data sets in folders: which files are of which split, and every format that they come in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from infra.storage import resolve
from pipeline.sections import DatasetSource
from pipeline.sources.dataset import choose, parts, read
from tests.pipeline.sources.raw import read_all

SCHEMA = pa.schema([("text", pa.string()), ("id", pa.int64())])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"text": f"{text} {number}", "id": number} for number in range(2)]
    table = pa.Table.from_pylist(rows, SCHEMA)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    match path.name.partition(".")[2]:
        case "parquet":
            pq.write_table(table, path)
        case "arrow":
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
                writer.write_table(table)
        case "jsonl.gz":
            path.write_bytes(gzip.compress(lines))
        case "json" | "jsonl":
            path.write_bytes(lines)
        case "csv":
            path.write_text(f'text,id\n"{text} 0",0\n"{text} 1",1\n')
        case "tsv":
            path.write_text(f"text\tid\n{text} 0\t0\n{text} 1\t1\n")


def _texts(folder: Path, **options: Any) -> list[str]:
    source = DatasetSource(paths=(str(folder),), **options)
    found = []
    for file in choose(source, resolve(source.paths)):
        for part in parts(source, file, 10**9):
            documents, damage = read_all(read, source, part)
            assert not damage
            assert [document.metadata["id"] for document, _ in documents] in ([0, 1], ["0", "1"])
            found += [document.text for document, rule in documents if rule is None]
    return sorted({text.partition(" ")[0] for text in found})


@pytest.mark.parametrize("ending", ["parquet", "arrow", "jsonl", "jsonl.gz", "json", "csv", "tsv"])
def test_splits_by_name_in_every_format(tmp_path: Path, ending: str) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test"):
        _write(tmp_path / "data" / f"{name}.{ending}", name)
    (tmp_path / "README.md").write_text("# A data set\n")
    assert _texts(tmp_path) == ["train-00000-of-00002", "train-00001-of-00002"]
    assert _texts(tmp_path, split="validation") == ["validation-00000-of-00001"]


def test_folders_can_be_the_splits_and_without_any_all_is_train(tmp_path: Path) -> None:
    _write(tmp_path / "a" / "dev" / "x.jsonl", "dev")
    _write(tmp_path / "a" / "train" / "x.jsonl", "train")
    assert _texts(tmp_path / "a") == ["train"]
    assert _texts(tmp_path / "a", split="validation") == ["dev"]
    _write(tmp_path / "b" / "one.jsonl", "one")
    _write(tmp_path / "b" / "sub" / "two.parquet", "two")
    assert _texts(tmp_path / "b") == ["one", "two"]
    assert _texts(tmp_path / "b", config="sub") == ["two"]


README = """---
license: mit
configs:
- config_name: web
  data_files:
  - {split: train, path: "web/*.parquet"}
  - {split: held, path: [web2/a.parquet]}
- config_name: books
  default: true
  data_files: "books/**/*.jsonl"
---
Text.
"""


def test_the_readme_says_which_files(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(README)
    for name in ("web/a.parquet", "web2/a.parquet", "books/x/y/a.jsonl", "books/b.jsonl", "other/train.jsonl"):
        _write(tmp_path / name, name)
    assert _texts(tmp_path) == ["books/b.jsonl", "books/x/y/a.jsonl"]
    assert _texts(tmp_path, config="web") == ["web/a.parquet"]
    assert _texts(tmp_path, config="web", split="held") == ["web2/a.parquet"]
    with pytest.raises(UserError, match="no configuration films among web, books"):
        _texts(tmp_path, config="films")


def test_what_save_to_disk_leaves(tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write(tmp_path / split / "data-00000-of-00001.arrow", split)
        _write(tmp_path / split / "cache-1.arrow", "cache")
        files = [{"filename": "data-00000-of-00001.arrow"}]
        (tmp_path / split / "state.json").write_text(json.dumps({"_data_files": files}))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert _texts(tmp_path) == ["train"]
    assert _texts(tmp_path, split="test") == ["test"]
    assert _texts(tmp_path / "train") == ["train"]


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "train.jsonl", "x")
    with pytest.raises(UserError, match=r"no file of the split test \(files: train\.jsonl\); set the source's split"):
        _texts(tmp_path, split="test")


def test_bad_rows_of_a_csv_are_failures(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,id\ngood,1\n"' + "x" * 2_000_000 + '",2\nlast,3\n')
    source = DatasetSource(paths=(str(tmp_path),))
    found, damage = read_all(read, source, parts(source, resolve(source.paths)[0], 10**9)[0])
    assert [document.text for document, rule in found if rule is None] == ["good", "last"]
    assert "failure/csv" in [rule for _, rule in found]
    assert not damage
    other = DatasetSource(paths=(str(tmp_path),), text_field="body")
    (part,) = parts(other, resolve(other.paths)[0], 10**9)
    with pytest.raises(UserError, match="no column body among text, id"):
        read_all(read, other, part)


def test_what_stands_between_columns_and_a_row_that_breaks_off(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id;"text"\n1;one, two\n2;"three"\n3;"fo')
    source = DatasetSource(paths=(str(tmp_path),))
    (part,) = parts(source, resolve(source.paths)[0], 10**9)
    found, damage = read_all(read, source, part)
    assert [document.text for document, _ in found] == ["one, two", "three"]
    assert damage == "line 4: truncated: a field in quotes does not end"
    (tmp_path / "a.csv").write_text('id,text\n1,5" pipe')  # no field in quotes
    assert [document.text for document, _ in read_all(read, source, part)[0]] == ['5" pipe']


CHINESE = "港口向西开放，风随着潮水而来。"
TABLES = {
    "sep=;\nid;text\n1;a\n": ["a"],
    'id, text\n1, a\n2, "b, c"\n': ["a", "b, c"],
    'id,text\n1,"he said \\"yes\\", so"\n2,\\frac\n': ['he said "yes", so', "\\frac"],
    'id,text\n1,"he said ""yes"", C:\\"\n2,b\n': ['he said "yes", C:\\', "b"],
    "id,text\r1,a\r2,b\r": ["a", "b"],
    'id\ttext\n1\t"Yes" he said\n2\t"open\n3\tc\n': ['"Yes" he said', '"open', "c"],
    'id\ttext\n1\t"Yes\tno"\n2\t"say ""so"""\n': ["Yes\tno", 'say "so"'],
    f"id,text\n1,{CHINESE}\n": [CHINESE],
    "id,text\n1,un café\n2,x\n": ["un café", "x"],
    "text\none, and more; so\ntwo\n": ["one, and more; so", "two"],
    '"text"\r\n"one, ""and"" more"\r\n': ['one, "and" more'],
    "id,text,title\n1,a\tb,x\n": ["a\tb"],
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_as_programs_write_them(tmp_path: Path, table: str) -> None:
    codec = "gbk" if CHINESE in table else "cp1252"
    path = tmp_path / ("a.tsv" if "\t" in table else "a.csv")
    path.write_bytes(table.encode(codec))
    source = DatasetSource(paths=(str(path),), min_characters=1)
    found, damage = read_all(read, source, resolve(source.paths)[0])
    assert ([document.text for document, _ in found], damage) == (TABLES[table], "")


def test_a_row_of_an_arrow_file_that_is_not_utf8_costs_itself_and_wild_offsets_are_damage(tmp_path: Path) -> None:
    texts = pa.array([b"first", b"caf\xe9", b"last"], pa.binary()).view(pa.string())
    path = tmp_path / "train.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, pa.schema([("text", pa.string())])) as writer:
        writer.write_table(pa.table({"text": texts}))
    source = DatasetSource(paths=(str(path),))
    (file_,) = resolve(source.paths)
    found, damage = read_all(read, source, file_)
    assert not damage
    assert [(document.text, rule) for document, rule in found] == [
        ("first", None),
        ("", "failure/encoding"),
        ("last", None),
    ]
    offsets = np.array([0, 5, 9, 13], dtype="<i4").tobytes()
    content = path.read_bytes()
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, np.array([0, 5, 1 << 30, 13], dtype="<i4").tobytes()))
    assert "not a whole Arrow file" in read_all(read, source, file_)[1]


def test_a_csv_without_a_line_of_names_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(b"te\rxt,id\nfirst,1\n")
    source = DatasetSource(paths=(str(tmp_path),))
    (file,) = resolve(source.paths)
    assert "no line of names" in read_all(read, source, file)[1]


def test_a_row_with_more_fields_than_columns_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,a,\n2,b, and what was cut off\n3,c\n")
    source = DatasetSource(paths=(str(tmp_path),))
    found, _ = read_all(read, source, resolve(source.paths)[0])
    assert [(document.text, rule) for document, rule in found] == [("a", None), ("", "failure/csv"), ("c", None)]
    assert found[1][0].metadata["failure"] == "3 fields, and 2 names of columns"


@pytest.mark.parametrize(
    ("readme", "found"),
    [
        ("---\r\nconfigs:\r\n- config_name: a\r\n  data_files: x.jsonl\r\n---\r\n", ["x"]),
        ("---\nconfigs:\n- config_name: a\n  data_files: ./x.jsonl\n---\n", ["x"]),
        ("---\nconfigs:\n- data_files: x.jsonl\n---\n", ["x"]),
        ("---\nconfigs:\n- config_name: a\n  data_dir: sub/\n---\n", ["y"]),
        ("---\nconfigs:\n- config_name: a\n  data_dir: sub\n  data_files: y.jsonl\n---\n", ["y"]),
        ("---\nconfigs: 5\n---\n", ["x", "y"]),
        ("---\nconfigs: [a, b]\n---\n", ["x", "y"]),
        ("---\nconfigs: [\n---\n", ["x", "y"]),
    ],
)
def test_readmes_as_people_write_them(tmp_path: Path, readme: str, found: list[str]) -> None:
    _write(tmp_path / "x.jsonl", "x")
    _write(tmp_path / "sub" / "y.jsonl", "y")
    (tmp_path / "README.md").write_bytes(readme.encode())
    assert _texts(tmp_path) == found


@pytest.mark.parametrize(
    ("train", "other"),
    [
        ("Train.csv", "Test.csv"),
        ("train1.csv", "test1.csv"),
        ("TRAIN.JSONL.gz", "DEV.JSONL.gz"),
        ("a.train.csv", "a.val.csv"),
    ],
)
def test_splits_in_other_spellings(tmp_path: Path, train: str, other: str) -> None:
    for name, text in ((train, "right"), (other, "wrong")):
        written = tmp_path / f"x.{name.partition('.')[2].lower().removeprefix('train.').removeprefix('val.')}"
        _write(written, text)
        written.rename(tmp_path / name)
    assert _texts(tmp_path) == ["right"]


@pytest.mark.parametrize(
    ("name", "written"), [("a.ndjson", "a.jsonl"), ("a.feather", "a.arrow"), ("a.pq", "a.parquet")]
)
def test_other_names_of_formats(tmp_path: Path, name: str, written: str) -> None:
    _write(tmp_path / written, "right")
    (tmp_path / written).rename(tmp_path / name)
    assert _texts(tmp_path) == ["right"]


def test_a_state_that_is_none_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "data-00000-of-00001.arrow", "x")
    for content in ("{", "[]", '{"_data_files": [{}]}'):
        (tmp_path / "state.json").write_text(content)
        with pytest.raises(UserError, match=r"state\.json: not as save_to_disk writes it"):
            _texts(tmp_path)


def test_an_arrow_file_that_is_none_is_named(tmp_path: Path) -> None:
    for content, what in ((b"", "an empty file"), (b"PAR1\x15" + bytes(60), "a Parquet file")):
        (tmp_path / "a.arrow").write_bytes(content)
        source = DatasetSource(paths=(str(tmp_path),))
        assert read_all(read, source, resolve(source.paths)[0]) == ([], f"this is {what}, which is not read here")
