"""WARC and WET: what is accepted, why the rest is not, and that no cut goes unnoticed."""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from infra.errors import UserError
from pipeline.extract import extract
from pipeline.sections import ExtractConfig, WebSource
from pipeline.sources.stream import Foreign, Limits, Part, open_stream
from pipeline.sources.web import parts, read, records
from pipeline.tasks.ledger import take_record
from tests.pipeline.corpus import only
from tests.pipeline.hostile_files import header
from tests.pipeline.sources.raw import LIMIT, external, page, read_all, warc_record

WORDS = "The harbour of the old town lies open to the west, and the wind comes in with the tide. " * 4
SOURCE = WebSource(paths=("unused",))


def _one(tmp_path: Path, record: bytes, **options: Any) -> tuple[Any, str | None]:
    found, damage = read_all(read, SOURCE.model_copy(update=options), external(tmp_path / "f.warc", record))
    assert not damage
    return only(found)


def test_a_page(tmp_path: Path) -> None:
    document, rule = _one(tmp_path, warc_record("<http://h/a>", page(WORDS), type="text/html; charset=utf-8"))
    assert rule is None
    assert document.text == WORDS.strip()
    assert take_record(document.metadata, 0) == (len(page(WORDS)), {}, False)
    assert document.metadata == {
        "url": "http://h/a",
        "title": "A title",
        "type": "text/html",
        "date": "2026-01-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"http": "404 Not Found"}, "status/404"),
        ({"http": "301 Moved"}, "status/301"),
        ({"type": "image/png"}, "type"),
        ({"http": "", "type": "text/dns"}, "not_http"),
        ({"http": "", "kind": "resource"}, None),
        ({"kind": "Response"}, None),
        ({"kind": "resource"}, None),
        ({"type": ""}, None),
        ({"http": "", "kind": "conversion", "type": "text/plain"}, None),
        ({"type": "TEXT/HTML"}, None),
        ({"type": "text/plain"}, None),
        ({"http": "200"}, None),
        ({"http": "200 OK\r\nX: folded\r\n over lines"}, None),
        ({"http": "", "kind": "conversion", "type": "image/png"}, "type"),
        ({"http": "no status at all"}, "failure/http"),
    ],
)
def test_status_and_type_of_the_http_headers_decide(
    tmp_path: Path, record: dict[str, str], expected: str | None
) -> None:
    assert _one(tmp_path, warc_record("http://h/a", page(WORDS), **record))[1] == expected


def test_short_and_large_pages(tmp_path: Path) -> None:
    assert _one(tmp_path, warc_record("http://h/a", page("Too short.")))[1] == "too_short"
    large = warc_record("http://h/big", b"x" * (LIMIT + 1)) + warc_record("http://h/a", page(WORDS))
    found, damage = read_all(read, SOURCE, external(tmp_path / "f.warc", large))
    assert [(document.metadata["url"], rule) for document, rule in found] == [
        ("http://h/big", "too_large"),
        ("http://h/a", None),
    ]
    assert not damage
    bomb = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(
        bytes(LIMIT * 2)
    )
    assert _one(tmp_path, _raw(bomb))[1] == "too_large"


def _raw(block: bytes) -> bytes:
    head = "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://h/a\r\nContent-Type: application/http\r\n"
    return f"{head}Content-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Encoding: gzip", gzip.compress(page(WORDS), mtime=0)),
        ("Content-Encoding: gzip", page(WORDS)),
        ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(page(WORDS)), page(WORDS))),
        ("Transfer-Encoding: chunked", page(WORDS)),
    ],
    ids=["gzip", "decoded before, says gzip", "chunked", "decoded before, says chunked"],
)
def test_encodings_of_http(tmp_path: Path, header: str, body: bytes) -> None:
    block = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{header}\r\n\r\n".encode() + body
    document, rule = _one(tmp_path, _raw(block))
    assert (document.text, rule) == (WORDS.strip(), None)


def test_a_record_that_fails_says_why(tmp_path: Path) -> None:
    for block, why in (
        (b"nothing of the kind", "no status line of HTTP, but b'nothing of the kind'"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: compress\r\n\r\n\x1f\x9d" + bytes(50),
            "compress",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + bytes(500), "NUL bytes"),
    ):
        document, rule = _one(tmp_path, _raw(block))
        assert rule in ("failure/http", "failure/encoding")
        assert why in document.metadata["failure"]


@pytest.mark.parametrize("compress", [bytes, lambda data: gzip.compress(data, mtime=0)], ids=["plain", "gzip"])
def test_line_ends_of_one_byte(tmp_path: Path, compress: Any) -> None:
    records = [
        warc_record(f"http://h/{number}", page(f"{number} {WORDS}")).replace(b"\r\n", b"\n") for number in range(3)
    ]
    for number, record in enumerate(records):  # the block is shorter too
        length = len(record.split(b"\n\n", 1)[1]) - 2
        records[number] = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % length, record)
    found, damage = read_all(read, SOURCE, external(tmp_path / "f", b"".join(map(compress, records))))
    assert [(document.text[0], rule) for document, rule in found] == [("0", None), ("1", None), ("2", None)]
    assert not damage


def test_what_a_crawler_notes_for_itself_is_no_document(tmp_path: Path) -> None:
    log = "--http-password=not-a-real-one\n" * 20
    notes = [
        warc_record(address, log.encode(), kind=kind, http="", type="text/plain")
        for kind, address in (
            ("resource", "metadata://gnu.org/software/wget/warc/wget_arguments.txt"),
            ("resource", "<metadata://gnu.org/software/wget/warc/wget.log>"),
            ("metadata", "metadata://gnu.org/software/wget/warc/MANIFEST.txt"),
            ("resource", "urn:X-wpull:log"),
            ("resource", "urn:text:http://h/a"),
            ("resource", "urn:pageinfo:http://h/a"),
            ("resource", ""),
            ("warcinfo", ""),
            ("request", "http://h/a"),
            ("revisit", "http://h/a"),
        )
    ]
    whole = warc_record("http://h/a", page(WORDS)) + b"".join(notes)
    fetched = warc_record("ftp://h/b.txt", WORDS.encode(), kind="resource", http="", type="text/plain")
    found, damage = read_all(read, SOURCE, external(tmp_path / "f", whole + fetched))
    assert [document.metadata["url"] for document, _ in found] == ["http://h/a", "ftp://h/b.txt"]
    assert all("password" not in document.text for document, _ in found)
    assert not damage


def _wat(envelope: bytes) -> bytes:
    info = warc_record("", b"software: x", kind="warcinfo", http="", type="application/warc-fields")
    return info + warc_record("http://h/a", envelope, kind="metadata", http="", type="application/json") * 3


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.warc.wat.gz", _wat(b'{"Envelope":{}}'), "a WAT file"),
        ("a.wat", _wat(b'{"Container":{}}'), "a WAT file"),
        ("a.arc.gz", b"filedesc://a.arc 0.0.0.0 20010101000000 text/plain 76\n1 0 x\n", "an ARC file"),
        ("a.cdx", b" CDX N b a m s k r M S V g\ncom,a)/ 20240101000000 http://a.com/\n", "a CDX index"),
        ("a.cdx.gz", b"com,a)/ 20240101000000 http://a.com/ text/html 200 ABC - - 5 6 a.warc.gz\n", "a CDX index"),
        ("a.cdxj", b'com,a)/x 20240101000000 {"url": "http://a.com/x"}\n', "a CDXJ index"),
        ("cluster.idx", b"com,a)/ 20240101000000\tcdx-00000.gz\t0\t1000\t1\n", "a CDX index"),
        ("MD5SUMS", b"d41d8cd98f00b204e9800998ecf8427e  a.warc.gz\n", "a list of checksums"),
        (
            "a.sha256",
            b"SHA256 (a.warc.gz) = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
            "checksums",
        ),
        ("warc.paths.gz", b"crawl-data/CC-MAIN-2024-10/segments/1/warc/a.warc.gz\n", "a list of files"),
        ("index.html", page(WORDS), "an HTML page"),
        ("a.tar.gz", header(b"0", 4, "a.warc") + bytes(1024), "a tar archive"),
        ("dump.xml", b'<mediawiki xml:lang="en">\n', "a dump of MediaWiki"),
        ("a.jsonl", b'{"text": "a"}\n', "a file of JSON"),
        ("a.warc.7z", b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        ("a.rar", b"Rar!\x1a\x07\x01\0", "a rar archive"),
        ("a.zip", b"PK\x03\x04\x14", "a zip archive"),
        ("a.wacz", b"PK\x03\x04\x14", "a WACZ package"),
        ("a.pdf", b"%PDF-1.7\n", "a PDF file"),
        ("a.parquet", b"PAR1\x15\x04", "a Parquet file"),
        ("a.warc.lz4", b"\x04\x22\x4d\x18", "compressed with lz4"),
        ("a.har", b'{\n "log": {}}\n', "a file of JSON"),
        ("a.json", b'[{"url": "x"}]\n', "a file of JSON"),
        ("a.mhtml", b"From: <Saved by Blink>\r\nMIME-Version: 1.0\r\n", "a page saved as MHTML"),
        ("a.txt", b"http://h/a\nhttp://h/b\n", "a list of addresses"),
        ("a.mbox", b"From a@b.example Thu Jan 1\n", "a mailbox"),
        ("a.xml", b"<?xml version='1.0'?><urlset>\n", "an XML file"),
        ("a.zim", b"ZIM\x04" + bytes(60), "a ZIM file"),
        ("a.webarchive", b"bplist00" + bytes(60), "a property list"),
    ],
)
def test_what_lies_about_beside_crawls_is_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    written = external(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(Foreign, match=what) as caught:
        list(read(SOURCE, Part(written), Limits()))
    assert "get the file again" not in caught.value.remedy


def test_the_stage_says_what_to_do_with_such_a_file(tmp_path: Path) -> None:
    path = external(tmp_path / "a.warc.7z", b"7z\xbc\xaf\x27\x1c\0\4").path
    config = ExtractConfig.model_validate({"sources": {"s": {"kind": "web", "paths": [path]}}})
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError) as told:
        extract(config, {}, tmp_path / "out")
    said = "this is a 7z archive, which is not read here; unpack it, or set extract.on_damaged=skip to keep the rest"
    assert f"{path}: {said}" in str(told.value)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("trained", [False, True], ids=["raw", "trained"])
def test_zstandard_with_a_dictionary_of_its_own(tmp_path: Path, packed: bool, trained: bool) -> None:
    whole = [warc_record(f"http://h/{number}", page(f"{number} {WORDS} {number * 7919}")) for number in range(200)]
    words = zstd.train_dict(whole, 4000) if trained else zstd.ZstdDict(b"".join(whole[:4]), is_raw=True)
    content = words.dict_content
    frame = zstd.compress(content) if packed else content
    file = b"\x5d\x2a\x4d\x18" + len(frame).to_bytes(4, "little") + frame
    file += b"".join(zstd.compress(record, zstd_dict=words) for record in whole)
    written = external(tmp_path / "a.warc.zst", file)
    found, damage = read_all(read, SOURCE, written)
    assert [document.metadata["url"] for document, rule in found if not rule] == [f"http://h/{n}" for n in range(200)]
    assert not damage
    pieces = parts(SOURCE, written, len(file) // 4)
    assert len(pieces) > 2
    assert sum(len(read_all(read, SOURCE, piece)[0]) for piece in pieces) == 200
    assert "dictionary" in read_all(read, SOURCE, external(tmp_path / "b", file[: len(frame) // 2]))[1]
    huge = b"\x5d\x2a\x4d\x18\xff\xff\xff\xff" + frame
    assert "allowed" in read_all(read, SOURCE, external(tmp_path / "c", huge))[1]


def test_zstandard_that_no_fetching_again_would_help(tmp_path: Path) -> None:
    whole = warc_record("http://h/a", page(WORDS))
    words = zstd.train_dict([whole + str(n).encode() * n for n in range(1, 100)], 2000)
    window_of_2_gib = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x01\0\0"
    for content, said in (
        (zstd.compress(whole, zstd_dict=words), "zstd data with a dictionary that is elsewhere"),
        (window_of_2_gib, "zstd data that takes too much memory"),
    ):
        written = external(tmp_path / "f.warc.zst", content)
        with pytest.raises(Foreign, match=said) as caught:
            list(read(SOURCE, Part(written), Limits()))
        assert "again" not in caught.value.remedy
        damaged = external(tmp_path / "g.warc.zst", zstd.compress(whole) + content + zstd.compress(whole))
        assert [rule for _, rule in read_all(read, SOURCE, damaged)[0]] == [None, "failure/damaged", None]


def test_zstandard_with_other_frames_that_are_skipped(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    file = skipped + zstd.compress(warc_record("http://h/a", page(WORDS))) + skipped
    assert [rule for _, rule in read_all(read, SOURCE, external(tmp_path / "f", file))[0]] == [None]


@pytest.mark.parametrize(
    ("type", "prefix", "encoding"),
    [
        ("text/html; charset=iso-8859-1", "", "latin-1"),
        ("text/html", '<meta charset="windows-1251">', "cp1251"),
        ("text/html", "", "utf-8"),
        ("text/html; charset=no-such-charset", "", "utf-8"),
    ],
)
def test_characters(tmp_path: Path, type: str, prefix: str, encoding: str) -> None:
    words = ("Гавань старого города открыта на запад. " if encoding == "cp1251" else "Füße im Café, señor. ") * 12
    body = f"<html><head>{prefix}</head><body><p>{words}</p></body></html>".encode(encoding)
    assert _one(tmp_path, warc_record("http://h/a", body, type=type))[0].text == words.strip()


def test_navigation_goes_unless_wanted(tmp_path: Path) -> None:
    body = page(WORDS).replace(b"<body>", b"<body><nav><a href='/'>Home</a> <a href='/x'>Elsewhere</a></nav>")
    assert "Elsewhere" not in _one(tmp_path, warc_record("u", body))[0].text
    assert "Elsewhere" in _one(tmp_path, warc_record("u", body), main_content=False)[0].text


def test_a_byte_order_mark_before_the_first_record(tmp_path: Path) -> None:
    assert _one(tmp_path, b"\xef\xbb\xbf" + warc_record("http://h/a", page(WORDS)))[1] is None


def test_what_is_compressed_twice_is_named(tmp_path: Path) -> None:
    twice = gzip.compress(gzip.compress(warc_record("http://h/a", page(WORDS))))
    found, damage = read_all(read, SOURCE, external(tmp_path / "a.warc.gz", twice))
    assert not found
    assert damage == "this is compressed with gzip twice, which is not read here"


def test_what_warcio_writes_is_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = WARCWriter(stream, gzip=True, warc_version="1.1")
    writer.write_record(writer.create_warcinfo_record("f", {"software": "test"}))
    for number in range(3):
        headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
        payload = io.BytesIO(page(f"{number} {WORDS}"))
        writer.write_record(writer.create_warc_record(f"http://h/{number}", "response", payload, http_headers=headers))
    found, damage = read_all(read, SOURCE, external(tmp_path / "f.warc.gz", stream.getvalue()))
    assert [document.text[0] for document, _ in found] == ["0", "1", "2"]
    assert not damage


@pytest.mark.parametrize("compress", [bytes, lambda data: gzip.compress(data, mtime=0)], ids=["plain", "gzip"])
def test_no_cut_goes_unnoticed(tmp_path: Path, compress: Any) -> None:
    """At every byte: either the cut is noticed, or it is where a record ends and nothing is missing before it."""
    whole = [warc_record(f"http://h/{number}", page(WORDS[:60])) for number in range(2)]
    parts = [compress(record) for record in whole]
    data = b"".join(parts)
    ends = {sum(map(len, parts[:count])): count for count in range(3)}
    silent = set()
    for end in range(len(data)):
        found, damage = read_all(read, SOURCE, external(tmp_path / "f", data[:end]))
        if damage:
            assert damage.startswith(("record ", "byte "))
            assert "truncated" in damage or end == 1, "from one byte nobody knows what it was to be"
        else:
            silent.add(end)
            # In a plain file, up to four line ends after a record may be missing without loss.
            nearest = min(ends, key=lambda at: abs(at - end))
            assert len(found) == ends[nearest]
    slack = 0 if compress is not bytes else 4
    assert silent <= {at - less for at in ends for less in range(slack + 1)}


def test_what_is_no_warc_is_named_with_its_place(tmp_path: Path) -> None:
    good = warc_record("http://h/a", page(WORDS))
    for rubbish, message in (
        (b"nonsense\r\n", "record 2: no WARC record here"),
        (b"WARC/1.0\r\nWARC-Type: response\r\n\r\n", "record 2: the header Content-Length is 'missing'"),
        (b"WARC/1.0\r\nContent-Length: -5\r\n\r\n", "record 2: the header Content-Length is '-5'"),
        (b"WARC/1.0\r\nX: " + b"x" * 70_000, "record 2: a header line is too long"),
    ):
        found, damage = read_all(read, SOURCE, external(tmp_path / "f", good + rubbish))
        assert (len(found), damage) == (1, message)


def test_folded_headers(tmp_path: Path) -> None:
    raw = b"WARC/1.0\r\nWARC-Type: a\r\n  b\r\nContent-Length: 0\r\n\r\n\r\n\r\n"
    with open_stream(Part(external(tmp_path / "f", raw))) as stream:
        assert only(records(stream, LIMIT))[0] == {"warc-type": "a b", "content-length": "0"}


@pytest.mark.parametrize("compress", [bytes, lambda data: gzip.compress(data, mtime=0)], ids=["plain", "gzip"])
def test_a_record_that_is_none_costs_itself(tmp_path: Path, compress: Any) -> None:
    whole = [compress(warc_record(f"http://h/{number}", page(WORDS))) for number in range(3)]
    for rubbish in (compress(b"no record\r\n\r\n"), compress(b"WARC/1.0\r\nContent-Length: x\r\n\r\n")):
        found, damage = read_all(read, SOURCE, external(tmp_path / "f", whole[0] + rubbish + whole[1] + whole[2]))
        assert [rule for _, rule in found] == [None, "failure/damaged", None, None]
        assert not damage
    if compress is not bytes:
        corrupt = bytearray(whole[1])
        corrupt[len(corrupt) // 2] ^= 0x55
        found, damage = read_all(read, SOURCE, external(tmp_path / "f", whole[0] + bytes(corrupt) + whole[2]))
        assert [rule for _, rule in found] == [None, "failure/damaged", None]
        assert found[2][0].metadata["url"] == "http://h/2"
        assert not damage


RUSSIAN = "Гавань старого города открыта на запад, и ветер приходит вместе с приливом. " * 5


@pytest.mark.parametrize(
    ("declared", "actual"),
    [
        ("", "utf-8"),
        ("", "cp1251"),
        ("utf-8", "cp1251"),
        ("iso-8859-1", "utf-8"),
        ("koi8-r", "koi8-r"),
        ("no-such-charset", "utf-8"),
        ("utf-16", "utf-16"),
        ("", "utf-16"),
    ],
)
def test_charsets_that_are_not_what_is_said(tmp_path: Path, declared: str, actual: str) -> None:
    body = page(RUSSIAN).decode().encode(actual)
    type_ = f"text/html; charset={declared}" if declared else "text/html"
    document, rule = _one(tmp_path, warc_record("http://h/a", body, type=type_))
    assert (document.text, rule) == (RUSSIAN.strip(), None)


def test_bytes_that_are_no_text_are_a_failure(tmp_path: Path) -> None:
    import random

    noise = random.Random(1).randbytes(5000)
    assert _one(tmp_path, warc_record("http://h/a", noise, type="text/plain"))[1] == "failure/encoding"
    nuls = _one(tmp_path, warc_record("http://h/a", page(WORDS + "\0")))
    assert (nuls[0].text, nuls[1]) == (WORDS.strip(), None)
    assert _one(tmp_path, warc_record("http://h/a", page("a\0b" * 500)))[1] == "failure/encoding"


def test_wet_files_have_their_text_and_languages(tmp_path: Path) -> None:
    record = warc_record("http://h/a", f"{RUSSIAN}\n".encode(), kind="conversion", http="", type="text/plain")
    record = record.replace(b"Content-Type", b"WARC-Identified-Content-Language: rus,eng\r\nContent-Type", 1)
    document, rule = _one(tmp_path, record)
    assert (document.text, rule, document.metadata["languages"]) == (RUSSIAN.strip(), None, "rus,eng")


@pytest.mark.parametrize("compress", [bytes, lambda data: gzip.compress(data, mtime=0), zstd.compress])
@pytest.mark.parametrize("more", [200, LIMIT // 2])
def test_a_length_that_is_too_long_swallows_no_record(tmp_path: Path, compress: Any, more: int) -> None:
    whole = [warc_record(f"http://h/{number}", page(f"{number} {WORDS}")) for number in range(3)]
    length = re.search(rb"Content-Length: (\d+)", whole[1])
    assert length
    whole[1] = whole[1].replace(length[0], b"Content-Length: %d" % (int(length[1]) + more))
    found, damage = read_all(read, SOURCE, external(tmp_path / "f", b"".join(map(compress, whole))))
    assert not damage
    assert [(document.text, rule) for document, rule in found] == [(f"{n} {WORDS}".strip(), None) for n in range(3)]


def test_a_page_about_such_files_is_whole(tmp_path: Path) -> None:
    shown = b"</p><pre>\nWARC/1.0\nWARC-Type: response\n</pre><p>" + WORDS.encode()
    record = warc_record("http://h/a", page(WORDS).replace(b"</p>", shown + b"</p>"))
    found, damage = read_all(read, SOURCE, external(tmp_path / "f", record * 2))
    assert not damage
    assert [document.text.count("WARC-Type") for document, _ in found] == [1, 1]


@pytest.mark.parametrize(
    ("type", "before", "rule"),
    [
        ("text/plain", "<!DOCTYPE html>", None),
        ("", '<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x">', None),
        ("", "<!-- saved --> <!DOCTYPE html>", None),
        ("text/html", "%PDF-1.4\n", "type"),
        ("text/plain", "\x89PNG\r\n\x1a\n", "type"),
        ("text/html", "PK\x03\x04", "type"),
    ],
)
def test_what_a_body_is_and_a_server_does_not_say(tmp_path: Path, type: str, before: str, rule: str | None) -> None:
    document, found = _one(tmp_path, warc_record("http://h/a", before.encode("latin-1") + page(WORDS), type=type))
    assert (document.text, found) == ("" if rule else WORDS.strip(), rule)
