"""What `extract` leaves out and counts, and what a search finds in token shards."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.kept_parts import PartsPlace, use
from pipeline import extract as extraction
from pipeline.extract import extract
from pipeline.removal.asks import REMOVED, Ask, Kind, read_removals, sign
from pipeline.removal.search import documents_in_shards, search_shards
from pipeline.sections import ExtractConfig
from pipeline.tasks.documents import read_documents
from tests.pipeline.corpus import published, set_workers, words
from tests.pipeline.index.test_index import make_shards
from tests.pipeline.sources.raw import page, warc_record

CHAPTERS = [f"CHAPTER {'I' * number}\n\n{words(number, 300)}." for number in (1, 2, 3)]


def _ask(folder: Path, *texts: str, address: str = "") -> str:
    """A file as the store keeps it."""
    signatures = tuple(signature for text in texts if (signature := sign(text)))
    ask = Ask(kind=Kind.URL if address else Kind.FILE, address=address, texts=signatures)
    path = folder / f"removal-ask-{ask.name}.json"
    path.write_text(ask.model_dump_json())
    return str(path)


def _config(folder: Path, *removed: str) -> ExtractConfig:
    """Three pages, one that is gone, and a book of three chapters."""
    raw = folder / "raw"
    if not raw.exists():
        raw.mkdir()
        pages = [warc_record(f"http://h/{number}", page(f"{number} {words(number, 80)}.")) for number in range(11, 14)]
        pages.append(warc_record("http://h/13/gone", page(words(13, 80)), http="404 Not Found"))
        (raw / "a.warc.gz").write_bytes(b"".join(map(gzip.compress, pages)))
        (raw / "book.txt").write_text("\n\n".join(CHAPTERS))
    sources = {
        "web": {"kind": "web", "paths": [str(raw / "a.warc.gz")]},
        "book": {"kind": "book", "paths": [str(raw / "book.txt")], "max_characters": 2500},
    }
    return ExtractConfig.model_validate({"sources": sources, "removed": removed, "max_loss": 0.1})


def test_pages_and_chapters_go_and_every_character_is_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_workers(monkeypatch, 1)
    (tmp_path / "all").mkdir()
    before = extract(_config(tmp_path), {}, tmp_path / "all")
    asks = _ask(tmp_path, address="https://www.h/13*"), _ask(tmp_path, CHAPTERS[1])
    (tmp_path / "less").mkdir()
    metrics = extract(_config(tmp_path, *asks), {}, tmp_path / "less")
    book, web = (metrics.by_source[name] for name in ("book", "web"))
    assert (book.rejected[REMOVED].documents, web.rejected[REMOVED].documents) == (1, 2)
    assert (book.unaccounted, web.unaccounted) == (0, 0)
    assert book.characters_in == before.by_source["book"].characters_in
    ids = {each.id for each in read_documents(tmp_path / "all")}
    left = {each.id for each in read_documents(tmp_path / "less")}
    assert left < ids
    for gone in read_documents(tmp_path / "less", "rejects"):
        assert gone.text == ""
        assert gone.metadata["rule"] == REMOVED
        assert f"removal-ask-{gone.metadata['asked']}.json" in "".join(asks)
    assert not [each for each in published(tmp_path / "less").values() if words(2, 300)[:60].encode() in each]


def test_with_kept_parts_only_files_with_a_document_that_goes_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_workers(monkeypatch, 1)
    monkeypatch.setattr(extraction, "TASK_BYTES", 1)
    (tmp_path / "raw").mkdir()
    for number in range(4):
        rows = [{"text": words(10 * number + text, 60)} for text in range(3)]
        (tmp_path / "raw" / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "jsonl", "paths": [str(tmp_path / "raw")]}

    def made(name: str, *removed: str) -> tuple[dict[str, bytes], list[str]]:
        config = ExtractConfig.model_validate({"sources": {"it": source}, "removed": removed})
        (tmp_path / name).mkdir()
        metrics = extract(config, {}, tmp_path / name)
        read = [path.name for path in (tmp_path / name / ".work" / "extract").rglob("*.json") if "stats" in path.parts]
        return {**published(tmp_path / name), "": json.dumps(metrics.written()).encode()}, sorted(read)

    try:
        use(PartsPlace(folder=str(tmp_path / "parts"), made_by="us"))
        assert len(made("first")[1]) == 4
        one, both = _ask(tmp_path, words(11, 60)), _ask(tmp_path, words(30, 60))
        requested = [made("one", one), made("two", one, both), made("again", one)]
        assert [len(read) for _, read in requested] == [1, 2, 0]
    finally:
        use(None)
    assert requested[0][0] == made("one anew", one)[0]
    assert requested[1][0] == made("two anew", one, both)[0]


def test_a_file_that_is_no_request_is_told(tmp_path: Path) -> None:
    (tmp_path / "removed.json").write_text("{}")
    with pytest.raises(UserError, match=r"removed.json: no request for removal; deepmill remove writes them"):
        read_removals(ExtractConfig(removed=(str(tmp_path / "removed.json"),)))


def test_documents_are_read_again_out_of_the_tokens_of_shards(tmp_path: Path) -> None:
    texts = {f"d{number}": words(number, 40 + number) for number in range(30)}
    shards, tokenizer = make_shards(tmp_path, texts) / "shards", tmp_path / "tokenizer"
    again = {each.id: each.text for each in documents_in_shards(shards, tokenizer)}
    assert len(again) > 25, "all but what was left over at the end of a source"
    whole = [name for name, text in again.items() if text == texts[name]]
    assert len(whole) >= len(again) - 2
    assert all(text in texts[name] for name, text in again.items())
    removals = read_removals(ExtractConfig(removed=(_ask(tmp_path, texts[whole[0]], texts[whole[1]]),)))
    looked_at, found = search_shards(shards, tokenizer, removals)
    assert looked_at == len(again)
    assert {each.id for each, _ in found} == set(whole[:2])
