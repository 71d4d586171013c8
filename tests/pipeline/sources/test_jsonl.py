"""JSON lines: a bad line is kept and counted, a file that breaks off is damaged."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from pipeline.sections import JsonlSource
from pipeline.sources import json_values
from pipeline.sources.jsonl import Failure, parts, read, records
from pipeline.sources.stream import Limits, Part
from tests.pipeline.sources.raw import LIMIT, external, read_all

SOURCE = JsonlSource(paths=("unused",))


def _read(tmp_path: Path, content: bytes, **options: Any) -> tuple[list[Any], str]:
    return read_all(read, SOURCE.model_copy(update=options), external(tmp_path / "f.jsonl", content))


def test_fields(tmp_path: Path) -> None:
    row = {"body": "words", "link": "http://h", "id": 5, "n": [1, {"x": None}], "other": "no"}
    options = {"text_field": "body", "url_field": "link", "metadata_fields": ("id", "n", "absent")}
    for content in (json.dumps(row).encode(), gzip.compress(json.dumps(row).encode() + b"\n\n")):
        ((document, rule),), damage = _read(tmp_path, content, **options)
        assert (document.text, rule, damage) == ("words", None, "")
        assert document.metadata == {"url": "http://h", "id": 5, "n": [1, {"x": None}]}


def test_bad_lines_are_kept_with_their_reason(tmp_path: Path) -> None:
    lines = [
        b'{"text": "good"}',
        b'{"text": "caf\xe9"}',
        b'{"text": ',
        b"[1, 2]",
        b'{"title": "none"}',
        b'{"text": 5}',
        b'{"text": " "}',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"text": "' + b"x" * LIMIT + b'"}',
        b'{"text": "last"}',
    ]
    found, damage = _read(tmp_path, b"\n".join(lines) + b"\n")
    assert not damage
    assert [rule for _, rule in found] == [
        None,
        "failure/encoding",
        "failure/json",
        "failure/json",
        "failure/field",
        "failure/field",
        "too_short",
        "failure/json",
        "failure/json",
        "too_large",
        None,
    ]
    bad = found[1][0]
    assert bad.text == '{"text": "caf\\xe9"}'
    assert bad.metadata == {"url": "", "line": 2, "failure": "byte 13 is not UTF-8"}
    assert [document.text for document, rule in found if rule is None] == ["good", "last"]


def test_a_last_line_that_breaks_off_is_damage(tmp_path: Path) -> None:
    found, damage = _read(tmp_path, b'{"text": "a"}\n{"text": "b')
    assert (len(found), damage) == (1, "line 2: truncated: the last line is not whole")
    assert "truncated" in _read(tmp_path, gzip.compress(b'{"text": "a"}\n')[:-3])[1]


def test_a_last_line_that_is_whole_and_wrong_is_no_damage(tmp_path: Path) -> None:
    found, damage = _read(tmp_path, b'{"text": "a"}\n{"text": "b",}')
    assert ([rule for _, rule in found], damage) == ([None, "failure/json"], "")


def test_an_object_that_holds_all_records_may_be_larger_than_one_of_them(tmp_path: Path) -> None:
    rows = [{"text": "a" * size} for size in (50, 200, 60)]
    content = json.dumps({"version": [1], "data": rows, "more": 1}).encode()
    part = Part(external(tmp_path / "f.json", content))
    found = [value for _, value in records(part, Limits(bytes=100), ("text",))]
    assert found == [rows[0], Failure("", "too_large"), rows[2]]


def test_a_cut_in_the_middle_of_a_character_is_damage(tmp_path: Path) -> None:
    assert "truncated" in _read(tmp_path, '{"text": "a"}\n{"text": "é'.encode()[:-1])[1]


def test_no_text_is_empty_text_and_a_missing_key_names_those_there_are(tmp_path: Path) -> None:
    rows = [{"text": None}, {"text": ""}, {"body": "x", "id": 1}, {"text": "a"}]
    found, _ = _read(tmp_path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    assert [rule for _, rule in found] == ["too_short", "too_short", "failure/field", None]
    assert found[2][0].metadata["failure"] == "text is missing, there is body, id"


def test_a_path_leads_into_an_object(tmp_path: Path) -> None:
    rows: list[Any] = [{"a": {"b": "inner", "c": 1}}, {"a.b": "outer", "a": {"b": "x"}}, {"a": {"b": None}}, {"a": 5}]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    found, _ = _read(tmp_path, content, text_field="a.b", metadata_fields=("a.c",))
    assert [(document.text, rule) for document, rule in found] == [
        ("inner", None),
        ("outer", None),
        ("", "too_short"),
        ("", "failure/field"),
    ]
    assert found[0][0].metadata["a.c"] == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_of_byte_order_and_other_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    lines = f'{{"text": "one \u010a \u0a0a é"}}{end}{{"text": "two"}}{end}{end}'
    content = (b"\xfe\xff" if encoding == "utf-16-be" else b"") + lines.encode(encoding)
    for packed in (content, gzip.compress(content)):
        found, damage = _read(tmp_path, packed)
        assert not damage
        assert [(document.text, rule) for document, rule in found] == [("one \u010a \u0a0a é", None), ("two", None)]
    if encoding != "utf-8-sig":
        assert len(parts(SOURCE, external(tmp_path / "f.jsonl", content), 10)) == 1


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "one"}{"text": "two"}\n',
        '{"text": "one"} {"text": "two"}\r\n',
        '{"text": "one"}\r{"text": "two"}\r',
        '\x1e{"text": "one"}\n\x1e{"text": "two"}\n',
    ],
    ids=["nothing between", "a blank", "CR", "RFC 7464"],
)
def test_records_that_are_otherwise_apart(tmp_path: Path, content: str) -> None:
    found, damage = _read(tmp_path, content.encode())
    assert not damage
    assert [(document.text, rule) for document, rule in found] == [("one", None), ("two", None)]


def test_what_is_not_quite_json_but_clear(tmp_path: Path) -> None:
    found, _ = _read(tmp_path, b'{"text": "a\tb"}\n{"text": "c", "n": ' + b"9" * 5000 + b"}\n")
    assert [(document.text, rule) for document, rule in found] == [("a\tb", None), ("c", None)]


@pytest.mark.parametrize(
    "content",
    [
        b'{"text": "a"},\n{"text": "b"}, \n',
        b'{"text": "a"}\n{"text": "b"}\n\x1a',
        b'{"text": "a"}\n{"text": "b"}\n\0\0',
    ],
)
def test_what_stands_behind_a_record(tmp_path: Path, content: bytes) -> None:
    found, damage = _read(tmp_path, content)
    assert ([document.text for document, _ in found], damage) == (["a", "b"], "")


PAIR: list[dict[str, Any]] = [{"text": 'one, [two] " {', "id": [{"a": "}"}]}, {"text": "zwei \u00fc\\\\"}]
VALUES = {
    "an array on a line": json.dumps(PAIR),
    "an array over lines": json.dumps(PAIR, indent=2),
    "with a comma behind the last": json.dumps(PAIR)[:-1] + ",\n]\n",
    "its brackets on the lines of records": "[" + ",\n".join(map(json.dumps, PAIR)) + "]\n",
    "a record a line, brackets alone": "[\r\n" + ",\r\n".join(map(json.dumps, PAIR)) + "\r\n]\r\n",
    "objects over lines": "\n".join(json.dumps(each, indent=2) for each in PAIR),
    "arrays behind each other": json.dumps(PAIR[:1]) + "\n" + json.dumps(PAIR[1:]),
}


@pytest.mark.parametrize("chunk", [3, 1 << 20])
@pytest.mark.parametrize("name", VALUES)
def test_records_that_are_no_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int) -> None:
    monkeypatch.setattr(json_values, "CHUNK", chunk)
    content = VALUES[name].encode()
    for packed in (content, gzip.compress(b"\xef\xbb\xbf" + content)):
        found, damage = _read(tmp_path, packed)
        assert not damage
        assert [(document.text, rule) for document, rule in found] == [(each["text"], None) for each in PAIR]
        assert len(parts(SOURCE, external(tmp_path / "f.jsonl", packed), 20)) == 1
    if name.startswith("an array"):
        for end in range(1, content.rindex(b"]") + 1):
            found, damage = _read(tmp_path, content[:end])
            assert "truncated" in damage
            assert [document.text for document, _ in found] == [each["text"] for each in PAIR][: len(found)]


def test_of_an_array_what_stands_before_the_damage_is_read(tmp_path: Path) -> None:
    rows = [{"text": f"{number} {number * 7919}"} for number in range(5000)]
    found, damage = _read(tmp_path, gzip.compress(json.dumps(rows).encode())[:-20_000])
    assert "truncated: the gzip data breaks off" in damage
    assert [document.text for document, _ in found] == [each["text"] for each in rows][: len(found)]
    assert len(found) > 500


def test_of_an_array_a_bad_record_costs_itself(tmp_path: Path) -> None:
    rows = ['{"text": "a"}', '{"text": 5}', "7", '{"text": "b",}', '{"text": "' + "x" * LIMIT + '"}', '{"text": "c"}']
    found, damage = _read(tmp_path, f"[{','.join(rows)}]".encode())
    assert not damage
    assert [rule for _, rule in found] == [None, "failure/field", "failure/json", "failure/json", "too_large", None]
    assert found[3][0].metadata["record"] == 4


@pytest.mark.parametrize(
    "encoding", ["cp1252", "cp1251", "gbk", "euc_kr", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
)
def test_a_file_all_in_another_encoding(tmp_path: Path, encoding: str) -> None:
    words = {
        "cp1251": "Гавань старого города",
        "gbk": "港口向西开放，风随着潮水而来。",
        "euc_kr": "항구는 서쪽으로 열려 있다",
    }.get(encoding, "Der Hafen öffnet sich früh für größere Schiffe")
    lines = [f'{{"text": "{words} {number}"}}\n' for number in range(9)]
    content = "".join(lines).encode(encoding)
    if not encoding.startswith("utf"):
        content += lines[0].encode()  # one that is UTF-8 is so
    found, damage = _read(tmp_path, content)
    assert not damage
    assert [document.text for document, _ in found][:9] == [f"{words} {number}" for number in range(9)]
    assert all(rule is None and words in document.text for document, rule in found)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html>\n<html>\n", "a page of HTML or XML"),
        (b"<?xml version='1.0'?>\n<Error/>\n", "a page of HTML or XML"),
        (gzip.compress(gzip.compress(b'{"text": "a"}\n')), "compressed with gzip twice"),
        (b"a.jsonl" + bytes(250) + b"ustar\x0000" + bytes(247) + b'{"text": "a"}\n', "a tar archive"),
        (lzma.compress(b'{"text": "a"}\n', lzma.FORMAT_ALONE), "compressed with lzma"),
        (b"\x80\x04\x95" + bytes(60), "a Python pickle"),
    ],
)
def test_what_is_no_file_of_json_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    assert _read(tmp_path, content) == ([], f"this is {what}, which is not read here")


def test_records_before_the_place_where_a_line_goes_wrong_are_kept(tmp_path: Path) -> None:
    found, damage = _read(tmp_path, b'{"text": "a"}{"text": "b"} oh\n{"text": "c"}{"text": "d')
    assert [document.text for document, rule in found if rule is None] == ["a", "b", "c"]
    assert [rule for _, rule in found] == [None, None, "failure/json", None]
    assert damage == "line 2: truncated: the last line is not whole"
