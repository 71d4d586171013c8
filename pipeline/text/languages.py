"""Languages by their codes, in whatever way they are written.

A language is called by its ISO 639-1 code where it has one, else by its ISO 639-3 code, which is how the identifier of
the clean stage calls them. `pipeline.text.thresholds` has the names and knows 1,900 of them.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from itertools import islice

from pipeline.text.thresholds import ENGLISH, rows

__all__ = ["base_code", "row_of", "understood"]

_PAIRS = (
    "ab:abk af:afr am:amh an:arg ar:arb as:asm av:ava az:azj ba:bak be:bel bg:bul bi:bis bm:bam bn:ben bo:bod "
    "br:bre bs:bos ca:cat ce:che ch:cha co:cos cs:ces cu:chu cv:chv cy:cym da:dan de:deu dv:div dz:dzo ee:ewe "
    "el:ell eo:epo es:spa et:ekk eu:eus fa:fas ff:fuv fi:fin fj:fij fo:fao fr:fra fy:fry ga:gle gd:gla gl:glg "
    "gn:gug gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her ia:ina id:ind ie:ile "
    "ig:ibo io:ido is:isl it:ita ja:jpn jv:jav ka:kat ki:kik kj:kua kk:kaz kl:kal km:khm kn:kan ko:kor ks:kas "
    "ku:kmr kw:cor ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lu:lub lv:lvs mg:plt mh:mah mi:mri "
    "mk:mkd ml:mal mn:khk mr:mar ms:zsm mt:mlt my:mya nd:nde ne:npi ng:ndo nl:nld nn:nno no:nob nr:nbl nv:nav "
    "ny:nya oc:oci om:gaz or:ory os:oss pa:pan pl:pol ps:pbt pt:por qu:quy rm:roh rn:run ro:ron ru:rus rw:kin "
    "sa:san sc:srd sd:snd se:sme sg:sag si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:als sr:srp ss:ssw st:sot "
    "su:sun sv:swe sw:swh ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:fil tn:tsn to:ton tr:tur ts:tso tt:tat "
    "tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzn ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho yi:ydd yo:yor zh:cmn "
    "zu:zul "
)
THREE_LETTERS: dict[str, str] = {"en": "eng", **dict(pair.split(":") for pair in _PAIRS.split())}
"""ISO 639-1 to ISO 639-3; of a macrolanguage the language that most of its text is in."""
SAME = {
    **{three: two for two, three in THREE_LETTERS.items()},
    **{"ara": "ar", "aze": "az", "est": "et", "kur": "ku", "lav": "lv", "mlg": "mg", "mon": "mn", "msa": "ms"},
    **{"nb": "no", "nor": "no", "nep": "ne", "ori": "or", "pus": "ps", "pes": "fa", "prs": "fa", "que": "qu"},
    **{"sqi": "sq", "swa": "sw", "tgl": "tl", "uzb": "uz", "yid": "yi", "zho": "zh", "zlm": "ms", "hbs": "sr"},
    **{"alb": "sq", "arm": "hy", "baq": "eu", "bur": "my", "chi": "zh", "cze": "cs", "dut": "nl", "fre": "fr"},
    **{"geo": "ka", "ger": "de", "gre": "el", "ice": "is", "mac": "mk", "may": "ms", "per": "fa", "rum": "ro"},
    **{"slo": "sk", "tib": "bo", "wel": "cy", "iw": "he", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro", "sh": "sr"},
}
"""Other codes of a language: ISO 639-3 and 639-2, of its parts and wholes, and withdrawn ones."""
COUNTRIES = {
    **{"kr": "ko", "kp": "ko", "jp": "ja", "cn": "zh", "tw": "zh", "gr": "el", "cz": "cs", "dk": "da", "ua": "uk"},
    **{"vn": "vi", "us": "en", "gb": "en", "br": "pt", "ir": "fa", "pk": "ur", "rs": "sr", "il": "he", "in": "hi"},
    **{"ge": "ka", "am": "hy", "kh": "km", "mm": "my", "la": "lo", "my": "ms", "ee": "et", "si": "sl", "se": "sv"},
}
"""Codes of countries that are taken for their languages; some of them are the codes of other languages."""
_NAMES = {"chinese": "zh", "arabic": "ar", "persian": "fa", "farsi": "fa", "malay": "ms", "greek": "el"}
_NAMES |= {"norwegian": "no", "latvian": "lv", "estonian": "et", "swahili": "sw", "tagalog": "tl", "nepali": "ne"}
_NAMES |= {"deutsch": "de", "español": "es", "français": "fr", "italiano": "it", "nederlands": "nl", "polski": "pl"}
_NAMES |= {"português": "pt", "русский": "ru", "한국어": "ko", "日本語": "ja", "中文": "zh", "العربية": "ar"}
SCRIPTS = {
    **{"ARABIC": "Arab", "BENGALI": "Beng", "CYRILLIC": "Cyrl", "DEVANAGARI": "Deva", "GUJARATI": "Gujr"},
    **{"GURMUKHI": "Guru", "HEBREW": "Hebr", "KANNADA": "Knda", "LATIN": "Latn", "MALAYALAM": "Mlym"},
    **{"ORIYA": "Orya", "TAMIL": "Taml", "TELUGU": "Telu"},
}
"""Scripts of languages that are written in several, by their names in Unicode, to ISO 15924."""
_ENOUGH = 400
"""Letters that tell a script."""


def base_code(code: str) -> str:
    """`pt-BR`, `por` and `por_Latn` as `pt`; what is no known code in lower case."""
    base = re.split("[-_]", code.strip(), maxsplit=1)[0].lower()
    return SAME.get(base, base)


def understood(code: str) -> str:
    """The language that somebody means by `ko`, `KO`, `ko-KR`, `kor`, `kor_Hang` or `Korean`.

    Raises:
        ValueError: it is none, with the right one named.
    """
    base = base_code(code)
    if base in THREE_LETTERS or (len(base) == 3 and base in rows()):
        return base
    names = _names()
    if found := names.get(code.strip().lower()):
        return found
    if right := COUNTRIES.get(base):
        raise ValueError(f"{code!r} is the code of a country; the language is {right!r} ({_name(right)})")
    usual = [name for name, language in names.items() if language in THREE_LETTERS]
    near = difflib.get_close_matches(code.lower(), usual, 1, 0.75)
    hint = f"; did you mean {names[near[0]]!r} ({_name(names[near[0]])})?" if near else ""
    raise ValueError(f"{code!r} is no language code of ISO 639{hint}")


def _names() -> dict[str, str]:
    """Language by its English name in lower case."""
    return {
        **{row.name.lower(): base_code(code) for code, found in rows().items() for row in found.values() if row.name},
        **_NAMES,
        "english": "en",
    }


def _name(language: str) -> str:
    if language == "en":
        return "English"
    return next((row.name for row in rows().get(THREE_LETTERS.get(language, language), {}).values()), language)


def row_of(language: str, text: str) -> str:
    """The row of the thresholds for a text: `kor_Hang`, or `srp_Latn` where that is what the text is written in.

    A language without a row is its own.
    """
    if language == "en":
        return ENGLISH
    three = THREE_LETTERS.get(language, language)
    scripts = rows().get(three, {})
    if len(scripts) < 2:
        return f"{three}_{next(iter(scripts))}" if scripts else language
    letters = (character for character in text if character.isalpha())
    counts = Counter(unicodedata.name(letter, "-").partition(" ")[0] for letter in islice(letters, _ENOUGH))
    written = (SCRIPTS.get(name, "") for name, _ in counts.most_common())
    return f"{three}_{next((script for script in written if script in scripts), next(iter(scripts)))}"
