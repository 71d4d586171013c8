"""`deepmill new`: what lies in a folder becomes a recipe that plans and reads it."""

from __future__ import annotations

import bz2
import gzip
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from flows.recipe.recipe import load_recipe
from infra.errors import UserError
from pipeline.extract import extract
from pipeline.inventory import take_inventory
from tests.flows.tiny import ask, write_corpus

PROSE = "The mill stands by the river, and the miller grinds the corn that the farmers bring to him every autumn. " * 12
FRENCH = "Le moulin se trouve au bord de la rivière, et le meunier moud le blé que les paysans lui apportent. " * 12


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A team's folder: books, a dump whose name says little, notes, problems, code and what nobody reads."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "our texts"
    for name in ("books", "notes", "code", "old"):
        (root / name).mkdir(parents=True)
    for number in range(8):
        (root / "books" / f"{number}.txt").write_text(f"{PROSE}\n\nChapter {number}\n\n{PROSE}")
    (root / "notes" / "a.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps({"body": f"{FRENCH} {number}"}) + "\n" for number in range(30)).encode())
    )
    pq.write_table(
        pa.table({"content": [f"{FRENCH} {n}" for n in range(30)], "n": list(range(30))}), root / "t.parquet"
    )
    (root / "maths.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    (root / "code" / "mill.py").write_text("def grind(corn):\n    return corn * 2\n" * 20)
    (root / "code" / "LICENSE.txt").write_text("Do as you like.\n" * 30)
    corpus = write_corpus(tmp_path / "corpus")
    (root / "old" / "dump.bz2").write_bytes((corpus / "wiki.xml.bz2").read_bytes())
    (root / "old" / "scan.pdf").write_bytes(b"%PDF-1.4")
    (root / "talks").mkdir()
    (root / "talks" / "one.vtt").write_text(f"WEBVTT\n\n00:01.000 --> 00:09.000\n{PROSE}\n")
    (root / ".hidden.txt").write_text(PROSE)
    return root


def test_what_lies_there_is_found(folder: Path) -> None:
    found = take_inventory(folder)
    kinds = {name: source.kind for name, source in found.sources.items()}
    assert kinds == {"books": "book", "notes": "jsonl", "parquet": "parquet", "code": "code", "old": "wiki"} | {
        "talks": "subtitles"
    }
    assert found.sources["notes"].options == {"text_field": "body"}
    assert found.sources["parquet"].options == {"text_field": "content"}
    assert {name: source.files for name, source in found.sources.items()}["books"] == 8
    assert not [source.trouble for source in found.sources.values() if source.trouble]
    assert found.problems == [str(folder / "maths.jsonl")]
    assert dict(found.passed_over) == {".pdf": 1}
    assert set(found.languages) == {"en", "fr"}


def test_the_recipe_reads_all_of_it(folder: Path, tmp_path: Path) -> None:
    said = ask(tmp_path, "new", str(folder))
    assert "our-texts.yaml is written" in said
    assert "passed over: 1 .pdf" in said
    recipe = load_recipe("our-texts.yaml")
    assert set(recipe.clean.languages) == {"fr", "en"}
    assert recipe.reasoning.files == (str(folder / "maths.jsonl"),)
    metrics = extract(recipe.extract, {}, tmp_path / "out")
    counts = {name: account.documents_out for name, account in metrics.by_source.items()}
    assert counts.keys() == set(recipe.extract.sources)
    assert counts["notes"] == counts["parquet"] == counts["old"] == 30
    assert counts["code"] == 1
    assert "run" in ask(tmp_path, "plan", "our-texts.yaml")
    assert json.loads((tmp_path / "recipe.schema.json").read_text())["title"] == "Recipe"


def test_nothing_is_written_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "our-texts.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"^our-texts\.yaml: there already; name another file with --to$"):
        ask(tmp_path, "new", str(folder))
    assert (tmp_path / "our-texts.yaml").read_text() == "mine"


def test_a_model_is_started_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all" / "base").mkdir(parents=True)
    (tmp_path / "all" / "base" / "model.safetensors").write_bytes(b"")
    (tmp_path / "all" / "base" / "config.json").write_text("{}")
    (tmp_path / "all" / "book.txt").write_text(PROSE)
    ask(tmp_path, "new", "all")
    values = yaml.safe_load(Path("all.yaml").read_text())
    assert "pretrain" not in values
    assert values["start"] == {"checkpoint": ["all/base"]}
    assert list(values["extract"]["sources"]) == ["book"]


def test_what_cannot_be_read_is_said_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "good.txt").write_text(PROSE)
    (tmp_path / "mixed" / "bad.jsonl").write_text('{"number": 1}\n' * 5)
    said = ask(tmp_path, "new", "mixed")
    assert "not read" in said
    assert list(load_recipe("mixed.yaml").extract.sources) == ["book"]


def test_a_folder_without_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; give the one that your text lies in"):
        take_inventory(tmp_path / "nowhere")
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(UserError, match=r"nothing in it is text that Deepmill reads \(1 \.pdf\)"):
        take_inventory(tmp_path)


def test_names_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "MOBY.TXT").write_text(PROSE)
    (found,) = take_inventory(tmp_path).sources.values()
    assert (found.kind, found.files, found.trouble) == ("book", 1, "")


def test_archives_of_code(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mill-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("mill.py", "def grind(corn):\n    return corn * 2\n" * 20)
    (found,) = take_inventory(tmp_path).sources.values()
    assert (found.kind, found.trouble) == ("code", "")


def test_a_dump_of_two_bytes_a_character(tmp_path: Path) -> None:
    text = (write_corpus(tmp_path / "corpus") / "wiki.xml.bz2").read_bytes()
    (tmp_path / "dumps").mkdir()
    (tmp_path / "dumps" / "x.xml.bz2").write_bytes(bz2.compress(bz2.decompress(text).decode().encode("utf-16")))
    (found,) = take_inventory(tmp_path / "dumps").sources.values()
    assert (found.kind, found.trouble, found.paths) == ("wiki", "", [f"{tmp_path}/dumps/**/*.xml.bz2"])


def test_a_folder_whose_files_give_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "a.txt").write_text("A line.")
    with pytest.raises(UserError, match=r"^short: nothing in it can be read as text \(book: none of the first records"):
        ask(tmp_path, "new", "short")
    assert not list(tmp_path.glob("*.yaml"))


def test_a_folder_of_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chats").mkdir()
    (tmp_path / "chats" / "book.txt").write_text(PROSE)
    said = [{"role": "user", "content": "Who grinds?"}, {"role": "assistant", "content": "The miller."}]
    (tmp_path / "chats" / "talk.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    assert "1 file of conversations for fine-tuning" in ask(tmp_path, "new", "chats")
    recipe = load_recipe("chats.yaml")
    assert recipe.conversations is not None
    assert recipe.conversations.files == ("chats/talk.jsonl",)
    assert recipe.sft is not None
    assert recipe.sft.replay.conversations > 0
    assert list(recipe.extract.sources) == ["book"]


@pytest.mark.parametrize(
    ("folder", "recipe", "name"),
    [("Тексты", "тексты.yaml", "recipe"), ("Épées [1]", "épées--1.yaml", "epees--1"), ("a* b{c}", "a--b-c.yaml", None)],
)
def test_names_of_folders(
    folder: str, recipe: str, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Letters of all scripts, and the signs of patterns, which must not be read as such."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder / "[old] texts").mkdir(parents=True)
    (tmp_path / folder / "[old] texts" / "a?.txt").write_text(PROSE)
    said = ask(tmp_path, "new", folder)
    assert load_recipe(recipe).name == (name or "a--b-c")
    assert (f"its model is called deepmill-{name}" in said) == (name is not None)
    assert extract(load_recipe(recipe).extract, {}, tmp_path / "out").documents_out == 1


@pytest.mark.timeout(20)
def test_links_that_lead_back_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b.txt").write_text(PROSE)
    for name in ("up", "again"):
        (tmp_path / "tree" / "a" / name).symlink_to("..")
    (tmp_path / "tree" / "gone.txt").symlink_to("nowhere.txt")
    (found,) = take_inventory(Path("tree")).sources.values()
    assert (found.files, found.trouble) == (1, "")
    ask(tmp_path, "new", "tree")
    assert extract(load_recipe("tree.yaml").extract, {}, tmp_path / "out").documents_out == 1


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"number": 1}\n' * 5, r"text is missing, there is number \(5\)"),
        ("a.jsonl", b'{"text": "' + b"x" * 20_000_000 + b'"}\n', r"larger than extract\.max_record_bytes \(1\)"),
        ("a.zip", None, r"in no programming language; unpack archives of other text \(1\)"),
        ("a.txt", b"", r"shorter than its min_characters \(1\)"),
    ],
)
def test_why_nothing_was_read(name: str, content: bytes | None, told: str, tmp_path: Path) -> None:
    if content is None:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("book.xyz", PROSE)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=told):
        take_inventory(tmp_path)


def test_a_file_and_a_place_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(PROSE)
    with pytest.raises(UserError, match=r"^a\.txt: a file; give the folder that it lies in$"):
        ask(tmp_path, "new", "a.txt")
    with pytest.raises(UserError, match=r"^nowhere/x\.yaml: there is no folder nowhere; make it, or name another"):
        ask(tmp_path, "new", ".", "--to", "nowhere/x.yaml")


def test_a_model_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_bytes(b"")
    (tmp_path / "base" / "config.json").write_text("{}")
    assert "no text was found: name sources" in ask(tmp_path, "new", "base")
    assert yaml.safe_load(Path("base.yaml").read_text())["extract"] == {"sources": {}}
