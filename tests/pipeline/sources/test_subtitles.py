"""Subtitles: what is said stays, once; numbers, timings, tags and sounds go, and the account says so."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sections import SubtitlesSource
from pipeline.sources.subtitles import read
from pipeline.tasks.ledger import RECORD
from tests.pipeline.sources.raw import external, read_all

SOURCE = SubtitlesSource(paths=("unused",), min_characters=1)
FILM = """1
00:00:01,000 --> 00:00:03,500
<i>The harbour lies open</i>
to the west.

2
00:00:03,600 --> 00:00:05,000 X1:0 X2:9
{\\an8}And the wind

3
00:00:05,100 --> 00:00:07,000
comes in with the tide. [GULLS CRY]

4
00:00:07,200 --> 00:00:09,000
- Is it late?
- ♪ No. ♪

5
00:01:00,000 --> 00:01:02,000
(door slams)
Good night (1 < 2).
"""
SAID = "The harbour lies open to the west.\nAnd the wind comes in with the tide.\n- Is it late?\n- No.\n\nGood night ."
LIVE = """WEBVTT
Kind: captions

STYLE
::cue { color: red }

NOTE a remark
of two lines

intro
00:01.000 --> 00:03.000 align:start position:0%
<v Jane Doe>so today we<00:00:02.000><c> look</c>

00:03.000 --> 00:05.000
so today we look
at tides &amp; winds

00:05.000 --> 00:07.000
at tides & winds
in the harbour
"""


def _one(tmp_path: Path, text: str | bytes, name: str = "film.srt", **options: Any) -> tuple[Any, str | None]:
    content = text if isinstance(text, bytes) else text.encode()
    found, damage = read_all(read, SOURCE.model_copy(update=options), external(tmp_path / name, content))
    assert not damage
    (one,) = found
    return one


def test_what_is_said(tmp_path: Path) -> None:
    document, rule = _one(tmp_path, FILM)
    assert (document.text, rule, document.metadata["title"]) == (SAID, None, "film")
    assert document.metadata[RECORD] == (len(FILM), {"sounds": len(" [GULLS CRY]♪  ♪(door slams)(1 < 2)")}, False)
    assert "[GULLS CRY]" in _one(tmp_path, FILM, sounds=True)[0].text
    assert "\n\n" not in _one(tmp_path, FILM, pause=60.0)[0].text
    assert _one(tmp_path, FILM, min_characters=1000)[1] == "too_short"


def test_captions_that_roll_are_kept_once(tmp_path: Path) -> None:
    document, _ = _one(tmp_path, LIVE, "talk.vtt")
    assert document.text == "so today we look at tides & winds in the harbour"
    assert document.metadata[RECORD][1] == {"repeated": len("so today we lookat tides & winds")}


@pytest.mark.parametrize(
    "content",
    [
        FILM.replace("\n", "\r\n").encode("utf-8-sig"),
        FILM.encode("utf-16"),
        gzip.compress(FILM.encode()),
        FILM.replace("\n\n", "\n").encode(),
        FILM.replace("wind\n", "\n\nwind\n").encode(),
    ],
    ids=["windows", "utf-16", "gzip", "no empty lines", "empty lines within"],
)
def test_files_as_they_are_found(tmp_path: Path, content: bytes) -> None:
    assert _one(tmp_path, content)[0].text == SAID


ONE = "1\n00:00:01,000 --> 00:00:02,000\n{}\n"
EVENT = "Dialogue: 0,0:00:0{}.00,0:00:0{}.50,Default,,0,0,0,,{}\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ONE.format("one<br>two\\Nthree"), "one two three"),
        (ONE.format("Tom &amp; Jerry, it&#39;s AT&T"), "Tom & Jerry, it's AT&T"),
        (ONE.format("[door\nslams] f(x) (sighs) \u202bא\u202c"), "f(x) א"),
        (ONE.format("（田中）おはよう"), "おはよう"),
        (ONE.format("{y:i}One.").replace(" --> ", " -> "), "One."),
        (ONE.format("One.").replace(",000", ""), "One."),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n<ruby>漢<rt>かん</rt></ruby>字&lrm;\n", "漢字"),
        ("0:00:01.000,0:00:02.000\nOne.[br]two.\n", "One. two."),
        (EVENT.format(3, 3, "Four.") + EVENT.format(1, 1, "{\\an8}One, two\\Nthree."), "One, two three.\nFour."),
        ("{0}{25}One.|Two.\n{30}{60}{y:i}Three.\n", "One. Two.\nThree."),
        ("[10][20]One|two\n[21][30]/Three\n", "One two\nThree"),
        ("[ti:Song]\n[00:01.00]One line\n[00:02.00]Two line\n", "One line\nTwo line"),
        ("<SAMI><BODY><SYNC Start=1000><P Class=A>안녕<br>여러분\n<SYNC Start=2000><P>&nbsp;\n</BODY>", "안녕 여러분"),
        ("<tt><p begin='1s' end='00:00:02.5'>One<br/>two.</p><p begin='3s'>Three.</p></tt>", "One two.\nThree."),
    ],
)  # fmt: skip
def test_other_ways_to_write_them(tmp_path: Path, content: str, said: str) -> None:
    assert _one(tmp_path, content)[0].text == said


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"<html><p>404</p></html>", "failure/subtitles"),
        (b"", "failure/subtitles"),
        (b"\0\1\2" * 99, "failure/encoding"),
    ],
)
def test_what_is_none(tmp_path: Path, content: bytes, rule: str) -> None:
    assert _one(tmp_path, content)[1] == rule


def test_what_is_something_else_is_named(tmp_path: Path) -> None:
    packed = b"a.srt" + bytes(252) + b"ustar\x0000" + bytes(247) + FILM.encode()
    for content, said in (
        (b"<html><p>404</p></html>", "this is an HTML page; "),
        (gzip.compress(packed), "this is a tar archive; unpack it"),
        (b'{"events": []}', "this is a file of JSON; "),
    ):
        assert _one(tmp_path, content)[0].metadata["failure"].startswith(said)


@pytest.mark.parametrize("end", ["00:01:00,000 -", "00:01:00,000 --> ", "00:01:00,000 --> 00:01"])
def test_one_that_breaks_off_is_damaged(tmp_path: Path, end: str) -> None:
    cut = FILM[: FILM.index("00:01:00")] + end
    _, damage = read_all(read, SOURCE, external(tmp_path / "film.srt", cut.encode()))
    assert damage == f"line {cut.count(chr(10)) + 1}: truncated: the last line of timing is not whole"
    packed = gzip.compress(FILM.encode())[:-9]
    assert "truncated" in read_all(read, SOURCE, external(tmp_path / "film.srt.gz", packed))[1]


@given(words=st.lists(st.text("abc(>-:1 ♪[]<", max_size=12), max_size=12))
def test_no_character_is_unaccounted(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    cues = "\n\n".join(f"{n}\n00:00:{n:02},000 --> 00:00:{n:02},900\n{word}" for n, word in enumerate(words)) + "\n"
    document, _ = _one(tmp_path_factory.mktemp("film"), cues)
    characters, cut, _ = document.metadata[RECORD]
    assert characters == len(cues)
    assert len(document.text) + sum(cut.values()) <= characters
