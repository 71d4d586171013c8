"""Sources under names of one's own, from raw files through the clean and dedup stages."""

from __future__ import annotations

import ast
import html
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.clean.section import CleanConfig
from pipeline.clean.stage import clean
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.stage import dedup
from pipeline.extract import extract
from pipeline.sections import ExtractConfig
from pipeline.tasks.documents import read_documents
from tests.pipeline.corpus import set_workers
from tests.pipeline.sources.raw import page, warc_record

_ENGLISH = """
    the of and a to in he was that it his her with as had for she not at but on be they have from this were all by which
    there him one would said when what so no who their been if more could them into will out little very before other
    time man old must know never house himself upon again over eyes such night long while made way come after went say
    great last away found might much heart hand day own without here just thought poor nothing lady young room good
    moment father mother door looked sea ship captain light wind harbour keeper sailor water morning voice face words
"""
WORDS = _ENGLISH.split()
MARKS = [",", ";", "—", "!—", "?”", ".”", ", “", ";—“"]


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting others takes longer than these files."""
    set_workers(monkeypatch, 1)


def _run(folder: Path, sources: dict[str, Any]) -> dict[str, Counter[str]]:
    """Characters of each source after each stage."""
    for stage in ("extract", "clean", "dedup"):
        (folder / stage).mkdir(parents=True)
    extract(ExtractConfig.model_validate({"sources": sources}), {}, folder / "extract")
    clean(CleanConfig(), {"extract": folder / "extract"}, folder / "clean")
    dedup(DedupConfig(), {"clean": folder / "clean"}, folder / "dedup")
    found: dict[str, Counter[str]] = {}
    for stage in ("extract", "clean", "dedup"):
        found[stage] = Counter()
        for document in read_documents(folder / stage):
            found[stage][document.metadata["source"]] += len(document.text)
    return found


def _book(seed: int) -> str:
    """Forty chapters in which a quarter of what a splitter finds is marks, and few lines end a sentence."""
    source = random.Random(seed)
    lines = [
        " ".join(source.choice(WORDS) + (source.choice(MARKS) if source.random() < 0.3 else "") for _ in range(11))
        for _ in range(40 * 30)
    ]
    chapters = (f"CHAPTER {at + 1}.\n\n" + "\n".join(lines[30 * at : 30 * at + 30]) for at in range(40))
    return f"A Book {seed}\n\n" + "\n\n".join(chapters)


def test_two_books_under_names_of_ones_own_come_through_whole(tmp_path: Path) -> None:
    for seed, name in enumerate(("shelf", "attic")):
        (tmp_path / f"{name}.txt").write_text(_book(seed))
    paths = {name: [str(tmp_path / f"{name}.txt")] for name in ("shelf", "attic")}
    found = _run(tmp_path, {name: {"kind": "book", "paths": each} for name, each in paths.items()})
    assert found["clean"].total() > 0.99 * found["extract"].total()
    assert set(found["extract"]) == {"shelf", "attic"}


def test_code_of_any_source_still_parses_to_the_same_tree(tmp_path: Path) -> None:
    root = Path(json.__file__).parents[0]
    files = sorted(root.parent.joinpath("asyncio").glob("*.py")) + sorted(root.glob("*.py"))
    rows = [{"text": file.read_text(encoding="utf-8"), "id": file.name} for file in files]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folders = {"src": {"kind": "code", "paths": [str(file.parent) for file in (files[0], files[-1])]}}
    _run(tmp_path / "a", folders)
    _run(tmp_path / "b", {"mine": {"kind": "jsonl", "profile": "code", "paths": [str(tmp_path / "rows.jsonl")]}})
    texts = {file.read_text(encoding="utf-8") for file in files}
    for name, least in (("a", 0.8), ("b", 0.8)):
        kept = [document.text for document in read_documents(tmp_path / name / "dedup")]
        assert len(kept) > least * len(texts)
        assert set(kept) <= texts
        assert all(ast.dump(ast.parse(text)) for text in kept)


QUESTION = "Mia has {a} apples and gives {b} of them to Tom. How many apples does she have left?"
WORKING = "She gives {b} away.\n{a} - {b} = {c}\n<<{a}-{b}={c}>>\nx={c}\n#### {c}"


def test_short_questions_and_worked_solutions_come_through_whole(tmp_path: Path) -> None:
    rows = [
        {"question": QUESTION.format(a=a, b=b), "text": WORKING.format(a=a, b=b, c=a - b)}
        for a in range(20, 40)
        for b in range(3, 13)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = {"kind": "jsonl", "profile": "maths", "paths": [str(tmp_path / "rows.jsonl")]}
    found = _run(tmp_path, {"questions": both | {"text_field": "question"}, "answers": both})
    assert found["dedup"] == found["extract"]
    assert {document.text for document in read_documents(tmp_path / "dedup")} == {
        row[key] for row in rows for key in ("question", "text")
    }


PROGRAM = (
    "def ask(a):\n    if a &gt; 1:\n        return {'name': a}\n    else:\n        x=3\n\n\n"
    "    # jane@corp.io at 8.8.8.8 wrote &amp;amp; here\n\treturn a"
)


@pytest.mark.parametrize("profile", ["web", "reference"])
def test_preformatted_text_of_a_page_comes_through_to_the_character(tmp_path: Path, profile: str) -> None:
    said = [
        "The parser reads the words of the line and returns what it has found to the one who asked for it.",
        "There are many ways in which this can be done, and most of them are slower than they have to be.",
        "That is why the loop below looks at each of the numbers once and at none of them a second time.",
        "With a list of the values in hand, the rest of the work is to be had for the price of one call.",
        "It was written to be read, and so it has been read by all who have had to do with it since then.",
        "Write to tom@corp.io for more of it, or look at what the others have to say about the matter.",
    ]
    paragraphs = [f"<p>{sentence}</p>" for sentence in said]
    code = f"<pre>{PROGRAM}</pre>"
    content = page(f"<article>{''.join([*paragraphs[:3], code, *paragraphs[3:]])}</article>")
    (tmp_path / "a.warc").write_bytes(warc_record("http://example.org/a", content))
    source = {"kind": "web", "profile": profile, "paths": [str(tmp_path / "a.warc")]}
    _run(tmp_path, {"site": source})
    (document,) = read_documents(tmp_path / "dedup")
    assert html.unescape(PROGRAM) in document.text
    assert "tom@corp.io" not in document.text
