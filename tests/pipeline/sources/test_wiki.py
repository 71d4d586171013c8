"""Wiki dumps: prose out of markup, pages that are no articles, XML that breaks off."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.sections import WikiSource
from pipeline.sources.wiki import plain_text, read
from tests.pipeline.corpus import only
from tests.pipeline.sources.raw import LIMIT, external, read_all, wiki_dump, wiki_page

WORDS = "The harbour of the old town lies open to the west, and the wind comes in with the tide. " * 4
SOURCE = WikiSource(paths=("unused",))


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''Bold''' and ''slanted'' [[town|towns]] and [[harbour]]s", "Bold and slanted towns and harbours"),
        ("a[[File:X.jpg|thumb|A [[linked]] caption]]b[[Image:Y.png]]c[[Datei:Z.jpg|mini]]", "abc"),
        ("a[[Category:Towns]]b [[:Category:Towns]]", "ab Category:Towns"),
        ("[[de:Hafen]]x", "x"),
        ("a<ref>cite {{web|x}}</ref>b<ref name='x' />c", "abc"),
        ("a{{Infobox|b={{nested}}}}b<!-- hidden -->", "ab"),
        ("a\n{| class='x'\n|-\n| cell\n|}\nb", "a\n\nb"),
        ("a [http://h label] b [http://h]", "a label b"),
        ("tea &amp; cake&nbsp;here", "tea & cake here"),
        ("* one\n* two", "- one\n- two"),
        ("one<br />two <span>three</span> <math>x^2</math>", "one\ntwo three"),
        (
            "== Town ==\ntext\n== References ==\nlist\n=== Sub ===\nmore\n== After ==\nend",
            "Town\n\ntext\n\nAfter\n\nend",
        ),
        ("Name ({{lang|de}}; ) is", "Name is"),
        ("__NOTOC__a", "a"),
        ("left ''open <ref>note</ref> and [[town|open\n| cell\nend", "left open  and open\n\nend"),
    ],
)
def test_prose(markup: str, text: str) -> None:
    assert plain_text(markup, SOURCE.drop_sections, frozenset({"file", "image", "category", "datei"})) == text


def _read(tmp_path: Path, content: bytes, **options: Any) -> tuple[list[Any], str]:
    return read_all(read, SOURCE.model_copy(update=options), external(tmp_path / "dump", content))


@pytest.mark.parametrize("compress", [bytes, bz2.compress, gzip.compress])
def test_an_article(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    content = compress(wiki_dump(wiki_page("Old town", f"[[Datei:X.jpg|mini|no]]{WORDS}")))
    document, rule = only(_read(tmp_path, content)[0])
    assert rule is None
    assert document.text == f"Old town\n\n{WORDS.strip()}"
    assert document.metadata == {"url": "https://w.example/wiki/Old_town", "title": "Old town", "page": 7}


def test_what_is_no_article(tmp_path: Path) -> None:
    pages = [
        wiki_page("A", "#REDIRECT [[B]]", redirect="B"),
        wiki_page("C", "#redirect [[B]]"),
        wiki_page("Talk:A", WORDS, namespace=1),
        wiki_page("D", "short"),
        wiki_page("E", WORDS),
    ]
    found, damage = _read(tmp_path, wiki_dump(*pages))
    assert [rule for _, rule in found] == ["redirect", "redirect", "namespace/1", "too_short", None]
    assert not damage
    assert _read(tmp_path, wiki_dump(*pages), namespaces=(0, 1))[0][2][1] is None


def test_the_latest_revision_counts(tmp_path: Path) -> None:
    old = "<revision><id>0</id><timestamp>2025-01-01T00:00:00Z</timestamp><text>old</text></revision><revision><id>1"
    history = wiki_page("A", WORDS).replace("<revision><id>1", old)
    assert only(_read(tmp_path, wiki_dump(history))[0])[0].text.endswith(WORDS.strip())


def test_cut_dumps_are_named_with_their_place(tmp_path: Path) -> None:
    whole = wiki_dump(wiki_page("First", WORDS), wiki_page("Second", WORDS))
    cut = whole[: whole.index(b"Second") + 30]
    found, damage = _read(tmp_path, cut)
    assert [rule for _, rule in found] == [None]
    assert damage == "page 2: truncated: the dump ends within a page"
    without_end = whole.removesuffix(b"</mediawiki>\n")
    assert _read(tmp_path, without_end)[1] == "page 3: truncated: the dump ends without </mediawiki>"
    assert "truncated: the bzip2 data breaks off" in _read(tmp_path, bz2.compress(whole)[:-20])[1]


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("<ns>0</ns>", "<ns>0</xx>"),
        ("harbour", "&lol9;"),
        ("<id>1</id>", "<id>1"),
        ("<id>7</id>", "<id>seven</id>"),
        ("</revision></page>", ""),
        ("<revision>", ""),
    ],
)
def test_a_malformed_page_costs_itself(tmp_path: Path, there: str, instead: str) -> None:
    bad = wiki_page("Bad", WORDS).replace(there, instead, 1)
    found, damage = _read(tmp_path, wiki_dump(wiki_page("A", WORDS), bad, wiki_page("B", WORDS)))
    assert not damage
    assert [rule for _, rule in found] == [None, "failure/xml", None]
    assert [found[place][0].metadata["title"] for place in (0, 2)] == ["A", "B"]


def test_an_entity_bomb_is_never_defined(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE mediawiki [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + level)} "{f"&{chr(97 + level)};" * 10}">' for level in range(9)
    )
    dump = f"{bomb}]>\n".encode() + wiki_dump(wiki_page("Bomb", "&j;"), wiki_page("B", WORDS))
    found, damage = _read(tmp_path, dump)
    assert [rule for _, rule in found] == ["failure/xml", None]
    assert not damage


def test_a_giant_revision_costs_itself_and_a_long_history_nothing(tmp_path: Path) -> None:
    old = "<revision><id>0</id><text>" + "x" * (LIMIT // 2) + "</text></revision>"
    long = wiki_page("Long", WORDS).replace("<revision>", old * 10 + "<revision>")
    giant = wiki_page("Giant", "x" * (LIMIT * 3))
    found, damage = _read(tmp_path, wiki_dump(long, giant, wiki_page("B", WORDS)))
    assert [rule for _, rule in found] == [None, "too_large", None]
    assert found[0][0].text.endswith(WORDS.strip())
    assert not damage


def test_a_dump_in_utf16(tmp_path: Path) -> None:
    document, rule = only(_read(tmp_path, wiki_dump(wiki_page("Café", WORDS)).decode().encode("utf-16"))[0])
    assert (document.metadata["title"], rule) == ("Café", None)


def test_redirects_that_point_to_each_other_are_two_rejects(tmp_path: Path) -> None:
    pages = [wiki_page("A", "#REDIRECT [[B]]", redirect="B"), wiki_page("B", "#REDIRECT [[A]]", redirect="A")]
    assert [rule for _, rule in _read(tmp_path, wiki_dump(*pages))[0]] == ["redirect", "redirect"]


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"plain words", b"<mediawiki></mediawiki>"])
def test_what_is_no_dump_is_named(tmp_path: Path, content: bytes) -> None:
    found, damage = _read(tmp_path, content)
    assert (found, bool(damage)) == ([], True)
