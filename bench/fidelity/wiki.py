"""Articles out of wikitext: pages written here, whose text is known, and the dumps in DEEPMILL_CORPORA.

Each written page is put together of pieces with a known text, in the words of one language's wiki, and read by ours,
by mwparserfromhell's `strip_code` and by WikiExtractor's rules (`Extractor.clean_text`, without the wiki's templates,
which no dump of articles has). Compared are shingles of four words, or of characters where words are not apart, and
the share of pages that are equal but for white space. Of the real dumps no text is known: there, what is plainly left
of markup is counted, and the holes where something went.
"""

from __future__ import annotations

import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench.corpora import corpora
from bench.fidelity.needs import peer
from bench.table import Row, row
from infra.storage import ExternalFile
from pipeline.sources.stream import Damaged, Part, open_stream
from pipeline.sources.wiki import pages, site_of
from pipeline.sources.wikitext.render import rendered
from pipeline.sources.wikitext.wikis import Wiki, wiki_of

Reader = Callable[[str, Wiki], str]
Piece = tuple[str, str]
"""Markup and its text."""
WORDS = {
    "en": "the harbour of old town lies open to west and wind comes with tide",
    "de": "der Hafen dieser alten Stadt liegt offen nach Westen wo Wind und Flut kommen",
    "fr": "le port de cette vieille ville reste ouvert vers un vent qui vient du large",
    "ru": "гавань старого города открыта на запад откуда приходит ветер вместе с приливом",
    "ko": "오래된 도시의 항구는 서쪽으로 열려 있고 바람은 밀물과 함께 온다",
    "ja": "古い町の港は西に開き風は潮とともに来る",
    "zh": "老城的海港向西敞开风与潮水一同到来",
}
OWN: dict[str, tuple[str, str, str, str]] = {
    "en": ("File", "thumb", "Category", "References"),
    "de": ("Bild", "mini", "Kategorie", "Einzelnachweise"),
    "fr": ("Fichier", "vignette", "Catégorie", "Notes et références"),
    "ru": ("Файл", "мини", "Категория", "Примечания"),
    "ko": ("그림", "섬네일", "분류", "각주"),
    "ja": ("画像", "サムネイル", "カテゴリ", "脚注"),
    "zh": ("圖像", "縮圖", "分類", "参考资料"),
}
"""What a language calls files (by a name that its dump does not list), a thumbnail, categories, the notes."""
PAGES = 200
SHINGLE = 4
_LEFT = re.compile(
    r"\[\[|\]\]|\{\{|\}\}|'{2,}|</?(?:ref|span|div|br|small|sup|sub|nowiki|math)\b|__[A-Z]{3,}__|&(?:nbsp|lt|gt|amp);"
    r"|^[ \t]*(?:\{\||\|)|\b(?:thumb|right|left|[0-9]{2,4}px)\|",
    re.MULTILINE,
)
_HOLES = re.compile(r"(?<=\S)  +(?=\S)| \([ \t,;:]*\)|\([ \t]*[,;]|[,;][ \t]*\)|,[ \t]*,|(?<=\w) [,.;](?=\s)")
_FORMULA = re.compile(r"\$[^$\n]{0,2000}\$")


def rows(data: Path | None, quick: bool) -> Iterable[Row]:
    """F1 and equal pages by language; leftovers, holes and speed by dump."""
    peers = _peers()
    readers = {"ours": _ours} | {name: found for name, found in peers.items() if found is not None}
    missing = dict.fromkeys(name for name, found in peers.items() if found is None)
    yield from _written(readers, missing, PAGES // 10 if quick else PAGES)
    for file in sorted((corpora("wiki") / "wiki").glob("*.bz2")):
        yield from _dump(file, readers, missing, quick)


def _ours(markup: str, wiki: Wiki) -> str:
    return rendered(markup, wiki).text


def _peers() -> dict[str, Reader | None]:
    def parser(module: Any) -> Reader:
        return lambda markup, wiki: str(module.parse(markup).strip_code())

    def extractor(module: Any) -> Reader:
        def read(markup: str, wiki: Wiki) -> str:
            return "\n".join(module.Extractor(1, 1, "http://w/", "A", "").clean_text(markup, html_safe=False))

        return read

    return {
        "mwparserfromhell": peer("mwparserfromhell", parser),
        "WikiExtractor": peer("wikiextractor.extract", extractor),
    }


def _written(readers: dict[str, Reader], missing: dict[str, None], count: int) -> Iterator[Row]:
    for language in WORDS:
        wiki = wiki_of(language)
        known = [_page(language, number) for number in range(count)]
        scores: dict[str, tuple[float, float]] = {}
        for name, read in readers.items():
            found = [(text, _safely(read, markup, wiki)) for markup, text in known]
            equal = statistics.mean(" ".join(text.split()) == " ".join(ours.split()) for text, ours in found)
            scores[name] = 100 * statistics.mean(_f1(*pair) for pair in found), 100 * equal
        for place, (measure, target) in enumerate((("F1", 99.0), ("equal", 99.0))):
            others = {name: score[place] for name, score in scores.items() if name != "ours"} | missing
            entry = row(f"{count} pages in {language}: {measure}", "%", scores["ours"][place], others, None)
            yield entry | {"target": target, "holds": scores["ours"][place] >= target}


def _safely(read: Reader, markup: str, wiki: Wiki) -> str:
    try:
        return read(markup, wiki)
    except Exception:  # a peer that breaks down has found nothing
        return ""


def _f1(known: str, found: str) -> float:
    apart = len(known) < 20 * len(known.split())
    one, other = _shingles(known, apart), _shingles(found, apart)
    both = sum((one & other).values())
    return 2 * both / max(1, one.total() + other.total())


def _shingles(text: str, apart: bool) -> Counter[tuple[str, ...]]:
    """Of words, or of characters where words are not apart."""
    units = text.split() if apart else list("".join(text.split()))
    return Counter(tuple(units[at : at + SHINGLE]) for at in range(max(1, len(units) - SHINGLE + 1)))


def _page(language: str, number: int) -> Piece:
    """A page of that wiki, always the same one for a number."""
    source = random.Random(f"{language}/{number}")
    file, thumb, category, notes = OWN[language]
    box = f"{{{{Box|a={_words(source, language)}|b={{{{x|y}}}}}}}}"
    image = f"[[{file}:{number}.jpg|{thumb}|200px|{_words(source, language)} [[{_words(source, language)}]]]]"
    markup, text = [box, image], []
    for _ in range(source.randint(2, 6)):
        title = _words(source, language)
        sentences = [_sentence(source, language) for _ in range(source.randint(2, 5))]
        paragraph = _space(language).join(sentence[0] for sentence in sentences)
        markup += [f"== {title} ==", paragraph]
        text += [title, _space(language).join(sentence[1] for sentence in sentences)]
        block = source.choice(_BLOCKS)(source, language)
        markup.append(block[0])
        text.append(block[1])
    markup += [f"== {notes} ==", "{{Reflist}}", f"* [http://a.example {_words(source, language)}]", f"[[{category}:A]]"]
    return "\n".join(markup), "\n".join(text)


def _space(language: str) -> str:
    return "" if language in ("ja", "zh") else " "


def _words(source: random.Random, language: str) -> str:
    gap, words = _space(language), WORDS[language]
    return gap.join(source.choices(words.split(gap) if gap else words, k=source.randint(2, 6)))


def _sentence(source: random.Random, language: str) -> Piece:
    """A few plain words around one piece of markup."""
    before, after = _words(source, language), _words(source, language)
    markup, text = source.choice(_INLINE)(source, language)
    stop = "。" if language in ("ja", "zh") else "."
    gap = _space(language)
    if not text:  # what stands for nothing leaves no gap either
        return f"{before}{source.choice(('', gap))}{markup}{gap}{after}{stop}", f"{before}{gap}{after}{stop}"
    return f"{before}{gap}{markup}{gap}{after}{stop}", f"{before}{gap}{text}{gap}{after}{stop}"


def _inside(before: str, after: str) -> Callable[[random.Random, str], Piece]:
    def make(source: random.Random, language: str) -> Piece:
        words = _words(source, language)
        return f"{before}{words}{after}", words

    return make


def _link(source: random.Random, language: str) -> Piece:
    label = _words(source, language)
    return f"[[{_words(source, language)}|{label}]]", label


def _nothing(markup: str) -> Callable[[random.Random, str], Piece]:
    return lambda source, language: (markup, "")


def _same(text: str, markup: str = "") -> Callable[[random.Random, str], Piece]:
    return lambda source, language: (markup or text, text)


def _brackets(source: random.Random, language: str) -> Piece:
    words = _words(source, language)
    return f"({{{{audio-x}}}}; {words}, {{{{box}}}})", f"({words})"


_INLINE: tuple[Callable[[random.Random, str], Piece], ...] = (
    *(_inside("'''", "'''"), _inside("''", "''"), _inside("[[", "]]"), _inside("[http://a.example/b ", "]")),
    *(_inside("{{lang|en|", "}}"), _inside("{{nowrap|", "}}"), _inside("<small>", "</small>"), _link, _brackets),
    *(_nothing("<ref>{{cite web|url=http://x|title=y}}</ref>"), _nothing("<ref name='a' />"), _nothing("<!-- x -->")),
    *(
        _nothing("{{citation needed|date=May 2020}}"),
        _nothing("({{IPA-none}}; {{audio-x}})"),
        _nothing("[http://a.example]"),
    ),
    *(_same("a<x and y>b"), _same("main() and __FILE__"), _same("3 < 4", "3 &lt; 4"), _same("#include <stdio.h>")),
    *(_same("[[x]] {{y}} ''z''", "<nowiki>[[x]] {{y}} ''z''</nowiki>"), _same("$x^2$", "<math>x^2</math>")),
    *(_same("if [[ -f a ]]", "<code>if [[ -f a ]]</code>"), _same("std::vector<int>", "<code>std::vector<int></code>")),
)


def _items(source: random.Random, language: str) -> Piece:
    items = [_words(source, language) for _ in range(3)]
    return "\n".join(f"* [[{item}]]" for item in items), "\n".join(f"- {item}" for item in items)


def _table(source: random.Random, language: str) -> Piece:
    return f"{{| class='wikitable'\n|-\n! {_words(source, language)}\n| {_words(source, language)}\n|}}", ""


def _listing(source: random.Random, language: str) -> Piece:
    code = "#include <stdio.h>\n\nint main() {\n  return a[b[0]] < 1 && c;\n}"
    return f"<syntaxhighlight lang='c'>\n{code}\n</syntaxhighlight>", code


def _bang(source: random.Random, language: str) -> Piece:
    line = f"! {_words(source, language)}"
    return line, line


_BLOCKS: tuple[Callable[[random.Random, str], Piece], ...] = (_items, _table, _listing, _bang)


def _dump(file: Path, readers: dict[str, Reader], missing: dict[str, None], quick: bool) -> Iterator[Row]:
    wiki, articles = _articles(file)
    articles = articles[:: 10 if quick else 1]
    left: dict[str, float] = {}
    holes: dict[str, float] = {}
    speed: dict[str, float] = {}
    for name, read in readers.items():
        _safely(read, articles[0], wiki)  # what only the first page takes
        begin = time.process_time()
        texts = [_safely(read, markup, wiki) for markup in articles]
        speed[name] = len(texts) / (time.process_time() - begin)
        texts = [_FORMULA.sub("x", text) for text in texts]
        left[name] = sum(len(_LEFT.findall(text)) for text in texts)
        holes[name] = sum(len(_HOLES.findall(text)) for text in texts)
    what = f"{wiki.code}, {len(articles)} articles"
    for measure, unit, found in (("left of markup", "places", left), ("holes", "places", holes)):
        others = {name: count for name, count in found.items() if name != "ours"} | missing
        yield row(f"{what}: {measure}", unit, found["ours"], others, None)
    others = {name: rate for name, rate in speed.items() if name != "ours"} | missing
    yield row(f"{what}: speed", "pages/s", speed["ours"], others, None)


def _articles(file: Path) -> tuple[Wiki, list[str]]:
    """The wiki and the markup of the articles of a dump, as far as it is whole."""
    part = Part(ExternalFile(str(file), file.name, file.stat().st_size))
    with open_stream(part) as stream:
        wiki = site_of(stream).wiki
    articles = []
    with open_stream(part) as stream:
        stream.recode()
        try:
            for raw, problem in pages(stream, 1 << 24):
                page = ElementTree.fromstring(raw) if raw and not problem else None
                markup = page.findtext("revision/text") or "" if page is not None else ""
                if page is not None and page.findtext("ns") == "0" and not wiki.is_redirect(markup):
                    articles.append(markup)
        except Damaged:
            pass
    return wiki, articles
