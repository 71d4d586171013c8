"""Wiki dumps: articles, pages that are none, what a dump tells of its wiki, XML that breaks off."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.sections import WikiSource
from pipeline.sources.wiki import read
from pipeline.tasks.ledger import take_record
from pipeline.tasks.verbatim import verbatim_of
from tests.pipeline.corpus import only
from tests.pipeline.sources.raw import LIMIT, external, read_all, wiki_dump, wiki_page

WORDS = "The harbour of the old town lies open to the west, and the wind comes in with the tide. " * 4
SOURCE = WikiSource(paths=("unused",))


def _read(tmp_path: Path, content: bytes, **options: Any) -> tuple[list[Any], str]:
    return read_all(read, SOURCE.model_copy(update=options), external(tmp_path / "dump", content))


@pytest.mark.parametrize("compress", [bytes, bz2.compress, gzip.compress])
def test_an_article(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    content = compress(wiki_dump(wiki_page("Old town", f"[[Datei:X.jpg|mini|no]]{WORDS}")))
    document, rule = only(_read(tmp_path, content)[0])
    assert rule is None
    assert document.text == f"Old town\n\n{WORDS.strip()}"
    characters, cuts, _ = take_record(document.metadata, 0)
    assert characters == len(f"[[Datei:X.jpg|mini|no]]{WORDS}")
    assert cuts == {"title": -len("Old town\n\n"), "media": len("[[Datei:X.jpg|mini|no]]")}
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


KOREAN = "서울은 대한민국의 수도이다. 한강을 끼고 있으며 많은 사람들이 살고 있다. " * 8


def _of(language: str, *pages: str, file: str = "", database: str = "") -> bytes:
    """A dump of the wiki in a language, which calls its files `file`."""
    dump = wiki_dump(*pages).decode().replace('xml:lang="de"', f'xml:lang="{language}"')
    return (
        dump.replace("Datei", file or "File")
        .replace("<dbname>w<", f"<dbname>{database or language + 'wiki'}<")
        .encode()
    )


def test_a_wiki_is_known_by_its_dump(tmp_path: Path) -> None:
    """Files go by their older name too, the sections at the end by the language, and so do redirects."""
    article = wiki_page(
        "서울",
        f"{{{{도시 정보|이름=서울}}}}[[그림:Seoul.jpg|섬네일|300px|서울의 모습]]{KOREAN}\n== 역사 ==\n{KOREAN}\n"
        "== 같이 보기 ==\n* [[부산]]\n== 각주 ==\n{{각주}}\n== 외부 링크 ==\n* [http://seoul.go.kr 서울시]\n"
        "[[분류:도시]]",
    )
    dump = _of("ko", article, wiki_page("한양", "#넘겨주기 [[서울]]"), file="파일")
    found = _read(tmp_path, dump)[0]
    assert [rule for _, rule in found] == [None, "redirect"]
    assert found[0][0].text == f"서울\n\n{KOREAN.strip()}\n\n역사\n\n{KOREAN.strip()}"
    assert set(take_record(found[0][0].metadata, 0).cut) == {"title", "templates", "media", "sections"}


@pytest.mark.parametrize(
    ("language", "database", "redirect"),
    [
        ("de", "dewiki", "#WEITERLEITUNG [[Ort]]"),
        ("ja", "jawiki", "＃転送 [[町]]"),
        ("zh", "zhwiki", "#重定向[[市]]"),
        ("fa", "fawiki", "#تغییر_مسیر [[شهر]]"),
        ("zh-Hans-CN", "zhwiktionary", "#重新導向 [[市]]"),
        ("ru", "w", "#перенаправление [[Город]]"),
        ("nan", "zh_min_nanwiki", "#重定向 [[市]]"),
    ],
)
def test_words_of_redirects(tmp_path: Path, language: str, database: str, redirect: str) -> None:
    pages = [wiki_page("A", redirect), wiki_page("B", redirect.replace("[[", "").replace("]]", "") + WORDS)]
    found = _read(tmp_path, _of(language, *pages, database=database))[0]
    assert [rule for _, rule in found] == ["redirect", None]


def test_sections_as_the_recipe_has_them(tmp_path: Path) -> None:
    page = wiki_page("A", f"{WORDS}\n== Weblinks ==\nfirst\n== Werke ==\nsecond")

    def text(**options: Any) -> str:
        return str(_read(tmp_path, wiki_dump(page), **options)[0][0][0].text)

    assert "first" not in text()
    assert "second" in text()
    assert "first" in text(drop_sections=("Werke",))
    assert "second" not in text(drop_sections=("Werke",))
    assert "first" in text(drop_sections=())


def test_a_variant_is_chosen(tmp_path: Path) -> None:
    dump = _of("zh", wiki_page("A", "-{zh-hans:计算机; zh-hant:電腦}-" + WORDS))
    assert _read(tmp_path, dump)[0][0][0].text.startswith("A\n\n计算机The")
    assert _read(tmp_path, dump, variant="zh-tw")[0][0][0].text.startswith("A\n\n電腦The")


def test_code_is_verbatim(tmp_path: Path) -> None:
    listing = 'x.replace("&amp;amp;", "&amp;lt;")\n  y = 1'
    page = wiki_page(
        "A",
        f"{WORDS}&lt;source&gt;{listing}&lt;/source&gt;\n&lt;code&gt;a  b&lt;/code&gt; &lt;nowiki&gt;c&lt;/nowiki&gt;",
    )
    document = _read(tmp_path, wiki_dump(page))[0][0][0]
    found = [document.text[begin:end] for begin, end in verbatim_of(document.metadata)]
    assert found == ['x.replace("&amp;", "&lt;")\n  y = 1', "a  b"]


def test_tables_are_rows_by_choice(tmp_path: Path) -> None:
    dump = wiki_dump(wiki_page("A", f"{WORDS}\n{{|\n! x !! y\n|-\n| 1 || class=z | 2\n|}}\nend"))
    assert _read(tmp_path, dump)[0][0][0].text.endswith("tide.\n\nend")
    assert _read(tmp_path, dump, tables=True)[0][0][0].text.endswith("tide.\n\nx | y\n1 | 2\n\nend")


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


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"-- MySQL dump 10.19\n", "a dump of a wiki's tables in SQL"),
        (b"a.xml" + bytes(252) + b"ustar\x0000" + bytes(247) + b"<mediawiki>", "a tar archive"),
        (b'{"text": "words"}\n', "a file of JSON"),
        (b"/*M!999999\\- enable the sandbox mode */\n-- MariaDB dump", "a dump of a wiki's tables in SQL"),
        (b"<feed>\n<doc>\n<title>Wikipedia: A</title>", "the abstracts of a wiki's articles"),
        (b'{"index":{"_type":"_doc","_id":"12"}}\n{"title":"A","text":"words"}\n', "a dump of CirrusSearch"),
        (b'[\n{"type":"item","id":"Q1"},\n', "a dump of Wikidata"),
        (b"ZIM\x04\x05\0", "a ZIM file"),
        (b"560:10:AccessibleComputing\n", "an index of a dump"),
    ],
)
def test_what_is_offered_beside_dumps_of_articles(tmp_path: Path, content: bytes, what: str) -> None:
    for written in (content, gzip.compress(content)):
        found, damage = _read(tmp_path, written)
        assert (found, damage.startswith(f"this is {what}")) == ([], True)


def test_a_dump_of_stubs_has_no_text(tmp_path: Path) -> None:
    stub = wiki_page("A", "").replace("<text></text>", '<text bytes="120" sha1="x" xml:space="preserve" />')
    gone = stub.replace("<text ", '<text deleted="deleted" ')
    found, _ = _read(tmp_path, wiki_dump(stub, gone, wiki_page("B", "")))
    assert [rule for _, rule in found] == ["failure/stub", "too_short", "too_short"]
    assert "use the wiki's pages-articles" in found[0][0].metadata["failure"]


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"plain words", b"<mediawiki></mediawiki>"])
def test_what_is_no_dump_is_named(tmp_path: Path, content: bytes) -> None:
    found, damage = _read(tmp_path, content)
    assert (found, bool(damage)) == ([], True)
