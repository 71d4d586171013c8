"""The stage: which files which task reads, what is kept and what not, and when it stops."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from infra import events
from infra.errors import UserError
from pipeline import extract as stage
from pipeline.extract import deal, extract
from pipeline.sections import ExtractConfig
from pipeline.sources import stream, web
from pipeline.tasks.documents import read_documents
from pipeline.tasks.guard import Extracted
from tests.infra.web import Ranges, WholeFiles, web_server
from tests.pipeline.corpus import published, set_workers
from tests.pipeline.sources.raw import page, warc_record, wiki_dump, wiki_page
from tests.pipeline.sources.test_epub import epub

WORDS = "The harbour of the old town lies open to the west, and the wind comes in with the tide. " * 4


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting others takes longer than these files."""
    set_workers(monkeypatch, 1)


def _corpus(folder: Path) -> Path:
    """A file or two of every kind."""
    pages = [warc_record(f"http://h/{number}", page(f"{number} {WORDS}")) for number in range(3)]
    pages.append(warc_record("http://h/gone", page(WORDS), http="404 Not Found"))
    texts = pa.table({"text": [f"row {number}" for number in range(3)], "id": ["x", "y", "z"]})
    folder.mkdir(parents=True)
    for name, content in {
        "web/a.warc.gz": b"".join(map(gzip.compress, pages)),
        "wiki/dump.xml": wiki_dump(wiki_page("A", WORDS), wiki_page("B", "", redirect="A")),
        "book/one.txt": f"One\n\n{WORDS}".encode(),
        "book/two.txt": f"Two\n\n{WORDS}".encode(),
        "jsonl/rows.jsonl": "".join(json.dumps({"text": f"line {number}"}) + "\n" for number in range(4)).encode(),
    }.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (folder / "parquet").mkdir()
    pq.write_table(texts, folder / "parquet" / "rows.parquet")
    return folder


def _config(folder: Path, kinds: tuple[str, ...] = ("web", "wiki", "book", "jsonl", "parquet"), **more: Any) -> Any:
    sources = {f"my-{kind}": {"kind": kind, "paths": [str(folder / kind)]} for kind in kinds}
    return ExtractConfig.model_validate({"sources": sources, **more})


def _run(config: ExtractConfig, out: Path) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    return extract(config, {}, out).written()


def test_all_kinds(tmp_path: Path) -> None:
    corpus = _corpus(tmp_path / "raw")
    metrics = _run(_config(corpus), tmp_path / "out")
    assert [document.id for document in read_documents(tmp_path / "out")] == [
        "my-book/one.txt/1",
        "my-book/two.txt/1",
        *(f"my-jsonl/rows.jsonl/{number}" for number in (1, 2, 3, 4)),
        *(f"my-parquet/rows.parquet/{number}" for number in (1, 2, 3)),
        *(f"my-web/a.warc.gz/{number}" for number in (1, 2, 3)),
        "my-wiki/dump.xml/1",
    ]
    assert {document.id: document.metadata["rule"] for document in read_documents(tmp_path / "out", "rejects")} == {
        "my-web/a.warc.gz/4": "status/404",
        "my-wiki/dump.xml/2": "redirect",
    }
    assert metrics["documents_in"] == 15
    assert metrics["documents_out"] == 13
    assert metrics["bytes_in"] == sum(file.stat().st_size for file in corpus.rglob("*") if file.is_file())
    assert metrics["bytes_out"] == sum(len(document.text.encode()) for document in read_documents(tmp_path / "out"))
    assert metrics["dropped"] == {"redirect": 1, "status/404": 1}
    web = metrics["by_source"]["my-web"]
    assert (web["documents_in"], web["documents_out"]) == (4, 3)
    assert web["rejected"]["status/404"]["documents"] == 1


def test_same_bytes_for_any_workers_and_wherever_the_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for workers in (1, 2):
        set_workers(monkeypatch, workers)
        corpus = _corpus(tmp_path / str(workers) / "raw")
        monkeypatch.chdir(corpus.parent)
        metrics = _run(_config(corpus if workers == 1 else Path("raw")), corpus.parent / "out")
        results.append((published(corpus.parent / "out"), metrics))
        assert len(results[-1][0]) == 7, "five tasks, two of them with rejects"
    assert results[0] == results[1]
    assert not any(str(tmp_path).encode() in content for content in results[0][0].values())


def test_a_killed_stage_resumes_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_workers(monkeypatch, 1)
    config = _config(_corpus(tmp_path / "raw"))
    metrics = _run(config, tmp_path / "whole")
    read = stage.Reader.read

    def killed(self: Any, piece: Any) -> Any:
        for number, found in enumerate(read(self, piece)):
            if (piece.source, number) == ("my-web", 1):
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(stage.Reader, "read", killed)
    with pytest.raises(KeyboardInterrupt):
        _run(config, tmp_path / "out")
    assert len(list((tmp_path / "out" / "documents").iterdir())) == 3
    monkeypatch.setattr(stage.Reader, "read", read)
    assert _run(config, tmp_path / "out") == metrics
    assert published(tmp_path / "out") == published(tmp_path / "whole")


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "one member"])
def test_a_killed_stage_resumes_inside_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: Callable[[bytes], bytes]
) -> None:
    """Its parts are tasks: those that were done are not read again, and the records are those of the whole."""
    lines = [json.dumps({"text": f"{number} {random.Random(number).randbytes(300).hex()}"}) for number in range(300)]
    (tmp_path / "raw" / "jsonl").mkdir(parents=True)
    file = tmp_path / "raw" / "jsonl" / "large.jsonl"
    file.write_bytes(compress("".join(f"{line}\n" for line in lines).encode()))
    monkeypatch.setattr(stream, "CHUNK", 1000)
    config = _config(tmp_path / "raw", ("jsonl",), split_bytes=file.stat().st_size // 5 + 1)
    _run(config, tmp_path / "whole")
    assert [document.text.partition(" ")[0] for document in read_documents(tmp_path / "whole")] == [
        *map(str, range(300))
    ]
    read, seen = stage.Reader.read, []

    def watched(self: Any, piece: Any) -> Any:
        for number, found in enumerate(read(self, piece)):
            if (len(seen), number) == (3, 5):
                raise KeyboardInterrupt
            yield found
        seen.append(piece.name)

    monkeypatch.setattr(stage.Reader, "read", watched)
    with pytest.raises(KeyboardInterrupt):
        _run(config, tmp_path / "out")
    assert seen == ["large.jsonl/1", "large.jsonl/2", "large.jsonl/3"]
    seen[:] = ["killed"]
    _run(config, tmp_path / "out")
    assert seen == ["killed", "large.jsonl/4", "large.jsonl/5"]
    assert published(tmp_path / "out") == published(tmp_path / "whole")


def test_files_behind_an_address_are_those_of_the_folder(tmp_path: Path) -> None:
    """In parts where the server sends ranges, else whole, also in formats that are read from their end."""
    lines = "".join(json.dumps({"text": f"{number} {WORDS}"}) + "\n" for number in range(100))
    (tmp_path / "rows.jsonl").write_text(lines)
    (tmp_path / "book.txt").write_text(f"A title\n\n{WORDS}")
    (tmp_path / "town.epub").write_bytes(epub({"a": f"<html><body><p>{WORDS}</p></body></html>"}))
    pq.write_table(pa.table({"text": [WORDS, "short"]}), tmp_path / "table.parquet")
    found = []
    for server in (None, Ranges, WholeFiles):
        with web_server(tmp_path, server) if server else contextlib.nullcontext(str(tmp_path)) as base:
            sources = {
                "rows": {"kind": "jsonl", "paths": [f"{base}/rows.jsonl"]},
                "shelf": {"kind": "book", "paths": [f"{base}/book.txt", f"{base}/town.epub"]},
                "table": {"kind": "parquet", "paths": [f"{base}/table.parquet"]},
            }
            out = tmp_path / f"out{len(found)}"
            _run(ExtractConfig.model_validate({"sources": sources, "split_bytes": 10_000}), out)
        found.append([(document.id, document.text) for document in read_documents(out)])
    assert len(found[0]) == 104
    assert found[0] == found[1]
    assert [text for _, text in found[1]] == [text for _, text in found[2]]
    assert [found[at][9][0] for at in range(3)] == [
        "rows/rows.jsonl/1.10",
        "rows/rows.jsonl/1.10",
        "rows/rows.jsonl/10",
    ]


def test_tasks_follow_from_names_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "TASK_BYTES", 100)
    for name, size in (("a", 60), ("b", 40), ("c", 1), ("d", 500), ("e", 500)):
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / name).write_bytes(bytes(size))
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "a").write_bytes(b"1")
    sources = {
        "z": {"kind": "book", "paths": [str(tmp_path / "x")]},
        "b": {"kind": "book", "paths": [str(tmp_path / "y" / "a"), str(tmp_path / "x" / "a")]},
    }
    tasks = deal(ExtractConfig.model_validate({"sources": sources}))
    assert [[f"{piece.source}/{piece.name}" for piece in task] for task in tasks] == [
        ["b/a", "b/a~2"],
        ["z/a", "z/b"],
        ["z/c"],
        ["z/d"],
        ["z/e"],
    ]


@pytest.mark.parametrize(
    ("name", "place", "workers"),
    [
        ("web/a.warc.gz", "truncated: the gzip data breaks off", 2),
        ("wiki/dump.xml", "truncated: the dump ends without </mediawiki>", 1),
        ("jsonl/rows.jsonl", "line 4: truncated", 1),
        ("parquet/rows.parquet", "not a whole Parquet file", 1),
    ],
)
def test_a_file_that_breaks_off_stops_the_stage_or_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str, workers: int
) -> None:
    set_workers(monkeypatch, workers)
    corpus = _corpus(tmp_path / "raw")
    file = corpus / name
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(UserError) as problem:
        _run(_config(corpus), tmp_path / "stopped")
    message = str(problem.value)
    assert message.startswith(f"{file}: ")
    assert place in message
    assert message.endswith("get the file again, or set extract.on_damaged=skip to keep the rest")
    assert "\n" not in message
    if name.startswith("parquet"):  # nothing of it can be read
        (corpus / "parquet" / "whole.parquet").write_bytes(_parquet(tmp_path))
    metrics = _run(_config(corpus, on_damaged="skip"), tmp_path / "skipped")
    assert metrics["dropped"]["damaged_file"] == 1
    (reject,) = (
        document
        for document in read_documents(tmp_path / "skipped", "rejects")
        if document.metadata["rule"] == "damaged_file"
    )
    assert place in reject.metadata["failure"]
    assert str(tmp_path) not in json.dumps(reject.metadata)


def _parquet(folder: Path) -> bytes:
    pq.write_table(pa.table({"text": ["a"]}), folder / "x.parquet")
    return (folder / "x.parquet").read_bytes()


def test_a_bad_record_is_kept_and_many_stop_the_stage(tmp_path: Path) -> None:
    (tmp_path / "jsonl").mkdir()
    file = tmp_path / "jsonl" / "a.jsonl"
    file.write_bytes(
        b'{"text": "good \\ud83d\\ude00"}\n{"text": "caf\xe9"}\n{"text": "half \\ud800"}\n{"text": "fine"}\n'
    )
    metrics = _run(_config(tmp_path, ("jsonl",), max_failure_rate=0.5), tmp_path / "out")
    assert metrics["dropped"] == {"failure/encoding": 2}
    assert [document.text for document in read_documents(tmp_path / "out")] == ["good 😀", "fine"]
    assert [document.text for document in read_documents(tmp_path / "out", "rejects")][1] == "half \\ud800"
    with pytest.raises(UserError, match=r"extract\.sources\.my-jsonl .*: 2 of 4 records cannot be read \(failure/enc"):
        _run(_config(tmp_path, ("jsonl",)), tmp_path / "strict")


def test_one_source_cannot_hide_behind_another(tmp_path: Path) -> None:
    corpus = _corpus(tmp_path / "raw")
    (corpus / "jsonl" / "rows.jsonl").write_text('{"title": "no text"}\n')
    with pytest.raises(UserError, match=r"my-jsonl .*1 of 1 records cannot be read"):
        _run(_config(corpus, max_failure_rate=0.5), tmp_path / "a")
    with pytest.raises(UserError, match=r"1 records \(failure/field 1\), as my-jsonl/rows.jsonl/1 \(text is missing"):
        _run(_config(corpus, max_failure_rate=1), tmp_path / "c")
    (corpus / "jsonl" / "rows.jsonl").write_text("\n")
    with pytest.raises(
        UserError, match=r"my-jsonl .*no document among 0 records \(the files are empty\); is jsonl the"
    ):
        _run(_config(corpus), tmp_path / "b")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no source is named"):
        _run(ExtractConfig(), tmp_path / "out")
    with pytest.raises(UserError, match="none/web: no such file"):
        _run(_config(tmp_path / "none", ("web",)), tmp_path / "out")


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "webb", "paths": ["x"]},
        {"kind": "web", "paths": []},
        {"kind": "web", "paths": ["x"], "text_field": "of another kind"},
    ],
)
def test_what_no_source_is_is_refused(source: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExtractConfig.model_validate({"sources": {"a": source}})


def test_names_that_cannot_be_part_of_an_id_are_refused() -> None:
    with pytest.raises(ValidationError):
        ExtractConfig.model_validate({"sources": {"a/b": {"kind": "web", "paths": ["x"]}}})


def _rows_of_one_text(path: Path, rows: int, characters: int, **columns: str) -> None:
    """A table that says the same again and again, which takes next to no room."""

    def same(value: str) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value]))

    pq.write_table(pa.table({"text": same("x" * characters), **{k: same(v) for k, v in columns.items()}}), path)


def test_a_file_gives_no_more_than_one_of_its_size_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _rows_of_one_text(tmp_path / "a.parquet", 3000, 10)
    options = {"kind": "parquet", "paths": [str(tmp_path / "a.parquet")]}
    monkeypatch.setattr(stage, "RECORDS", 0)
    set_workers(monkeypatch, 1)
    size = (tmp_path / "a.parquet").stat().st_size
    for config, bound in (({}, size), ({"most_decoded": lambda _: 500}, 50)):
        for name, value in config.items():
            monkeypatch.setattr(stage, name, value)
        out = tmp_path / str(bound)
        out.mkdir()
        chosen = ExtractConfig.model_validate({"sources": {"s": options}, "on_damaged": "skip", "max_failure_rate": 1})
        metrics = extract(chosen, {}, out).written()
        assert metrics["documents_out"] == bound
        assert metrics["dropped"] == {"damaged_file": 1}


def test_metadata_is_kept_as_deep_as_is_reasonable(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "words", "id": ' + "[" * 900 + "]" * 900 + ', "title": [["a"]]}\n')
    out = tmp_path / "out"
    out.mkdir()
    options = {"kind": "jsonl", "paths": [str(tmp_path / "a.jsonl")]}
    extract(ExtractConfig.model_validate({"sources": {"s": options}}), {}, out)
    (document,) = read_documents(out)
    assert document.metadata["title"] == [["a"]]
    assert "nested too deep" in json.dumps(document.metadata["id"])


def _never(payload: object) -> Extracted:
    while True:
        pass


def test_what_records_take_together_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.warc").write_bytes(b"".join(warc_record(f"http://h/{n}", page("slow")) for n in range(200)))
    monkeypatch.setattr(web, "_extract", _never)
    monkeypatch.setattr(stage, "SECONDS", 1.0)
    monkeypatch.setattr(stage, "SECONDS_PER_MEGABYTE", 0.0)
    set_workers(monkeypatch, 1)
    out = tmp_path / "out"
    out.mkdir()
    options = {"kind": "web", "paths": [str(tmp_path / "a.warc")]}
    chosen = {"sources": {"s": options}, "on_damaged": "skip", "max_failure_rate": 1, "max_record_seconds": 0.4}
    with pytest.raises(UserError, match="no document among"):
        extract(ExtractConfig.model_validate(chosen), {}, out)
    failures = [document.metadata["failure"] for document in read_documents(out, "rejects")]
    assert len(failures) < 200
    assert failures[-1].endswith("records that take longer than all of a file of this size should")


def test_each_document_says_what_it_is_by_its_kind_or_by_the_recipe(tmp_path: Path) -> None:
    folder = _corpus(tmp_path / "raw")
    config = _config(folder)
    extract(config, {}, tmp_path / "a")
    kinds = {"web": "web", "wiki": "reference", "book": "prose", "jsonl": "prose", "parquet": "prose"}
    found = {document.metadata["source"]: document.metadata["profile"] for document in read_documents(tmp_path / "a")}
    assert found == {f"my-{kind}": profile for kind, profile in kinds.items()}
    values = config.model_dump(mode="json")
    for source in values["sources"].values():
        source["profile"] = "maths"
    extract(ExtractConfig.model_validate(values), {}, tmp_path / "b")
    assert {document.metadata["profile"] for document in read_documents(tmp_path / "b")} == {"maths"}


def test_what_lies_beside_the_data_is_passed_over_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_workers(monkeypatch, 1)
    notes: list[str] = []
    monkeypatch.setattr(events, "note", notes.append)
    corpus = _corpus(tmp_path / "raw")
    whole = _run(_config(corpus), tmp_path / "whole")
    for name in (
        *(
            "web/a.cdx",
            "web/index/b.cdx.gz",
            "web/robots.txt",
            "wiki/dump.xml.md5",
            "wiki/SHA256SUMS",
            "book/README.md",
        ),
        *("book/LICENSE", "jsonl/README", "jsonl/rows.jsonl.sha256", "parquet/_SUCCESS", "parquet/_metadata"),
        *("jsonl/load.py", "jsonl/figure.png", "parquet/_delta_log/00.json", "parquet/metadata/v1.metadata.json"),
    ):
        (corpus / name).parent.mkdir(exist_ok=True)
        (corpus / name).write_bytes(b"no data at all, and long enough to be taken for text. " * 9)
    metrics = _run(_config(corpus), tmp_path / "out")
    assert {**metrics, "bytes_in": 0} == {**whole, "bytes_in": 0}
    assert notes[0] == "extract.sources.my-book: 2 files are passed over by name (LICENSE, README.md)"
    assert len(notes) == 5
    source = {"kind": "book", "paths": [str(corpus / "book" / "README.md")]}
    assert _run(ExtractConfig.model_validate({"sources": {"a": source}}), tmp_path / "one")["documents_out"] == 1
    index = {"kind": "web", "paths": [str(corpus / "web/index")]}
    with pytest.raises(UserError, match=r"extract.sources.a: .*: no data beside b\.cdx\.gz; name a file itself"):
        _run(ExtractConfig.model_validate({"sources": {"a": index}}), tmp_path)
