"""Files that cost more than they should, of any size, and how each is read; for the tests and for `bench.hostile`."""

from __future__ import annotations

import bz2
import gzip
import io
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.storage import ExternalFile
from pipeline.sections import (
    BookSource,
    CodeSource,
    DatasetSource,
    JsonlSource,
    ParquetSource,
    WebSource,
    WikiSource,
)
from pipeline.sources import book, code, dataset, jsonl, parquet, web, wiki
from pipeline.sources.stream import Damaged, Limits, Part
from tests.pipeline.sources.raw import warc_record, wiki_dump, wiki_page
from tests.pipeline.sources.test_epub import epub

XML = '<?xml version="1.0"?>'


__all__ = ["LIMITS", "READERS", "Reader", "extended", "header", "member", "overlapping"]

LIMITS = Limits(bytes=4_000_000, seconds=1.0)
WORDS = "The harbour lies open to the west, and the wind comes in with the tide. "


@dataclass(frozen=True)
class Reader:
    """A way to read hostile files."""

    module: Any
    source: Any
    name: str
    """Of the file."""
    make: Callable[[int], bytes]
    """Its bytes, `size` of them or of what they become."""
    size: int = 100_000
    guarded: bool = False
    """C code that is not ours reads it: where its work is not linear, the limit of a record is its bound."""

    def read(self, path: Path, limits: Limits = LIMITS) -> int:
        """Read the file at `path`; how many records that were."""
        file = ExternalFile(str(path), self.name, path.stat().st_size)
        count = 0
        try:
            for _ in self.module.read(self.source, Part(file), limits):
                count += 1
        except Damaged:
            pass
        return count


def _web(make: Callable[[int], bytes], **more: Any) -> Reader:
    return Reader(web, WebSource(paths=("x",)), "a.warc", make, **more)


def _html(before: str, unit: str, after: str = "") -> Reader:
    def make(size: int) -> bytes:
        return warc_record("http://h/a", (before + unit * (size // len(unit)) + after).encode())

    return _web(make, guarded=True, size=50_000)


def _wiki(before: str, unit: str, after: str = "") -> Reader:
    def make(size: int) -> bytes:
        text = (before + unit * (size // len(unit)) + after).replace("&", "&amp;").replace("<", "&lt;")
        return wiki_dump(wiki_page("A", text.replace(">", "&gt;")))

    return Reader(wiki, WikiSource(paths=("x",)), "a.xml", make, size=20_000)


def _book(make: Callable[[int], bytes], name: str = "a.epub", **more: Any) -> Reader:
    return Reader(book, BookSource(paths=("x",)), name, make, **more)


def _markup(name: str, before: str, unit: str, after: str = "") -> Reader:
    def make(size: int) -> bytes:
        return (before + unit * (size // len(unit)) + after).encode()

    return _book(make, name, size=20_000, guarded=True)


def _lines(before: bytes, unit: bytes, after: bytes = b"") -> Reader:
    return Reader(jsonl, JsonlSource(paths=("x",)), "a.jsonl", lambda size: before + unit * (size // len(unit)) + after)


def _csv(make: Callable[[int], bytes]) -> Reader:
    return Reader(dataset, DatasetSource(paths=("x",)), "a.csv", make)


def _code(name: str, make: Callable[[int], bytes], **more: Any) -> Reader:
    return Reader(code, CodeSource(paths=("x",)), name, make, **more)


def header(kind: bytes, size: int, name: str = "a") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def extended(kind: bytes, data: bytes) -> bytes:
    return header(kind, len(data)) + data + bytes(-len(data) % 512)


def member(name: str = "a.py", content: bytes = b"abc = de\n" * 20) -> bytes:
    return header(tarfile.REGTYPE, len(content), name) + content + bytes(-len(content) % 512)


def _tar(unit: Callable[[], bytes]) -> Callable[[int], bytes]:
    return lambda size: unit() * (size // len(unit())) + bytes(1024)


def _records(size: int) -> bytes:
    """Of a pax header, each of which tells too little of its own length."""
    return b"2 " * (size // 2) + b"="


def overlapping(count: int, size: int, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive that lists one member of `size` bytes `count` times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.py", b"abc = de\n" * (size // 9))
    content = buffer.getvalue()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    listed = content[start:end] * count
    return content[:start] + listed + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(listed), start, 0)


def _zip(size: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(size // 100):
            archive.writestr(f"{number}.py", b"")
    return buffer.getvalue()


def _spine(size: int) -> bytes:
    """A book whose one page is listed again and again."""
    buffer = io.BytesIO()
    whole = io.BytesIO(epub({"a": f"<html><body><p>{WORDS * 20}</p></body></html>"}))
    with zipfile.ZipFile(whole) as good, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in good.namelist():
            content = good.read(name).decode()
            if name.endswith(".opf"):
                begin = content.index("<itemref")
                reference = content[begin : content.index(">", begin) + 1]
                content = content.replace(reference, reference * (size // len(reference)))
            archive.writestr(name, content)
    return buffer.getvalue()


def _table(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _same(value: str, count: int) -> Any:
    """A column of one value, which a file holds once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([value]))


def _parquet(make: Callable[[int], bytes], **more: Any) -> Reader:
    return Reader(parquet, ParquetSource(paths=("x",)), "a.parquet", make, **more)


def _arrow(size: int) -> bytes:
    buffer = io.BytesIO()
    table = pa.table({"text": ["x"] * (size // 10)})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(buffer, table.schema, options=options) as out:
        out.write_table(table)
    return buffer.getvalue()


def _corrupt(size: int) -> bytes:
    """Members of gzip, each broken."""
    member = bytearray(gzip.compress(WORDS.encode(), mtime=0))
    member[-6] ^= 0x55
    return bytes(member) * (size // len(member))


_ENTITY = '<!ENTITY a "b">'
READERS: dict[str, Reader] = {
    "warc: one long header": _web(lambda size: b"WARC/1.0\r\nA: " + b"b" * size + b"\r\n\r\n"),
    "warc: many headers": _web(lambda size: b"WARC/1.0\r\n" + b"A: b\r\n" * (size // 6) + b"\r\n"),
    "warc: folded headers": _web(
        lambda size: b"WARC/1.0\r\nA: b\r\n" + (b" " + b"b" * 999 + b"\r\n") * (size // 1002) + b"\r\n", size=200_000
    ),
    "warc: empty lines": _web(lambda size: b"\r\n" * (size // 2), size=1_000_000),
    "warc: records of other kinds": _web(lambda size: warc_record("h", b"", kind="request") * (size // 200)),
    "warc: small records": _web(lambda size: warc_record("http://h/a", b"<p>a") * (size // 250)),
    "warc: no record": _web(lambda size: b"x" * size, size=1_000_000),
    "warc.gz: empty members": Reader(
        web, WebSource(paths=("x",)), "a.warc.gz", lambda size: gzip.compress(b"", mtime=0) * (size // 20)
    ),
    "warc.gz: corrupt members": Reader(web, WebSource(paths=("x",)), "a.warc.gz", _corrupt, size=20_000),
    "http: headers": _web(lambda size: warc_record("http://h/a", b"", http="200 OK" + "\r\nA: b" * (size // 6))),
    "http: chunks": _web(
        lambda size: warc_record(
            "http://h/a", b"1\r\na\r\n" * (size // 6) + b"0\r\n\r\n", http="200 OK\r\nTransfer-Encoding: chunked"
        )
    ),
    "http: chunks that break off": _web(
        lambda size: warc_record("http://h/a", b"1\na\n" * (size // 4), http="200 OK\r\nTransfer-Encoding: chunked")
    ),
    "http: small members": _web(
        lambda size: warc_record(
            "http://h/a", gzip.compress(b"a", mtime=0) * (size // 21), http="200 OK\r\nContent-Encoding: gzip"
        )
    ),
    "http: empty members": _web(
        lambda size: warc_record(
            "http://h/a", gzip.compress(b"", mtime=0) * (size // 20), http="200 OK\r\nContent-Encoding: gzip"
        )
    ),
    "http: corrupt from some byte on": _web(
        lambda size: warc_record(
            "http://h/a", b"\x78\x9c\x01" + b"\xff" * size, http="200 OK\r\nContent-Encoding: deflate"
        )
    ),
    "http: responses before": _web(
        lambda size: warc_record("http://h/a", b"HTTP/1.1 100 Continue\r\n\r\n" * (size // 25), http="100 Continue")
    ),
    "http: a bomb": _web(
        lambda size: warc_record("http://h/a", gzip.compress(bytes(50 * size)), http="200 OK\r\nContent-Encoding: gzip")
    ),
    "html: paragraphs": _html("", "<p>words and more words"),
    "html: attributes": _html("<a ", "b=c ", ">words"),
    "html: different attributes": _web(
        lambda size: warc_record("http://h/a", f"<a {' '.join(f'b{n}=c' for n in range(size // 8))}>".encode()),
        guarded=True,
    ),
    "html: links within links": _html("", "<a href=b>"),
    "html: formatting left open": _html("", "<b><i><p>"),
    "html: formatting across": _html("", "<b><p></b>"),
    "html: tables": _html("", "<table><tr><td>"),
    "html: depth": _html("", "<div>", WORDS),
    "html: depth again and again": _html("", "<div>" * 900 + "a" + "</div>" * 900),
    "html: comments": _html("", "<!--"),
    "html: entities": _html("", "&amp"),
    "html: unknown entities": _html("", "&a"),
    "html: tags without end": _html("", "<"),
    "html: end tags": _html("", "</p>"),
    "html: select": _html("<select>", "<option>a"),
    "html: templates": _html("", "<template>"),
    "html: lists": _html("", "<ul><li>a"),
    "html: elements that close themselves": _html(XML, "<a b='c'/>"),
    "html: open quotes in XHTML": _html(XML, "<a b='"),
    "html: attributes in XHTML": _html(XML + "<a ", "b c='d' ", ">"),
    "html: spaces in XHTML": _html(XML + "<a", " ", "<"),
    "html: character data": _html(XML, "<![CDATA["),
    "html: document types": _html(XML, "<!DOCTYPE a ["),
    "html: comments in a script": _html("<script>", "<!--"),
    "html: scripts in a comment in a script": _html("<script><!--", "<script>"),
    "html: end tags in a comment in a script": _html("<script><!--", "<script></script>-->"),
    "html: formulas": _html("", "<math><mi>x</mi><annotation encoding=tex>y</annotation></math>"),
    "html: formulas left open": _html("", "<math>", "<p>a"),
    "html: one picture of a formula": _html("", "<img class=tex alt='abcdefgh'>"),
    "html: classes": _html("<div class='", "nav-bar ", "'>a"),
    "html: styles": _html("<div style='", "display: ", "'>a"),
    "html: code": _html("", "<pre>a</pre>"),
    "html: rows": _html("<table>", "<tr><td>a<td>b"),
    "html: one paragraph": _html("", f"<p>{WORDS}"),
    "html: inline elements": _html("<p>", "<span>a</span>"),
    "html: spaces": _html("<pre>a", " ", "a"),
    "wiki: templates": _wiki("", "{{"),
    "wiki: arguments": _wiki("{{a", "|b={{c"),
    "wiki: links": _wiki("", "[["),
    "wiki: links in links": _wiki("", "[[a|"),
    "wiki: external links": _wiki("", "[http://a "),
    "wiki: addresses": _wiki("", "http://a"),
    "wiki: quotes": _wiki("", "'''''a"),
    "wiki: tables": _wiki("", "{|\n|-\n|"),
    "wiki: references": _wiki("", "<ref "),
    "wiki: references that end": _wiki("", "<ref>"),
    "wiki: references without an end": _wiki("", "<ref ", ">"),
    "wiki: tags": _wiki("", "<b>"),
    "wiki: comments": _wiki("", "<!--"),
    "wiki: entities": _wiki("", "&#"),
    "wiki: headings": _wiki("", "=a=\n"),
    "wiki: underscores": _wiki("", "__A"),
    "wiki: brackets": _wiki("", " ( "),
    "wiki: links left open in templates": _wiki("", "{{a|[["),
    "wiki: braces": _wiki("", "{", "}"),
    "wiki: braces that close": _wiki("", "{{{a}}"),
    "wiki: templates in templates": _wiki("{{lang|de|" * 30, "{{nowrap|", "}}" * 30),
    "wiki: quantities": _wiki("", "{{convert|1|km}}"),
    "wiki: a long name of a template": _wiki("{{", "a ", "}}"),
    "wiki: holes": _wiki("a", " {{x}} ,", "b"),
    "wiki: holes in brackets": _wiki("", "({{x}}"),
    "wiki: holes and commas": _wiki(",", "{{x}},"),
    "wiki: holes in a row": _wiki("a" * 20_000 + " , " * 5_000, "{{x}}"),
    "wiki: variants": _wiki("", "-{zh-hans:a;", "}-"),
    "wiki: headings with nothing below": _wiki("", "=a=\n\n"),
    "wiki: numbered items": _wiki("", "#a\n"),
    "wiki: deeper items": _wiki("", "*#"),
    "wiki: terms": _wiki("", ";a:b\n"),
    "wiki: tables left open": _wiki("", "{|\n"),
    "wiki: cells": _wiki("{|\n", "|a||"),
    "wiki: attributes": _wiki("{|\n", "|a"),
    "wiki: nowiki": _wiki("", "<nowiki>"),
    "wiki: code": _wiki("", "<code>"),
    "wiki: code that ends": _wiki("", "<code>[[a]]</code>"),
    "wiki: raised": _wiki("", "<sup>1"),
    "wiki: a heading": _wiki("", "="),
    "wiki: quotes and text": _wiki("", " '''a"),
    "wiki: small pages": Reader(
        wiki,
        WikiSource(paths=("x",)),
        "a.xml",
        lambda size: wiki_dump(*["<page><revision></revision></page>"] * (size // 34)),
    ),
    "wiki: revisions": Reader(
        wiki,
        WikiSource(paths=("x",)),
        "a.xml",
        lambda size: wiki_dump("<page>" + "<revision>a</revision>" * (size // 22) + "</page>"),
    ),
    "wiki: pages without end": Reader(
        wiki, WikiSource(paths=("x",)), "a.xml", lambda size: wiki_dump("<page><revision>" * (size // 16))
    ),
    "epub: one page listed often": _book(_spine),
    "book: end marks": _book(lambda size: b"End of Project Gutenberg\n" * (size // 26), "a.txt"),
    "book: start marks": _book(lambda size: b"*** START OF THE PROJECT GUTENBERG E\n" * (size // 37), "a.txt"),
    "book: headers": _book(lambda size: b"The Project Gutenberg Etext of a by b by c\n\n" * (size // 44), "a.txt"),
    "book: credits": _book(lambda size: b"Produced by a\n\n" * (size // 15), "a.txt"),
    "rtf: groups": _markup("a.rtf", "{\\rtf1", "{\\b "),
    "rtf: fields": _markup("a.rtf", "{\\rtf1", "{\\field{\\*\\fldinst{"),
    "rtf: font tables": _markup("a.rtf", "{\\rtf1{\\fonttbl", "\\f1\\fcharset0 "),
    "rtf: pictures": _markup("a.rtf", "{\\rtf1", "{\\pict\\bin9 "),
    "markdown: brackets": _markup("a.md", "", "["),
    "markdown: stars": _markup("a.md", "", "*a "),
    "markdown: quotes": _markup("a.md", "", "> "),
    "markdown: references": _markup("a.md", "", "[a]: b\n"),
    "xhtml: entities": _book(
        lambda size: epub({"a": f"<!DOCTYPE a [{_ENTITY * (size // 15)}]><a>{'&a;' * (size // 3)}</a>"})
    ),
    "xhtml: doctypes": _book(lambda size: epub({"a": "<!DOCTYPE a [" * (size // 13)})),
    "xhtml: readings": _book(lambda size: epub({"a": f"<html><ruby>{'a<rt>b</rt>' * (size // 11)}</ruby></html>"})),
    "jsonl: empty lines": _lines(b"", b"\n", b'{"text": "a"}\n'),
    "jsonl: small objects": _lines(b"", b"{}\n"),
    "jsonl: depth": _lines(b"", b"[", b"\n"),
    "jsonl: depth of objects": _lines(b"", b'{"a":', b"\n"),
    "jsonl: a long list": _lines(b'{"text": [', b"[],", b"1]}\n"),
    "jsonl: a long number": _lines(b'{"text": ', b"1", b"}\n"),
    "jsonl: escapes": _lines(b'{"text": "', b"\\u0041", b'"}\n'),
    "jsonl: no end": _lines(b'{"text": "', b"a"),
    "csv: many columns and rows": _csv(
        lambda size: b"text" + b",a" * (size // 4) + b"\n" + b"x\n" * (size // 4),
    ),
    "csv: an open quote": _csv(lambda size: b'text\n"' + b"a\n" * (size // 2)),
    "csv: quotes": _csv(lambda size: b"text\n" + b'"' * size),
    "csv: a row without end": _csv(lambda size: b"text\n" + b'"a\n",' * (size // 5)),
    "tar: a pax header": _code("a.tar", lambda size: extended(tarfile.XHDTYPE, _records(size)) + member()),
    "tar: pax headers": _code("a.tar", _tar(lambda: extended(tarfile.XHDTYPE, _records(2000)) + member())),
    "tar: global headers": _code("a.tar", _tar(lambda: extended(tarfile.XGLTYPE, b"9 a1=bcd\n" * 50) + member())),
    "tar: headers of headers": _code("a.tar", _tar(lambda: extended(tarfile.XHDTYPE, b"9 a1=bcd\n"))),
    "tar: a long name": _code("a.tar", lambda size: extended(tarfile.GNUTYPE_LONGNAME, b"a/" * (size // 2)) + member()),
    "tar: long names": _code("a.tar", _tar(lambda: extended(tarfile.GNUTYPE_LONGNAME, b"a/" * 2000) + member())),
    "tar: folders": _code("a.tar", _tar(lambda: header(tarfile.DIRTYPE, 0))),
    "tar: small files": _code("a.tar", _tar(lambda: member("a.py", b""))),
    "tar: sparse files": _code("a.tar", _tar(lambda: header(tarfile.GNUTYPE_SPARSE, 0))),
    "zip: one member listed often": _code("a.zip", lambda size: overlapping(size // 5000, size)),
    "zip: empty members": _code("a.zip", _zip),
    "parquet: one text in many rows": _parquet(lambda size: _table(text=_same("x" * 1000, size // 10))),
    "parquet: rows of nothing": _parquet(lambda size: _table(text=pa.nulls(size // 10, pa.string()))),
    "parquet: long titles": _parquet(
        lambda size: _table(text=_same("x", size // 1000), title=_same("y" * 100_000, size // 1000))
    ),
    "arrow: small rows": Reader(dataset, DatasetSource(paths=("x",)), "a.arrow", _arrow),
    "bzip2: a bomb": Reader(
        jsonl, JsonlSource(paths=("x",)), "a.jsonl.bz2", lambda size: bz2.compress(b"a" * (100 * size))
    ),
    "text: noise": _lines(b"", random.Random(0).randbytes(1000)),
}
"""By what is hostile in the file."""
