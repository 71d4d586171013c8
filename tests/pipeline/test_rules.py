"""Every kind of source and every rule, each with an example: the account is exact, and names them.

What the code knows is in its own tables: kinds of sources in `pipeline.sections`, rules in `pipeline.tasks.rules`. Who
adds one without an example here is told so.
"""

from __future__ import annotations

import ast
import bz2
import gzip
import io
import json
import os
import re
import signal
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document

from bench.fidelity.written import PAGES, page_of
from pipeline.clean.blocklist import FastURLFilter
from pipeline.clean.filters import BUILDERS
from pipeline.clean.masking import FastPII
from pipeline.clean.mending import FastFTFY
from pipeline.clean.section import GROUPS, SWITCHES, CleanConfig
from pipeline.clean.stage import clean
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.stage import dedup
from pipeline.extract import extract
from pipeline.recall.quality import quality
from pipeline.recall.section import QualityConfig
from pipeline.sections import ExtractConfig, Source
from pipeline.sources import web
from pipeline.tasks.documents import SCHEMA, read_documents
from pipeline.tasks.guard import renew
from pipeline.tasks.ledger import Account, DocumentMetrics
from pipeline.tasks.rules import CUTS, REJECTS, rule_of
from tests.pipeline.corpus import set_workers, words, write_documents
from tests.pipeline.removal.test_removed import _ask
from tests.pipeline.sources.raw import warc_record, wiki_dump, wiki_page
from tests.pipeline.sources.test_epub import ENCRYPTED, _page, _with, epub
from tests.pipeline.sources.test_subtitles import FILM, LIVE

PROSE = "The harbour of the old town lies open to the west, and the wind comes in with the tide. " * 4
RECORD_BYTES = 100_000
_RULE = re.compile(r"failure/[a-z]+|too_[a-z_]+|damaged_[a-z]+")
LARGE = "a" * (RECORD_BYTES + 1)


class Input(NamedTuple):
    """A source: its files, and what its account must have."""

    kind: str
    files: dict[str, bytes]
    characters: int
    """Of all records that are decoded."""
    rejects: set[str]
    cuts: set[str]
    options: dict[str, Any] = {}  # noqa: RUF012  (a tuple's default is not written to)


def _web() -> Iterator[Input]:
    whole = page_of(PAGES["article"][0])
    nested = "<div>" * 1100 + PROSE
    plain = f"{PROSE}  \n\n\n\n\n{PROSE}"
    broken = {kind: f"<p>{kind} {PROSE}" for kind in ("CRASH", "LEAVE", "MEMORY", "BREAK", "SPIN")}
    records = [
        warc_record("http://h/a", whole.encode()),
        warc_record("http://h/b", b"<p>short"),
        warc_record("http://h/c", b"", http="404 Not Found"),
        warc_record("http://h/d", b"x", type="image/png"),
        warc_record("http://h/e", b"x", http=""),
        warc_record("http://h/f", b"x", http="", type="application/http"),
        warc_record("http://h/g", LARGE.encode()),
        warc_record("http://h/h", b"\x01\x02\x03\0" * 99),
        warc_record("http://h/i", nested.encode()),
        warc_record("http://h/j", plain.encode(), type="text/plain"),
    ]
    members = [gzip.compress(record) for record in records]
    damaged = bytearray(members[0])
    damaged[30:60] = b"\xff" * 30
    files = {"a.warc.gz": b"".join([*members, bytes(damaged), members[1]])}
    rejects = {"too_short", "status/404", "type", "not_http", "failure/http", "too_large", "failure/encoding"}
    rejects |= {"failure/nested", "failure/damaged"}
    characters = len(whole) + 2 * len("<p>short") + len(plain)
    yield Input("web", files, characters, rejects, {"navigation", "markup", "whitespace"})
    bad = [warc_record(f"http://h/{kind}", text.encode()) for kind, text in broken.items()]
    guarded = {f"failure/{how}" for how in ("crash", "memory", "text", "timeout")}
    yield Input("web", {"b.warc": b"".join([*bad, records[0]])}, len(whole), guarded, {"navigation", "markup"})
    yield Input("web", {"c.warc.gz": members[0] + members[0][:90]}, len(whole), {"damaged_file"}, {"navigation"})


def _wiki() -> Iterator[Input]:
    markup = (
        f"'''A''' {PROSE}<!-- c -->{{{{stub|x}}}}<ref>r</ref>[[Datei:a.png|thumb|x]][[en:Town]]"
        "<templatedata>{}</templatedata>\n{|\n| a\n|}\n== Einzelnachweise ==\n* [[a]]"
    )
    pages = [
        wiki_page("A", markup.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")),
        wiki_page("B", "x", redirect="A"),
        wiki_page("C", "x", namespace=6),
        wiki_page("D", "x").replace("<text>", "<model>json</model><text>"),
        wiki_page("E", "x"),
        wiki_page("F", LARGE),
        wiki_page("G", "x").replace("<ns>0</ns>", "<ns>0</xx>"),
        wiki_page("H", "x").replace("<text>x</text>", '<text bytes="9" />'),
    ]
    rejects = {"redirect", "namespace/6", "model/json", "too_short", "too_large", "failure/xml", "failure/stub"}
    cuts = {"title", "comments", "templates", "references", "media", "interlanguage", "tables", "sections", "tags"}
    files = {"dump.xml.bz2": bz2.compress(wiki_dump(*pages))}
    yield Input("wiki", files, len(markup) + 4, rejects, {*cuts, "markup"})


def _book() -> Iterator[Input]:
    start = "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n"
    text = (
        f"Title: X\n\n{start}Produced by Jane Doe\n\n\nCHAPTER 1\n\n{PROSE}\n\n{start.replace('START', 'END')}Licence."
    )
    truncated = f"Title: X\n\n{start}CHAPTER 1\n\n{PROSE}"
    files = {"a.txt": text.encode(), "b.txt": b"x", "c.txt": LARGE.encode(), "d.txt": truncated.encode()}
    files |= {"e.pdf": b"%PDF-1.7 x", "f.txt": b"\x01\x02\xff\0" * 99}
    formats = {
        "g.html": f"<html><body><h1>A</h1><p>{PROSE}</p></body></html>",
        "h.md": f"# A\n\n{PROSE}",
        "i.rtf": f"{{\\rtf1\\ansi {PROSE}}}",
    }
    files |= {name: each.encode() for name, each in formats.items()}
    rejects = {"too_short", "too_large", "failure/truncated", "failure/format", "failure/encoding"}
    characters = len(text) + 1 + len(truncated) + sum(map(len, formats.values()))
    yield Input("book", files, characters, rejects, {"licence", "credits", "markup"})
    whole = epub({"a": _page("One"), "b": _page("Two"), "c": _page("Notes")})
    reference = '<itemref idref="i2"/>'
    notes = '<itemref idref="i2" linear="no"/><itemref idref="gone"/>'
    whole = _with(whole, "EPUB/package.opf", reference, notes)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.txt", "x")
    locked = epub({"a": _page("One")}, {"META-INF/encryption.xml": ENCRYPTED})
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        pages = [name for name in archive.namelist() if name.startswith("EPUB/") and not name.endswith("opf")]
        characters = sum(len(archive.read(name).decode()) for name in pages)
    files = {"a.epub": whole, "b.epub": zipped.getvalue(), "c.epub": locked}
    rejects = {"missing_chapter", "failure/epub", "failure/encrypted"}
    yield Input("book", files, characters, rejects, {"navigation", "auxiliary", "markup"})


def _code() -> Iterator[Input]:
    body = "".join(f"def f{n}(x):\n    return x + {n}\n" for n in range(9))
    marked = f"# {'m' * 60}\n{body}"
    texts = {
        **{
            "a.py": body,
            "b.py": "x = 1\n",
            "c.py": f"# generated by protoc\n{body}",
            "d.py": f"# {'a' * 1200}\n{body}",
        },
        **{"e.py": f"# {'a' * 300}\n", "f.py": "1 + 2\n" * 40, "g.json": '{"key": "value"}\n' * 400},
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in {**texts, "a.png": "x", "vendor/a.py": body, "h.py": LARGE, "i.py": marked}.items():
            archive.writestr(name, text)
        archive.writestr("j.py", b"\x01\x02\x03\0" * 99)
    content = data.getvalue().replace(marked.encode(), marked.replace("m", "n").encode())
    rejects = {"too_short", "generated", "long_line", "long_lines", "few_letters", "data", "language", "skipped"}
    rejects |= {"too_large", "failure/archive", "failure/encoding"}
    yield Input("code", {"a.zip": content}, sum(map(len, texts.values())), rejects, set())


def _rows() -> Iterator[Input]:
    texts = [PROSE, f"{PROSE}\0", "x", words(7, 90)]
    odd = ['{"text": 5}', "no json", json.dumps({"text": LARGE})]
    lines = "".join(f"{line}\n" for line in [*(json.dumps({"text": text}) for text in texts), *odd]).encode()
    files = {"a.jsonl": lines + b'{"text": "caf\xe9"}\n'}
    rejects = {"too_short", "failure/field", "failure/json", "too_large", "failure/encoding", "removed"}
    characters = sum(map(len, texts)) + len("no json") + len('{"text": "caf\\xe9"}')
    yield Input("jsonl", files, characters, rejects, {"nul_bytes"}, {"min_characters": 5})
    table = io.BytesIO()
    pq.write_table(pa.table({"text": [PROSE, "x", LARGE]}), table)
    rejects = {"too_short", "too_large"}
    yield Input("parquet", {"a.parquet": table.getvalue()}, len(PROSE) + 1, rejects, set(), {"min_characters": 5})
    csv = f'text,id\n"{PROSE}",1\n"{"x" * 3 * RECORD_BYTES}",2\n"{PROSE}",3\n'
    yield Input("dataset", {"train.csv": csv.encode()}, 2 * len(PROSE), {"failure/csv"}, set())


def _subtitles() -> Iterator[Input]:
    files = {"a.srt": FILM, "b.vtt": LIVE, "c.srt": "no cue"}
    encoded = {name: text.encode() for name, text in files.items()}
    cuts, options = {"sounds", "repeated", "markup"}, {"min_characters": 20}
    yield Input("subtitles", encoded, sum(map(len, files.values())), {"failure/subtitles"}, cuts, options)


def _inputs() -> dict[str, Input]:
    found = [each for make in (_web, _wiki, _book, _code, _rows, _subtitles) for each in make()]
    return {f"{each.kind}{number}": each for number, each in enumerate(found)}


def _written(folder: Path, kind: str = "documents") -> dict[str, Counter[str]]:
    """Characters of each source, by rule."""
    found: dict[str, Counter[str]] = {}
    for document in read_documents(folder, kind):
        by_rule = found.setdefault(document.metadata["source"], Counter())
        by_rule[document.metadata.get("rule", "")] += len(document.text)
    return found


def _known(stage: str, accounts: Iterable[Account]) -> tuple[set[str], set[str]]:
    """The rules of a stage that rejected and cut, as the tables have them."""
    accounts = list(accounts)
    rejected = {rule_of(stage, rule, REJECTS) for account in accounts for rule in account.rejected}
    return rejected, {rule_of(stage, rule, CUTS) for account in accounts for rule in account.cut}


def _check_all(stage: str, accounts: Iterable[Account]) -> None:
    """Each rule of a stage had an example, and there was no other."""
    rejected, cut = _known(stage, accounts)
    assert rejected == set(REJECTS[stage])
    assert cut == set(CUTS.get(stage, {}))


def _breaking(page: str, **options: Any) -> Any:
    """`read_page`, but for pages that break it."""
    if "CRASH" in page:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "LEAVE" in page:
        os._exit(0)
    if "MEMORY" in page:
        bytearray(1 << 40)
    if "BREAK" in page:
        raise RecursionError
    while "SPIN" in page:
        pass
    from pipeline.sources.html import read_page

    return read_page(page, **options)


def test_every_reader_and_every_rule_of_extract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_workers(monkeypatch, 1)
    monkeypatch.setattr(web, "read_page", _breaking)
    renew()
    inputs = _inputs()
    sources = {}
    for name, each in inputs.items():
        for file, content in each.files.items():
            (tmp_path / "raw" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "raw" / name / file).write_bytes(content)
        sources[name] = {"kind": each.kind, "paths": [str(tmp_path / "raw" / name)], **each.options}
    out = tmp_path / "out"
    out.mkdir()
    settings = {"max_failure_rate": 1, "max_loss": 1, "max_record_bytes": RECORD_BYTES, "max_record_seconds": 0.5}
    removed = [_ask(tmp_path, words(7, 90))]
    metrics = extract(ExtractConfig.model_validate({"sources": sources, "removed": removed, **settings}), {}, out)
    renew()
    kept = _written(out)
    for name, each in inputs.items():
        account = metrics.by_source[name]
        assert (name, account.unaccounted, account.characters_in) == (name, 0, each.characters)
        assert account.characters_out == kept[name].total() > 0
        assert (name, set(account.rejected)) == (name, each.rejects)
        assert (name, each.cuts - set(account.cut)) == (name, set())
    assert {each.kind for each in inputs.values()} == {
        kind.model_fields["kind"].default for kind in get_args(get_args(Source)[0])
    }
    _check_all("extract", metrics.by_source.values())


class Case(NamedTuple):
    """A document and the rules that it is asked, all others off."""

    rule: str
    text: str
    asked: dict[str, Any]
    url: str = ""
    verbatim: bool = False


def _one_of_each(words_of: list[str], times: int) -> str:
    return " ".join(f"{words_of[0]} {words_of[1]} {other}" for other in words_of[2 : times + 2])


def _repetition() -> Iterator[Case]:
    some = words(3, 400).split()
    long, line = " ".join(some[:60]), " ".join(some[60:70])
    lines = [" ".join(some[n : n + 8]) for n in range(100, 260, 8)]
    texts = {
        "dup_para_frac": "\n\n".join(["a"] * 20 + lines[:10]),
        "dup_para_char_frac": "\n\n".join([long] * 3 + lines[:9]),
        "dup_line_frac": "\n".join(["a"] * 20 + lines[:10]),
        "dup_line_char_frac": "\n".join([long] * 3 + lines[:9]),
        "top_2_gram": _one_of_each(["harbour", "town", *sorted(set(some))], 40),
        "duplicated_5_n_grams": " ".join([line, *lines[:2], line, *lines[2:4], line, *lines[4:6]]),
    }
    for reason, text in texts.items():
        yield Case(f"gopher_repetition/{reason}", text, {"gopher_repetition": True})
    yield Case("gopher_repetition/empty", PROSE, {"gopher_repetition": True}, verbatim=True)


def _gopher() -> Iterator[Case]:
    texts = {
        "short_doc": "two words",
        "below_avg_threshold": "of it to be " * 30,
        "above_avg_threshold": "incomprehensibilities " * 60,
        "too_many_hashes": "the # with # words # " * 30,
        "too_many_ellipsis": "the ... with words " * 30,
        "too_many_bullets": "\n".join(f"- the line with {words(n, 6)}" for n in range(30)),
        "too_many_end_ellipsis": "\n".join(f"the line with {words(n, 40)} …" for n in range(30)),
        "below_alpha_threshold": "the with words 1234 5678 9012 3456 " * 30,
        "enough_stop_words": words(1, 90),
    }
    for reason, text in texts.items():
        yield Case(f"gopher_quality/{reason}", text, {"gopher_quality": True})
    yield Case("gopher_quality/long_doc", PROSE * 9, {"gopher_quality": True, "max_words": 100})


def _lines() -> Iterator[Case]:
    asked = {"c4_quality": True}
    for reason, text in (("curly_bracket", "f(x) = {x} is so."), ("lorem_ipsum", "All of it in Lorem Ipsum.")):
        yield Case(f"c4_quality/{reason}", text, asked)
    yield Case("c4_quality/too_few_sentences", "The ship came home.", asked)
    for reason, line in {
        "javascript": "Your JavaScript is off here.",
        "no_terminal_punc": "Menu",
        "policy": "We use cookies on this site.",
        "too_few_words": "Two words.",
        "too_long_word": "x" * 1001 + " is too long.",
    }.items():
        yield Case(f"c4/lines/{reason}", f"{PROSE}\n{line}\n{PROSE}", asked)
    yield Case("c4/citations", f"{PROSE}It is so [12].\n{PROSE}", {**asked, "citations": True})
    long = "a line of more than thirty characters"
    texts = {
        "line_punct_ratio": f"{long}\n" * 9,
        "short_line_ratio": "A short line.\n" * 9,
        "char_dup_ratio": f"{long}.\n" * 9,
        "list_ratio": "\n".join(f"{word * 8}." for word in sorted({*words(4, 60).split()})),
    }
    for reason, text in texts.items():
        asked = {"fineweb_quality": True} | ({"short_lines": 1.0} if reason == "list_ratio" else {})
        yield Case(f"fineweb_quality/{reason}", text, asked)
    yield Case("fineweb_quality/empty", PROSE, {"fineweb_quality": True}, verbatim=True)


def _addresses() -> Iterator[Case]:
    rule = FastURLFilter()
    hosts = (line.decode() for line in rule.block_listed_domains._bytes[:100_000].split(b"\n"))
    listed = (line.decode() for line in rule.block_listed_url._bytes[:100_000].split(b"\n"))
    tried = {
        "domain": (f"http://{host}/" for host in hosts),
        "subdomain": (f"http://{host}/" for host in hosts),
        "url": listed,
        "hard_blacklisted": ("http://example.com/xxx-porn/a",),
        "soft_blacklisted": (f"http://example.com/{'-'.join(sorted(rule.soft_banned_words)[:5])}",),
        "blacklisted_subword": (f"http://example.com/{word}" for word in sorted(rule.banned_subwords)),
    }
    for reason, addresses in tried.items():
        url = next(url for url in addresses if _verdict(rule, url) == reason)
        yield Case(f"url/{reason}", PROSE, {"url": True}, url)


def _verdict(rule: FastURLFilter, url: str) -> str:
    found = rule.filter(Document(text="", id="", metadata={"url": url}))
    return found[1] if isinstance(found, tuple) else ""


def _others() -> Iterator[Case]:
    yield Case("empty", " \n ", {})
    german = "Der alte Hafen der Stadt liegt nach Westen offen, und der Wind kommt mit der Flut herein. "
    yield Case("language/other", german * 4, {"language": True})
    yield Case("language/unsure", "la la la", {"language": True, "languages": [], "language_threshold": 1.0})
    yield Case("mended", "caf\u00c3\u00a9 au lait", {"fix_encoding": True})
    yield Case("masked", "Write to jane@corp.io at any time.", {"pii": True})
    for group in GROUPS:
        yield Case(f"failure/{group}", PROSE, {group: True, "max_words": 99_999}, "http://example.com/")
    yield Case("failure/encoding", "BREAK caf\u00c3\u00a9", {"fix_encoding": True})
    yield Case("failure/pii", "BREAK jane@corp.io", {"pii": True})
    yield Case("failure/crash", "CRASH caf\u00c3\u00a9", {"fix_encoding": True})
    yield Case("failure/timeout", "SPIN caf\u00c3\u00a9", {"fix_encoding": True})


def _break_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rules break on the documents that say so."""
    for kind in (FastFTFY, FastPII):
        monkeypatch.setattr(kind, "format", _before(kind.format))
    for group, build in list(BUILDERS.items()):
        monkeypatch.setitem(BUILDERS, group, _broken_builder(build))


def _before(then: Any) -> Any:
    def broken(self: Any, text: str) -> str:
        if "CRASH" in text:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "BREAK" in text:
            raise ZeroDivisionError
        while "SPIN" in text:
            pass
        return str(then(self, text))

    return broken


def _broken_builder(build: Any) -> Any:
    def built(rules: Any, language: str) -> Any:
        made = build(rules, language)
        if rules.max_words == 99_999:
            made.filter = lambda document: 1 / 0 if document.text == PROSE else True
        return made

    return built


def _case_documents(folder: Path, cases: Mapping[str, Case]) -> Path:
    rows = [
        {
            "id": name,
            "text": case.text,
            "source": name,
            "url": case.url,
            "metadata": json.dumps({"profile": "web", "verbatim": [[0, len(case.text)]] if case.verbatim else []}),
        }
        for name, case in cases.items()
    ]
    (folder / "documents").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "documents" / "00000.parquet")
    return folder


def test_every_rule_of_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_workers(monkeypatch, 1)
    _break_rules(monkeypatch)
    renew()
    made = [case for make in (_repetition, _gopher, _lines, _addresses, _others) for case in make()]
    cases = {f"{number}.{case.rule.replace('/', '.')}": case for number, case in enumerate(made)}
    off = dict.fromkeys(SWITCHES, False)
    asked = {name: off | case.asked for name, case in cases.items()}
    config = {"rules_by_source": asked, "max_loss": 1, "max_failures": 1, "max_document_seconds": 0.5}
    (tmp_path / "out").mkdir()
    metrics = clean(
        CleanConfig.model_validate(config), {"extract": _case_documents(tmp_path / "in", cases)}, tmp_path / "out"
    )
    renew()
    for name, case in cases.items():
        account = metrics.by_source[name]
        assert (name, account.unaccounted, account.characters_in) == (name, 0, len(case.text))
        assert (name, [*account.rejected, *account.cut]) == (name, [case.rule])
    kept = _written(tmp_path / "out")
    assert {name: account.characters_out for name, account in metrics.by_source.items() if account.documents_out} == {
        name: by_rule.total() for name, by_rule in kept.items()
    }
    _check_all("clean", metrics.by_source.values())


def test_every_rule_of_dedup_and_quality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_workers(monkeypatch, 1)
    whole = words(1, 300)
    shared = " ".join(f"{words(n, 12).capitalize()}." for n in range(50, 54))
    texts = [whole, whole, whole.upper(), f"{whole} once more", f"{words(2, 200)}. {shared} {words(3, 200)}."]
    texts.append(f"{words(4, 200)}. {shared} {words(5, 200)}.")
    little = " ".join(f"{words(n, 12).capitalize()}." for n in range(60, 63))
    texts += [f"{little} {words(n, 45)}." for n in (6, 7)]
    rows = [(str(number), "a", text) for number, text in enumerate(texts)]
    (tmp_path / "dedup").mkdir()
    config = DedupConfig(sentences=True, max_loss=1)
    metrics = dedup(config, {"clean": write_documents(tmp_path / "in", rows)}, tmp_path / "dedup")
    _check_exact(metrics, tmp_path / "dedup", sum(map(len, texts)))
    _check_all("dedup", metrics.by_source.values())

    (tmp_path / "good.jsonl").write_text("".join(json.dumps({"text": words(n, 40)}) + "\n" for n in range(9)))
    classifier = {"buckets": 1000, "dim": 8, "min_count": 1}
    asked = QualityConfig.model_validate(
        {"positive": [str(tmp_path / "good.jsonl")], "keep": 0.5, "classifier": classifier}
    )
    (tmp_path / "quality").mkdir()
    metrics = quality(asked, {"dedup": write_documents(tmp_path / "more", rows)}, tmp_path / "quality")
    _check_exact(metrics, tmp_path / "quality", sum(map(len, texts)))
    _check_all("quality", metrics.by_source.values())


def _check_exact(metrics: DocumentMetrics, out: Path, characters: int) -> None:
    (account,) = metrics.by_source.values()
    assert (account.unaccounted, account.characters_in) == (0, characters)
    assert account.characters_out == _written(out)["a"].total()
    rejected = {rule: amount.characters for rule, amount in account.rejected.items()}
    assert rejected == dict(_written(out, "rejects")["a"])


def test_every_name_of_a_rule_in_the_code_is_in_the_tables() -> None:
    files = [*Path("pipeline/sources").rglob("*.py"), Path("pipeline/extract.py"), *Path("pipeline/clean").glob("*.py")]
    known = {part for table in (REJECTS, CUTS) for rules in table.values() for rule in rules for part in _ends(rule)}
    unknown = {f"{file}: {name}" for file in files for name in _names(ast.parse(file.read_text())) if name not in known}
    assert unknown == set()


def _ends(rule: str) -> set[str]:
    return {rule, rule.rpartition("/")[2], f"gopher_{rule.rpartition('/')[2]}"}


def _names(tree: ast.Module) -> Iterator[str]:
    """What is called like a rule among all that is returned, yielded, raised, counted as cut, and bound to `rule`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name("note_record"), keywords=keywords):
                yield from (each.arg for each in keywords if each.arg)
            case ast.Subscript(value=ast.Name("cut" | "cuts"), slice=ast.Constant(str() as name)):
                yield name
            case ast.Return() | ast.Yield() | ast.Raise() | ast.Assign():
                constants = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
                yield from (each for each in constants if isinstance(each, str) and _RULE.fullmatch(each))
