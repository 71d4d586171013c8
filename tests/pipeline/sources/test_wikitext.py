"""Wikitext to text: markup goes, what only looks like markup stays, and where something went no hole is left."""

from __future__ import annotations

import random

import pytest

from pipeline.sources.wikitext.namespaces import NAMES
from pipeline.sources.wikitext.render import rendered
from pipeline.sources.wikitext.sections import SECTIONS
from pipeline.sources.wikitext.template_names import NAMES as NAMES_OF_TEMPLATES
from pipeline.sources.wikitext.template_texts import KINDS
from pipeline.sources.wikitext.wikis import code_of, wiki_of

TOKENS = [
    *(
        "{{",
        "}}",
        "{{{",
        "}}}",
        "[[",
        "]]",
        "|",
        "=",
        "==",
        "{|",
        "|}",
        "|-",
        "||",
        "!",
        "\n",
        " ",
        "''",
        "'''",
        "a",
        "b ",
    ),
    *(
        "<ref>",
        "</ref>",
        "<ref name=a />",
        "<!--",
        "-->",
        "<nowiki>",
        "</nowiki>",
        "<code>",
        "</code>",
        "<pre>",
        "</pre>",
    ),
    *(
        "<math>",
        "</math>",
        "<table>",
        "<td>",
        "</table>",
        "<br>",
        "<poem>",
        "</poem>",
        "&amp;",
        "&#1;",
        "&lt;",
        "__TOC__",
    ),
    *("-{", "}-", "zh-tw:", "H|", ";", ":", "*", "#", "(", ")", ",", "File:", "Category:", "http://a ", "[http://b c]"),
    *("convert|1|km", "lang|de|x", "quote|x", "1", "ubl|", "{{x}}", "{{convert|5|m}}", "\x01", "\x020\x01"),
]


def _text(markup: str, language: str = "en", **options: object) -> str:
    return rendered(markup, wiki_of(language), **options).text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''Bold''' and ''slanted'' [[town|towns]] and [[harbour]]s", "Bold and slanted towns and harbours"),
        ("a[[File:X.jpg|thumb|A [[linked]] caption]]b[[Image:Y.png]]c[[Datei:Z.jpg|mini]]", "abc"),
        ("a[[Category:Towns]]b [[:Category:Towns]]", "ab Category:Towns"),
        ("[[de:Hafen]]x[[:fr:Port|port]] [[mw:Help]]", "xport mw:Help"),
        ("a<ref>cite {{web|x}}</ref>b<ref name='x' />c", "abc"),
        ("a<ref>[http://x left open {{</ref>b", "ab"),
        ("a{{Infobox|b={{nested}}}}b<!-- hidden -->", "ab"),
        ("a [http://h label] b [http://h] [//h/x other] [http://h one [1]]", "a label b other one [1]"),
        ("a[[File:X.jpg\n|thumb\n|on\nlines]]b", "ab"),
        ("tea &amp; cake&nbsp;here", "tea & cake here"),
        ("one<br />two <span>three</span> <div>four</div>", "one\ntwo three\n\nfour"),
        (
            "== Town ==\ntext\n== References ==\nlist\n=== Sub ===\nmore\n== After ==\nend",
            "Town\n\ntext\n\nAfter\n\nend",
        ),
        ("== ''Nothing'' ==\n{{box}}\n== '''Full''' ==\n=== Sub ===\nyes", "Full\n\nSub\n\nyes"),
        ("__NOTOC__a__notoc__ __KEIN_INHALTSVERZEICHNIS__", "a"),
        ("l'''amour'' is '''''x''''' ''''y''''", "l'amour is x 'y'"),
        ("<gallery>\nFile:a.jpg|b\n</gallery>a<timeline>x</timeline>", "a"),
        ("10<sup>6</sup> m<sup>2</sup> H<sub>2</sub>O 19<sup>th</sup>", "10⁶ m² H2O 19th"),
        ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>", "漢(かん)"),
        ("<poem>\nOne ''line''\nand another\n</poem>", "One line\nand another"),
    ],
)
def test_markup(markup: str, text: str) -> None:
    assert _text(markup) == text


@pytest.mark.parametrize(
    "text",
    [
        "a<x and x>b",
        "a<b and b>c, p<i or s>u",
        "vector<int> and <T>x</T>",
        "! not a heading of a table",
        "| no cell\n|} no end",
        "if [[ -f $x ]]; then [[ ]] && [[ $a == b ]]",
        "main() and __FILE__ and __init__ and __index__",
        "a = b == c, a || b, {x}, [y], 5 * 3",
        "C:\\dir, 3 < 4 > 2, -{x}-",
        "it's the 1960's and rock 'n' roll",
        "#include <stdio.h>\n#define X 1\n#endif",
    ],
)
def test_what_only_looks_like_markup(text: str) -> None:
    assert _text(text) == text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("#include &lt;stdio.h&gt;", "#include <stdio.h>"),
        ("x &lt;ref&gt;y&lt;/ref&gt; &#91;&#91;z]] &amp;lt; &bogus;", "x <ref>y</ref> [[z]] &lt; &bogus;"),
        ("<nowiki>''[[x]] {{y}} <ref> &lt; __NOTOC__</nowiki>", "''[[x]] {{y}} <ref> < __NOTOC__"),
        ("{{nowrap|<nowiki>}}|</nowiki>}}", "}}|"),
        ("<nowiki>*</nowiki> no item", "* no item"),
        ("{{10^|<nowiki>x</nowiki>}} {{uc:<nowiki>a</nowiki>}} {{num|<nowiki>1</nowiki>}}", "10x a 1"),
        ("[[a|<nowiki>]]</nowiki>]]", "]]"),
        ("<code>[[ -f $x ]]</code>", "[[ -f $x ]]"),
        ("<code>a = ''</code>, <code>x[[1]]</code>", "a = '', x[[1]]"),
        ("<code>''n''</code> and <code>[[Foo|bar]]</code>", "n and bar"),
        ("<code>&lt;b&gt; a  b</code>", "<b> a  b"),
        ("<code>a = {{{0}}}; {{ name }} <b>x</code>", "a = {{{0}}}; {{ name }} <b>x"),
        ("<code>a {{!}} b{{=}}c</code>", "a | b=c"),
        (
            "x\n<syntaxhighlight lang='c'>\n#include <a.h>\n\n\n* b;  \n&lt; [[c]] {{d}}\n</syntaxhighlight>\ny",
            "x\n\n#include <a.h>\n\n\n* b;  \n&lt; [[c]] {{d}}\n\ny",
        ),
        ("<source>if (a<b) ''c''</source>", "if (a<b) ''c''"),
        ("x <syntaxhighlight inline lang=py>a  [b]</syntaxhighlight> y", "x a  [b] y"),
        ("<pre>\n  a\n\n\n   b &amp; ''c''\n</pre>", "  a\n\n\n   b & ''c''"),
        ("<math>\\frac{{a}}{b} < '' [[c]]</math>", "$\\frac{{a}}{b} < '' [[c]]$"),
        ('<math display="block">x^2</math>', "$$x^2$$"),
        ("<chem>H2O</chem>", "H2O"),
        ("<math>a &lt; b &= c</math>", "$a < b &= c$"),
    ],
)
def test_what_comes_through_byte_for_byte(markup: str, text: str) -> None:
    assert _text(f"{markup}") == text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("* one\n* two\n** deep\n* three", "- one\n- two\n  - deep\n- three"),
        ("# one\n# two\n## deep\n# three\n\n# again", "1. one\n2. two\n  1. deep\n3. three\n\n1. again"),
        (";term: meaning\n: http://a\n:: deeper", "term\nmeaning\nhttp://a\ndeeper"),
        ("* {{box}}\n* [[File:a.jpg]]\n* full", "- full"),
        ("a\n{| class='x'\n|-\n| cell\n|}\nb", "a\n\nb"),
        ("a\n{|\n|\n{|\n| inner\n|}\n|}\nb", "a\n\nb"),
        ("a\n{|\n| left open\n\nb", "a\n\nb"),
        ("a\n{|\n| left open\n== H ==\nb\n{|\n| c\n|}\nd", "a\n\nH\n\nb\n\nd"),
        ("a<table><tr><td>cell</td></tr></table>b", "a\n\nb"),
        (" indented\n  more", "indented\n more"),
    ],
)
def test_blocks(markup: str, text: str) -> None:
    assert _text(markup) == text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("word {{x}} word {{x}}, more", "word word, more"),
        ("Name ({{lang|de}}; ) is", "Name is"),
        ("Name ({{x}}; {{y}}) is", "Name is"),
        ("Name ({{x}}, born 1900) is", "Name (born 1900) is"),
        ("Name (S, 1776, {{x}}, {{y}}, {{z}}) is", "Name (S, 1776) is"),
        ("Name（{{x}}、）は", "Nameは"),
        ("end <ref>a</ref> . Next<ref>b</ref><ref>c</ref> one", "end. Next one"),
        ("a, {{x}}, b", "a, b"),
        ("a « {{x}} » b and „{{x}}“ c", "a b and c"),
        ("« {{x}} mot » <ref>a</ref> ; suite", "« mot » ; suite"),
        ("مدينة ({{x}}، {{y}}) في، {{z}}، مصر", "مدينة في، مصر"),
        ("नगर <ref>a</ref> । और", "नगर। और"),
        ("{{x}}, b", "b"),
        ("a\n\n{{box}}\n\nb", "a\n\nb"),
        ("f() and ( x ) stay", "f() and ( x ) stay"),
    ],
)
def test_no_hole_stays(markup: str, text: str) -> None:
    assert _text(markup) == text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("{{convert|2|km|mi}}", "2 kilometres (1.2 mi)"),
        ("{{convert|2|km|mi|abbr=on}}", "2 km (1.2 mi)"),
        ("{{convert|10|mi|km|adj=on}}", "10-mile (16 km)"),
        ("{{convert|2|-|5|km|mi}}", "2–5 kilometres (1.2–3.1 mi)"),
        ("{{convert|2000|ft|m}}", "2,000 feet (610 m)"),
        ("{{convert|100|C}}", "100 °C (212 °F)"),
        ("{{convert|-40|C|F}}", "−40 °C (−40 °F)"),
        ("{{convert|6|ft|2|in|m}}", "6 feet 2 inches (1.88 m)"),
        ("{{convert|1|mi|km|sp=us}}", "1 mile (1.6 km)"),
        ("{{convert|5|m|ft|sp=us}}", "5 meters (16 ft)"),
        ("{{convert|3|parsangs}}", "3 parsangs"),
        ("{{convert|1.5|e6km2}}", "1.5 million square kilometres (0.58 million sq mi)"),
        ("{{cvt|30|kn|km/h mph}}", "30 kn (56 km/h; 35 mph)"),
        ("{{lang|de|Hafen}} {{lang-de|Hafen}} {{langx|fr|[[port]]}}", "Hafen German: Hafen French: port"),
        ("{{transl|ar|DIN|al-Ǧazāʾir}} {{IPA|/x/}} {{IPAc-en|k|æ|t}}", "al-Ǧazāʾir /x/ /kæt/"),
        ("{{formatnum:1234567.89}} {{formatnum:1,234|R}}", "1,234,567.89 1234"),
        ("{{frac|2}} {{frac|1|3}} {{frac|5|1|3}}", "1⁄2 1⁄3 5 1⁄3"),
        ("{{val|1.5|0.2|e=-3|u=m}} {{val|12345|ul=km}}", "(1.5±0.2)×10⁻³ m 12,345 km"),
        ("{{nowrap|a b}} {{abbr|km|kilometre}} {{mvar|x}} {{chem|H|2|O}} {{chem2|CO2}}", "a b km x H2O CO2"),
        ("{{circa|1300}} {{as of|2001|5|3}} {{as of|2001|lc=y}}", "c. 1300 As of 3 May 2001 as of 2001"),
        ("5{{nbsp}}km, a{{snd}}b, 1{{ndash}}2", "5 km, a – b, 1–2"),
        ("{{quote|Words here.|A. Author}}", "Words here.\n— A. Author"),
        ("{{cquote|Words here.|20px|20px|A. Author|Book}}", "Words here.\n— A. Author, Book"),
        ("{{main|Other}}{{see also|More}}text{{sfn|A|2}}{{efn|b}}", "text"),
        ("{{HMS|Victory}} {{USS|Nimitz|CVN-68}} {{US$|5}}", "HMS Victory USS Nimitz (CVN-68) US$5"),
        ("{{Template:nowrap|a}} {{subst:nowrap|b}} {{unknown|{{nowrap|c}}}}", "a b"),
        ("{{{1|default}}} {{{{{1}}}}} {{ left {{nowrap|open}}", "default {{ left open"),
        ("{{#if:x|yes|no}} {{#if: |yes|no}} {{#ifeq:a|a|same}} {{#tag:math|x^2}}{{#tag:ref|x}}", "yes no same $x^2$"),
        (
            "{{sort|1|a}} {{legend|red|b}} {{font color|blue|c}} {{resize|80%|d}} {{sortname|Jane|Doe}}",
            "a b c d Jane Doe",
        ),
        ("{{harvtxt|Doe|2000}}, {{harvtxt|A|B|C|1999|p=5}}", "Doe (2000), A, B & C (1999)"),
        ("{{code|1=a  = ''}} {{tmath|x_1}}", "a  = '' $x_1$"),
        ("{{nowrap|1=a=b}} {{nowrap|[[x|y]]}} {{nowrap|text=z}}", "a=b y z"),
    ],
)
def test_templates(markup: str, text: str) -> None:
    assert _text(markup) == text


@pytest.mark.parametrize(
    ("language", "markup", "text"),
    [
        (
            "de",
            "{{formatnum:1234567.89}} {{laS|aqua}} {{Zitat|Text=Worte|Autor=A}}",
            "1.234.567,89 latein aqua\n\nWorte\n— A",
        ),
        ("ja", "{{JPN}}と{{flag|FRA}}、{{flagicon|DEU}}", "日本とフランス、"),
        ("en", "{{USA}} {{flag|Kenya}} {{XYZ}}", "United States Kenya"),
        ("ko", "{{convert|605.21|km2}}", "605.21 km² (233.67 sq mi)"),
        ("fr", "{{refnec|vrai|date=mai}} le {{1er}} mai, {{XXe siècle}}", "vrai le 1er mai, XXe siècle"),
        ("fr", "{{langue|en|x}} {{unité|12|km}} au {{s|XIX|e}} {{citation|y}}", "x 12 km au XIXe siècle « y »"),
        ("lv", "{{vol-en|town}}", "angļu: town"),
        ("it", "{{citazione necessaria|vero}} {{chiarire|questo}}", "vero questo"),
        ("es", "{{cita requerida|cierto}}", "cierto"),
        ("fr", "{{référence souhaitée|vrai}} {{quand|hier}}", "vrai hier"),
        ("it", "{{M|1200|u=km}} {{Citazione|Parole.|A}}", "1.200 km\n\nParole.\n— A"),
        ("de", '{{"|Worte}} {{lang|en|words}}', "„Worte“ words"),
        ("ru", "{{s|5 км}} {{число|12000}}", "5 км 12 000"),
        ("ru", "{{lang-en|town}} {{нп5|Город||en|Town}}", "английский: town Город"),
        ("ja", "{{読み仮名|漢字|かんじ}} {{仮リンク|町|en|Town}} {{ルビ|字|じ}}", "漢字（かんじ） 町 字"),
        ("ko", "{{llang|en|Seoul}} {{임시링크|서울|en|Seoul}}", "Seoul 서울"),
        ("zh", "{{lang-en|town}} {{le|城|Town}} {{tsl|en|Town|城镇}}", "英语: town 城 城镇"),
        ("ko", "[[그림:a.jpg|섬네일|x]]a[[분류:b]]", "a"),
        ("ja", "[[画像:a.jpg|サムネイル|x]]a[[カテゴリ:b]]", "a"),
        ("en", "[[Bild:a.jpg|mini|x]]a", "a"),
        ("ru", "__БЕЗ_ОГЛАВЛЕНИЯ__a", "a"),
        ("ja", "__目次非表示__a", "a"),
    ],
)
def test_other_languages(language: str, markup: str, text: str) -> None:
    assert _text(markup, language) == text


@pytest.mark.parametrize(
    ("markup", "plain", "taiwan"),
    [
        ("-{zh-hans:计算机;zh-hant:電腦;}-", "计算机", "電腦"),
        ("-{zh-cn:网络;zh-hk:網絡;zh-tw:網路}-", "网络", "網路"),
        ("-{zh-hk:網絡;zh-cn:网络}-", "网络", "網絡"),
        ("-{raw text}- -{R|zh-hans:x}-", "raw text zh-hans:x", "raw text zh-hans:x"),
        ("a-{H|zh-hans:甲;zh-hant:乙}-b-{T|zh:c}-d-{-|zh-hans:甲}-", "abd", "abd"),
        ("-{A|zh-hans:甲;zh-hant:乙}-", "甲", "乙"),
        ("-{zh-hans;zh-hant|both}-", "both", "both"),
        ("-{HUGEBLOCK=>zh-cn:大块;}-", "大块", "大块"),
        ("-{zh-hans:a&nbsp;b;zh-hant:c&amp;}-", "a b", "c&"),
        ("[[甲|-{zh-hans:[[b]];zh-hant:{{nowrap|c}}}-]]", "b", "c"),
        ("-{left open", "-{left open", "-{left open"),
        ("-{A|zh-hans:甲;zh-hant:乙}-和甲<nowiki>甲</nowiki>", "甲和甲甲", "乙和乙甲"),
        ("-{H|zh-cn:甲;zh-tw:乙}-甲", "甲", "乙"),
    ],
)
def test_variants(markup: str, plain: str, taiwan: str) -> None:
    assert (_text(markup, "zh"), _text(markup, "zh", variant="zh-tw")) == (plain, taiwan)


def test_variants_of_serbian() -> None:
    markup = "-{sr-ec:град; sr-el:grad}- -{N|sr-ec}-"
    assert _text("-{sr-ec:град; sr-el:grad}-", "sr") == "град"
    assert _text("-{sr-ec:град; sr-el:grad}-", "sr", variant="sr-el") == "grad"
    assert _text(markup, "en") == markup


def test_what_was_left_out_is_counted_by_rule() -> None:
    parts = {
        "references": "<ref>note</ref>",
        "comments": "<!-- c -->",
        "templates": "{{box|a={{inner}}}}",
        "media": "[[File:x.jpg|thumb|caption]]",
        "interlanguage": "[[de:X]]",
    }
    found = rendered("text" + "".join(parts.values()) + "\n{|\n| cell\n|}\n== Notes ==\nlist", wiki_of("en"))
    assert found.text == "text"
    assert found.cuts == {rule: len(part) for rule, part in parts.items()} | {
        "tables": len("{|\n| cell\n|}\n"),
        "sections": len("== Notes ==\nlist\n"),
    }


def test_every_wiki_has_its_names() -> None:
    codes = [line.split("|")[0] for line in NAMES.strip().splitlines()]
    assert len(codes) == len(set(codes)) > 280
    for code in codes:
        wiki = wiki_of(code)
        assert {"file", "image", "category"} <= wiki.hidden
        assert not wiki.is_redirect("text [[x]]")
        for word in wiki.redirects:
            assert wiki.is_redirect(f"#{word.upper()} [[x]]") or wiki.is_redirect(f"#{word} [[x]]"), (code, word)


@pytest.mark.parametrize(
    ("language", "heading"),
    [
        ("en", "References and notes"), ("en", "Notes, citations and further reading"), ("en", "See also:"),
        ("de", "Anmerkungen und Einzelnachweise"), ("ja", "脚注・出典"), ("ko", "각주 및 참고 문헌"),
        ("ru", "Примечания и ссылки"),
        ("ko", "출처"), ("zh", "延伸閱讀"), ("ka", "სქოლიო"), ("te", "మూలాలు"), ("simple", "Other websites"),
    ],
)  # fmt: skip
def test_end_sections_go_whatever_joins_their_names(language: str, heading: str) -> None:
    markup = f"Words.\n== History ==\nOld words.\n== {heading} ==\n* [http://h Gone]\n== After ==\nMore words."
    assert _text(markup, language).split("\n\n") == ["Words.", "History", "Old words.", "After", "More words."]


@pytest.mark.parametrize("heading", ["Sources and course", "Notes and coins", "Source", "And"])
def test_a_heading_that_joins_something_else_stays(heading: str) -> None:
    assert "Kept" in _text(f"Words.\n== {heading} ==\nKept words.")


def test_the_largest_wikis_have_end_sections() -> None:
    large = "ceb de fr sv nl es ru it pl arz zh ja uk vi ar war pt fa ca id sr ko no tr ce fi cs hu tt ro sh eu ms he"
    english = [code for code in large.split() if wiki_of(code).end_sections == SECTIONS["en"]]
    assert not english


@pytest.mark.parametrize(
    ("database", "language", "code"),
    [
        ("kowiki", "ko", "ko"),
        ("zh_min_nanwiki", "nan", "zh-min-nan"),
        ("simplewiki", "en", "simple"),
        ("frwiktionary", "fr", "fr"),
        ("commonswiki", "en", "commons"),
        ("mywiki", "de", "my"),
        ("company", "pt", "pt"),
        ("", "", "en"),
    ],
)
def test_the_code_of_a_wiki(database: str, language: str, code: str) -> None:
    assert code_of(database, language) == code


def test_characters_that_could_be_marks_are_none() -> None:
    assert _text("a\x010\x01b\x02c\x03<nowiki>\x010\x01</nowiki>") == "a0bc0"


def test_an_argument_is_used_once_at_most() -> None:
    """Otherwise templates within templates would double their text at each level."""
    named = "|".join(
        f"{name}=n{name}" for name in ("text", "author", "source", "u", "e", "t", "s", "p", "hangul", "lt")
    )
    assert set(NAMES_OF_TEMPLATES.values()) == set(KINDS)
    for language in ("en", "fr", "de", "ru", "it"):
        for name in NAMES_OF_TEMPLATES:
            text = _text(f"{{{{{name}|q1q|q2q|q3q|q4q|q5q|q6q|{named}}}}}", language)
            twice = [part for part in (*(f"q{n}q" for n in range(1, 7)), "ntext", "nauthor") if text.count(part) > 1]
            assert not twice, (name, text)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_comes_leaves_no_mark(seed: int) -> None:
    source = random.Random(seed)
    for language in ("en", "zh", "fr"):
        markup = "".join(source.choices(TOKENS, k=source.randint(1, 400)))
        found = rendered(markup, wiki_of(language), variant="zh-tw", tables=source.random() < 0.5)
        assert not set(found.text) & set("\x00\x01\x02\x03\x04")
        assert all(size > 0 for size in found.cuts.values())
