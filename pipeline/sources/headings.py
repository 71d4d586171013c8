"""Where the chapters of a plain text begin: lines that stand alone and say so, in the larger languages of books."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["headed"]

_KIND = (
    r"chapter|chap\.|book|part|act|letter|stave|canto|volume|psalm|section|adventure"
    r"|kapitel|buch|teil|akt|hoofdstuk|deel|kapittel|kapitola|rozdział|część|fejezet|luku|bölüm"
    r"|chapitre|livre|partie|acte|capítulo|capitulo|libro|parte|capitolo|capitolul|capítol"
    r"|глава|часть|книга|том|розділ|частина|κεφάλαιο|الفصل|פרק|अध्याय|chương|bab"
)
_NUMBERS = (
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen"
    r"|nineteen|twenty|thirty|forty|fifty|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last"
    r"|premier|première|deuxième|troisième|primero|segundo|tercero|primeira|primeiro|primo|secondo|terzo|prim[ao]"
    r"|перв(?:ая|ый)|втор(?:ая|ой)|треть[яей]|третий|четв[её]рт(?:ая|ый)|пят(?:ая|ый)|шест(?:ая|ой)|седьм(?:ая|ой)"
    r"|восьм(?:ая|ой)|девят(?:ая|ый)|десят(?:ая|ый)"
    r"|الأول|الثاني|الثالث|الرابع|الخامس|السادس|السابع|الثامن|التاسع|العاشر"
)
_ORDINALS = (
    r"(?:erst|zweit|dritt|viert|fünft|sechst|siebent?|acht|neunt|zehnt|elft|zwölft)(?:es|er)"
    r"|(?:eerste|tweede|derde|vierde|vijfde|zesde|zevende|achtste|negende|tiende)"
    r"|(?:första|andra|tredje|fjärde|femte|sjätte|sjunde|åttonde|nionde|tionde)"
    r"|(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last)|\d{1,3}(?:\.|st|nd|rd|th)|[ivxlc]{1,8}\."
)
_ALONE = (
    r"prologue|epilogue|preface|foreword|introduction|prolog|epilog|vorwort|nachwort|einleitung|prólogo"
    r"|epílogo|prologo|épilogue|préface|пролог|эпилог|предисловие|послесловие|序章|終章|序|跋|프롤로그|에필로그"
)
_EAST_ASIAN = (
    r"第[ \u3000]{0,2}[0-9０-９一二三四五六七八九十百千〇零两兩壱弐参]{1,7}[ \u3000]{0,2}[章回節节話话卷巻編编幕部篇]"
    r"|제 ?[0-9일이삼사오육칠팔구십백]{1,5} ?[장부편화막회]"
)
_TITLE = r"(?:[.:—–-][^\n]{0,80}| +[^\sa-zß-öø-ÿα-ωа-яё][^\n]{0,80})?"
"""A title or nothing; a sentence that begins like a heading goes on in lower case."""
_HEADING = re.compile(
    r"(?:^|\n\n)[ \t]{0,40}([_=]?(?:"
    rf"(?i:(?:{_KIND}) (?:\d{{1,3}}|[ivxlc]{{1,8}}|(?:the )?(?:{_NUMBERS})(?:-[a-z]+)?)(?![^\W_])){_TITLE}"
    rf"|(?i:(?:{_ORDINALS}) (?:{_KIND})(?![^\W_])){_TITLE}"
    rf"|(?i:{_ALONE})[.:]?(?=_?\n)"
    rf"|(?:{_EAST_ASIAN})(?:[ \u3000:：.·][^\n]{{0,40}})?"
    r")(?=\n\n|\n[^\n]{0,80}\n\n|\n?\Z|[_=]\n))"
)
_NUMERAL = re.compile(r"(?:^|\n\n)[ \t]{0,40}([IVXLC]{1,8}(?:\.(?: [^\na-z]{1,80})?)?)(?=\n\n|\n[^\n]{0,80}\n\n)")
"""A heading in a book that has no others."""


def headed(text: str) -> Iterator[tuple[str, str]]:
    """Each heading and the text from it to the next; first what comes before all headings, with the title ''."""
    title, begin = "", 0
    for match in (_HEADING if _HEADING.search(text) else _NUMERAL).finditer(text):
        yield title, text[begin : match.start(1)]
        title, begin = " ".join(match[1].strip("_=").split()), match.start(1)
    yield title, text[begin:]
