"""What becomes of the arguments of a template, by the kind of template that it is.

Each argument is used at most once, or text within templates within templates would grow without bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.sources.wikitext.braces import Arguments
from pipeline.sources.wikitext.entities import decoded
from pipeline.sources.wikitext.marks import Kept
from pipeline.sources.wikitext.numbers import country, fraction, grouped, locale_of, raised, scientific
from pipeline.sources.wikitext.quantities import converted

__all__ = ["KINDS", "Page"]

_CODE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z]{2,8}){0,2}")
_ACCIDENTALS = {"flat": "♭", "b": "♭", "sharp": "♯", "#": "♯", "natural": "♮", "n": "♮", "doubleflat": "𝄫", "bb": "𝄫"}
_PLAIN_IPA = {"lang", "pron", "us", "uk", "audio", "also", "local", "icon"}
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_CHINESE = {
    "t": "traditional Chinese",
    "s": "simplified Chinese",
    "c": "Chinese",
    "p": "pinyin",
    "tp": "Tongyong Pinyin",
} | {
    **{
        "w": "Wade–Giles",
        "j": "Jyutping",
        "cy": "Cantonese Yale",
        "poj": "Pe̍h-ōe-jī",
        "l": "lit.",
        "hp": "Hanyu Pinyin",
    },
}
_KOREAN = {"hangul": "Korean", "hanja": "Hanja", "rr": "RR", "mr": "MR", "lit": "lit."}


@dataclass(frozen=True)
class Page:
    """The page on which templates stand."""

    language: str
    """Of its wiki."""
    title: str
    kept: Kept

    def labelled(self, code: str, text: str, *, adverb: bool = False) -> str | None:
        """Words of a language with its name before them."""
        if not text:
            return None
        names = locale_of(self.language).languages
        label = names.get(code.replace("-", "_")) or names.get(code.partition("-")[0], "")
        if adverb:
            return f"{label.lower()} {text}" if label else text
        return f"{label}: {text}" if label else text


_Handler = Callable[[Page, Arguments], str | None]
"""Gives the text of a template, or None if it has none."""


def _first(page: Page, arguments: Arguments) -> str | None:
    return arguments.get("lt", "text", "texte", "fr", "1", "content", "trad") or None


def _flag(page: Page, arguments: Arguments) -> str | None:
    land = arguments.get("1")
    return arguments.get("name") or country(land, page.language) or land or None


def _last(page: Page, arguments: Arguments) -> str | None:
    values = [value for value in arguments.unnamed if value]
    if len(values) < 2:
        only = values[0] if values and not _CODE.fullmatch(values[0]) else None
        return arguments.get("text", "texte", "texto") or only
    return values[2] if len(values) > 2 and values[1].isupper() else values[1]


def _second(page: Page, arguments: Arguments) -> str | None:
    return arguments.get("2", "1") or None


def _joined(page: Page, arguments: Arguments) -> str | None:
    return "".join(arguments.unnamed) or None


def _spaced(page: Page, arguments: Arguments) -> str | None:
    return " ".join(value for value in arguments.unnamed if value) or None


def _cited(page: Page, arguments: Arguments) -> str | None:
    """Doe & Roe (2000)."""
    *names, year = [value for value in arguments.unnamed if value] or [""]
    return f"{', '.join(names[:-1])}{' & ' if len(names) > 1 else ''}{names[-1]} ({year})" if names else None


def _named(page: Page, arguments: Arguments) -> str | None:
    return arguments.get("5") or " ".join(value for value in arguments.unnamed[:2] if value) or None


def _measured(page: Page, arguments: Arguments) -> str | None:
    """A number with its unit."""
    number, *units = [value for value in arguments.unnamed if value] or [""]
    return " ".join([grouped(number, page.language), *units]) or None


def _local_measure(page: Page, arguments: Arguments) -> str | None:
    """`{{M|12|u=km}}` of the Italian wiki."""
    if page.language != "it" or not arguments.count:
        return None
    return f"{grouped(arguments.get('1'), 'it')} {arguments.get('u', 'ul', '3')}".strip()


def _quoted(page: Page, arguments: Arguments) -> str | None:
    """A quotation within a sentence, on the German wiki."""
    text = arguments.get("text", "1")
    return (f"„{text}“" if page.language == "de" else f'"{text}"') if text else None


def _ship(page: Page, arguments: Arguments) -> str | None:
    return " ".join(value for value in arguments.unnamed[:2] if value) or None


def _respelled(page: Page, arguments: Arguments) -> str | None:
    return "-".join(value for value in arguments.unnamed if value) or None


def _slashes(page: Page, arguments: Arguments) -> str | None:
    sounds = [value for value in arguments.unnamed if value.lower() not in _PLAIN_IPA]
    return f"/{''.join(sounds)}/" if sounds else None


def _language(page: Page, arguments: Arguments) -> str | None:
    text = arguments.get("text", "2")
    if arguments.get("label").lower() in ("none", "no"):
        return text or None
    return page.labelled(arguments.get("code", "1"), text)


def _code(page: Page, arguments: Arguments) -> str | None:
    code = arguments.get("code", "1")
    return page.kept.inline(decoded(code), code=True) if code else None


def _tex(page: Page, arguments: Arguments) -> str | None:
    tex = arguments.get("1")
    return page.kept.inline(f"${tex}$") if tex else None


def _raised(page: Page, arguments: Arguments) -> str | None:
    text = arguments.get("1")
    return (raised(text) if text.lstrip("+-−").isdecimal() else text) or None


def _number(page: Page, arguments: Arguments) -> str | None:
    return grouped(arguments.get("1"), page.language) or None


def _fraction(page: Page, arguments: Arguments) -> str | None:
    values = arguments.unnamed
    return fraction(values) if values else None


def _value(page: Page, arguments: Arguments) -> str | None:
    """`{{val|v|u|e=exponent|u=unit}}`: a value with its uncertainty."""
    values = [grouped(value, "en") for value in arguments.unnamed[:3]]
    exponent, unit = arguments.get("e"), arguments.get("u", "ul")
    if not values:
        return f"10{raised(exponent)}{' ' + unit if unit else ''}" if exponent else None
    shown = arguments.get("p") + values[0]
    if len(values) == 2:
        shown += values[1] if values[1].startswith("(") else f"±{values[1]}"
    elif len(values) == 3:
        shown += f"+{values[1].lstrip('+')}−{values[2].lstrip('-−')}"
    if end := arguments.get("end"):
        shown += end
    if exponent:
        shown = f"({shown})" if len(values) > 1 and not values[1].startswith("(") else shown
        shown += scientific(exponent)
    if not unit:
        return shown
    return f"{shown}{unit}" if unit in ("%", "°", "′", "″") else f"{shown} {_powers(unit)}"


def _powers(unit: str) -> str:
    return re.sub(r"(?<=[a-zA-Z])([-−]?[0-9])", lambda match: raised(match[1]), unit)


def _power(page: Page, arguments: Arguments) -> str | None:
    return scientific(arguments.get("1")) if arguments.count else None


def _power_of_ten(page: Page, arguments: Arguments) -> str | None:
    return f"10{raised(arguments.get('1'))}" if arguments.count else None


def _root(page: Page, arguments: Arguments) -> str | None:
    return f"{raised(arguments.get('2'))}√{arguments.get('1')}" if arguments.count else None


def _before(word: str) -> _Handler:
    """A year or two with a word before them."""

    def show(page: Page, arguments: Arguments) -> str | None:
        years = [value for value in arguments.unnamed if value]
        return f"{word} {' – '.join(years)}" if years else word

    return show


def _as_of(page: Page, arguments: Arguments) -> str | None:
    if alternative := arguments.get("alt"):
        return alternative
    year, month, day = (arguments.get(number) for number in ("1", "2", "3"))
    words = "Since" if arguments.get("since") else "As of"
    words = words.lower() if arguments.get("lc") else words
    name = _MONTHS[int(month) - 1] if month.isdigit() and 1 <= int(month[:2]) <= 12 else month
    date = (name, day, year) if arguments.get("df").upper() == "US" else (day, name, year)
    shown = " ".join(part for part in date if part)
    return f"{words} {shown}{arguments.get('post')}" if year else None


def _date(page: Page, arguments: Arguments) -> str | None:
    year, month, day = (arguments.get(number) for number in ("1", "2", "3"))
    if not (month.isdigit() and 1 <= int(month[:2]) <= 12):
        return year or None
    name = _MONTHS[int(month[:2]) - 1]
    if not day:
        return f"{name} {year}"
    return f"{day} {name} {year}" if arguments.get("df") in ("y", "yes") else f"{name} {day}, {year}"


def _quote(page: Page, arguments: Arguments) -> str | None:
    text = arguments.get("text", "quote", "texte", "texto", "testo", "cita", "1", "content")
    by = arguments.get("author", "sign", "by", "autor", "auteur", "autore", "автор")
    source = arguments.get("source", "quelle")
    unnamed = [value for value in arguments.unnamed[1:] if value and not value.endswith("px")]
    by, source = by or "".join(unnamed[:1]), source or "".join(unnamed[1:2])
    if not text:
        return None
    signed = ", ".join(part for part in (by, source) if part)
    return f"\n\n{text}\n{'— ' + signed if signed else ''}\n\n"


def _guillemets(page: Page, arguments: Arguments) -> str | None:
    """« a quotation » on the French wiki; elsewhere a reference is called so."""
    text = arguments.get("1")
    return f"« {text} »" if text and page.language == "fr" else None


def _list(page: Page, arguments: Arguments) -> str | None:
    items = [value for value in arguments.unnamed if value]
    if len(items) == 1 and items[0].startswith("*"):
        return f"\n{items[0]}\n"
    return "\n" + "".join(f"* {item}\n" for item in items) if items else None


def _inline_list(page: Page, arguments: Arguments) -> str | None:
    return " · ".join(value for value in arguments.unnamed if value) or None


def _nihongo(page: Page, arguments: Arguments) -> str | None:
    """English (Japanese, its Latin letters, more)."""
    english, *rest = [arguments.get("1"), *(arguments.get(number) for number in ("2", "3", "extra", "4"))]
    inner = ", ".join(dict.fromkeys(part for part in rest if part))
    if not english:
        return inner or None
    return f"{english} ({inner})" if inner else english


def _by_label(labels: dict[str, str], single: str) -> _Handler:
    """Words in several scripts, each after its name."""

    def show(page: Page, arguments: Arguments) -> str | None:
        shown = [f"{label}: {arguments.get(key)}" for key, label in labels.items() if arguments.get(key)]
        if not shown and arguments.count:
            shown = [f"{single}: {arguments.get('1')}"]
        return "; ".join(shown) or None

    return show


def _music(page: Page, arguments: Arguments) -> str | None:
    return _ACCIDENTALS.get(arguments.get("1").lower(), arguments.get("1")) or None


def _dollars(page: Page, arguments: Arguments) -> str | None:
    return f"US${arguments.get('1')}" if arguments.count else None


def _nuclide(page: Page, arguments: Arguments) -> str | None:
    """Lithium-7."""
    return "-".join(value for value in arguments.unnamed[:2] if value) or None


def _sic(page: Page, arguments: Arguments) -> str | None:
    text = "".join(arguments.unnamed)
    hidden = arguments.get("hide", "nolink") in ("y", "yes", "1")
    return f"{text} [sic]".strip() if not hidden else text or None


def _reading(page: Page, arguments: Arguments) -> str | None:
    """A Japanese word with its reading."""
    word, reading = arguments.get("1"), arguments.get("2")
    return f"{word}（{reading}）" if word and reading else word or None


def _century(page: Page, arguments: Arguments) -> str | None:
    """`{{s|XIX|e}}` of the French wiki."""
    if page.language in ("ru", "uk", "be"):  # there it keeps words together
        return arguments.get("1") or None
    if page.language != "fr" or not arguments.count:
        return None
    return f"{arguments.get('1').upper()}{arguments.get('2')} siècle"


def _local(page: Page, arguments: Arguments) -> str | None:
    """`{{le|name|foreign name|shown}}` of the Chinese wiki."""
    return arguments.get("3", "1") or None


def _translated(page: Page, arguments: Arguments) -> str | None:
    """`{{tsl|en|foreign name|name|shown}}` of the Chinese wiki."""
    return arguments.get("4", "3") or None


KINDS: dict[str, _Handler] = {
    "first": _first,
    "flag": _flag,
    "last": _last,
    "second": _second,
    "joined": _joined,
    "spaced": _spaced,
    "cited": _cited,
    "named": _named,
    "measured": _measured,
    "local measure": _local_measure,
    "quoted": _quoted,
    "respell": _respelled,
    "slashes": _slashes,
    "language": _language,
    "ship": _ship,
    "code": _code,
    "tex": _tex,
    "raised": _raised,
    "convert": lambda page, arguments: converted(arguments, short=page.language not in ("en", "simple")),
    "cvt": lambda page, arguments: converted(arguments, short=True),
    "number": _number,
    "fraction": _fraction,
    "value": _value,
    "power": _power,
    "power of ten": _power_of_ten,
    "root": _root,
    "circa": _before("c."),
    "floruit": _before("fl."),
    "reign": _before("r."),
    "born": _before("b."),
    "died": _before("d."),
    "as of": _as_of,
    "quote": _quote,
    "guillemets": _guillemets,
    "list": _list,
    "inline list": _inline_list,
    "nihongo": _nihongo,
    "zh": _by_label(_CHINESE, "Chinese"),
    "korean": _by_label(_KOREAN, "Korean"),
    "music": _music,
    "dollars": _dollars,
    "nuclide": _nuclide,
    "sic": _sic,
    "reading": _reading,
    "century": _century,
    "date": _date,
    "local": _local,
    "translated": _translated,
    "invisible": lambda page, arguments: "",
}
