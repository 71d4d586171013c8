"""The words of templates that belong to a sentence; what any other one shows (a box, a notice) is left out.

A template's page is not at hand, so what it would show is known for those that `template_names` lists. Each argument is
used at most once, or text within templates within templates would grow without bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline.sources.wikitext.braces import Arguments
from pipeline.sources.wikitext.entities import decoded
from pipeline.sources.wikitext.marks import Kept
from pipeline.sources.wikitext.numbers import fraction, grouped, locale_of, raised, scientific, ungrouped
from pipeline.sources.wikitext.quantities import converted
from pipeline.sources.wikitext.template_names import FIXED, NAMES

__all__ = ["Templates"]

_LANGUAGE = re.compile(r"lang-([a-z]{2,3}(?:-[a-z]{2,8}){0,2})")
_CODE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z]{2,8}){0,2}")
_GERMAN = re.compile(r"([a-z]{2,3})s")
_ENGLISH_IPA = re.compile(r"ipa-[a-z]{2,4}")
_NTH = re.compile(r"[0-9ivxlcdm]{1,8}e")
_CURRENCIES = {"us$": "US$", "gbp": "£", "£": "£", "eur": "€", "€": "€", "inr": "₹", "indian rupee": "₹", "aud": "A$"} | {
    **{"a$": "A$", "cad": "C$", "jpy": "¥", "¥": "¥", "usd": "US$", "nzd": "NZ$", "hkd": "HK$", "krw": "₩", "cny": "CN¥"},
    **{"php": "₱", "brl": "R$", "rub": "₽", "us dollar": "US$"},
}
_SHIPS = frozenset({"hms", "uss", "hmcs", "hmas", "hmnzs", "mv", "rms", "ss", "sms", "ins", "usns", "uscgc"})
_ACCIDENTALS = {"flat": "♭", "b": "♭", "sharp": "♯", "#": "♯", "natural": "♮", "n": "♮", "doubleflat": "𝄫", "bb": "𝄫"}
_PLAIN_IPA = {"lang", "pron", "us", "uk", "audio", "also", "local", "icon"}
_MONTHS = "January February March April May June July August September October November December".split()
_CHINESE = {"t": "traditional Chinese", "s": "simplified Chinese", "c": "Chinese", "p": "pinyin", "tp": "Tongyong Pinyin"} | {
    **{"w": "Wade–Giles", "j": "Jyutping", "cy": "Cantonese Yale", "poj": "Pe̍h-ōe-jī", "l": "lit.", "hp": "Hanyu Pinyin"},
}
_KOREAN = {"hangul": "Korean", "hanja": "Hanja", "rr": "RR", "mr": "MR", "lit": "lit."}

_Handler = Callable[["Templates", Arguments], str | None]


class Templates:
    """What the templates of a page show."""

    def __init__(self, language: str, title: str, namespaces: frozenset[str], kept: Kept) -> None:
        self.language, self.title, self.kept = language, title, kept
        self._namespaces = namespaces
        """What the wiki calls the namespace of templates, in lower case."""

    def show(self, name: str, arguments: Arguments) -> str | None:
        """The text of a template, which may hold markup, or None if it has no words of its own."""
        name = " ".join(name.replace("_", " ").split())
        prefix, colon, rest = name.partition(":")
        if colon and prefix.lower() in ("subst", "safesubst"):
            name = rest
            prefix, colon, rest = name.partition(":")
        if colon and prefix.lower() in self._namespaces:
            name, colon = rest.strip(), ""
        if colon:
            return _function(self, prefix.strip(), rest.strip(), arguments)
        return self._template(name.lower(), arguments) if name else None

    def _template(self, name: str, arguments: Arguments) -> str | None:
        if (fixed := FIXED.get(name)) is not None and not (name in _HANDLED and arguments.count):
            return fixed
        if kind := NAMES.get(name):
            return _KINDS[kind](self, arguments)
        if name in _VARIABLES:
            return self.title
        if name in _SHIPS and arguments.count:
            hull = arguments.get("2")
            return f"{name.upper()} {arguments.get('1')}{f' ({hull})' if hull else ''}"
        if name in _CURRENCIES and arguments.count:
            return _CURRENCIES[name] + arguments.get("1")
        if language := _LANGUAGE.fullmatch(name):
            return self.labelled(language[1], arguments.get("1"))
        if self.language == "de" and (language := _GERMAN.fullmatch(name)) and arguments.count == 1:
            return self.labelled(language[1], arguments.get("1"), adverb=True)
        if _ENGLISH_IPA.fullmatch(name):
            return f"[{arguments.get('1')}]" if arguments.count else None
        if self.language == "fr" and _NTH.fullmatch(name):
            return name.upper()[:-1] + "e"
        return None

    def labelled(self, code: str, text: str, *, adverb: bool = False) -> str | None:
        """Words of a language with its name before them."""
        if not text:
            return None
        names = locale_of(self.language).languages
        label = names.get(code.replace("-", "_")) or names.get(code.partition("-")[0], "")
        if adverb:
            return f"{label.lower()} {text}" if label else text
        return f"{label}: {text}" if label else text


_VARIABLES = frozenset({"pagename", "subpagename", "basepagename", "fullpagename"})
_HANDLED = frozenset({"·", "spaces", "er", "re", "e", "bracket", "s", "ce"})
"""Fixed without an argument, and something else with one."""


def _function(page: Templates, name: str, value: str, arguments: Arguments) -> str | None:
    """`{{name:value|...}}`: the parser's functions that say something by themselves."""
    kind = name.lower()
    if kind == "formatnum":
        option = arguments.get("1").upper()
        return ungrouped(value, page.language) if option == "R" else value if "NOSEP" in option else grouped(value, page.language)
    if kind in ("lc", "uc"):
        return value.lower() if kind == "lc" else value.upper()
    if kind == "lcfirst":
        return value[:1].lower() + value[1:]
    if kind == "ucfirst":
        return value[:1].upper() + value[1:]
    if kind in ("padleft", "padright", "urlencode", "plural", "gender", "grammar", "#tag"):
        return None
    return None


def _first(page: Templates, arguments: Arguments) -> str | None:
    return arguments.get("lt", "text", "texte", "fr", "1", "content", "trad") or None


def _last(page: Templates, arguments: Arguments) -> str | None:
    values = [value for value in arguments.unnamed if value]
    if len(values) < 2:
        only = values[0] if values and not _CODE.fullmatch(values[0]) else None
        return arguments.get("text", "texte", "texto") or only
    return values[2] if len(values) > 2 and values[1].isupper() else values[1]


def _second(page: Templates, arguments: Arguments) -> str | None:
    return arguments.get("2", "1") or None


def _joined(page: Templates, arguments: Arguments) -> str | None:
    return "".join(arguments.unnamed) or None


def _spaced(page: Templates, arguments: Arguments) -> str | None:
    return " ".join(value for value in arguments.unnamed if value) or None


def _ship(page: Templates, arguments: Arguments) -> str | None:
    return " ".join(value for value in arguments.unnamed[:2] if value) or None


def _respelled(page: Templates, arguments: Arguments) -> str | None:
    return "-".join(value for value in arguments.unnamed if value) or None


def _slashes(page: Templates, arguments: Arguments) -> str | None:
    sounds = [value for value in arguments.unnamed if value.lower() not in _PLAIN_IPA]
    return f"/{''.join(sounds)}/" if sounds else None


def _language(page: Templates, arguments: Arguments) -> str | None:
    text = arguments.get("text", "2")
    if arguments.get("label").lower() in ("none", "no"):
        return text or None
    return page.labelled(arguments.get("code", "1"), text)


def _code(page: Templates, arguments: Arguments) -> str | None:
    code = arguments.get("code", "1")
    return page.kept.inline(decoded(code)) if code else None


def _tex(page: Templates, arguments: Arguments) -> str | None:
    tex = arguments.get("1")
    return page.kept.inline(f"${tex}$") if tex else None


def _raised(page: Templates, arguments: Arguments) -> str | None:
    return raised(arguments.get("1")) or None


def _number(page: Templates, arguments: Arguments) -> str | None:
    return grouped(arguments.get("1"), page.language) or None


def _fraction(page: Templates, arguments: Arguments) -> str | None:
    values = arguments.unnamed
    return fraction(values) if values else None


def _value(page: Templates, arguments: Arguments) -> str | None:
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


def _power(page: Templates, arguments: Arguments) -> str | None:
    return scientific(arguments.get("1")) if arguments.count else None


def _power_of_ten(page: Templates, arguments: Arguments) -> str | None:
    return f"10{raised(arguments.get('1'))}" if arguments.count else None


def _root(page: Templates, arguments: Arguments) -> str | None:
    return f"{raised(arguments.get('2'))}√{arguments.get('1')}" if arguments.count else None


def _before(word: str) -> _Handler:
    """A year or two with a word before them."""

    def show(page: Templates, arguments: Arguments) -> str | None:
        years = [value for value in arguments.unnamed if value]
        return f"{word} {' – '.join(years)}" if years else word

    return show


def _as_of(page: Templates, arguments: Arguments) -> str | None:
    if alternative := arguments.get("alt"):
        return alternative
    year, month, day = (arguments.get(number) for number in ("1", "2", "3"))
    words = "Since" if arguments.get("since") else "As of"
    words = words.lower() if arguments.get("lc") else words
    name = _MONTHS[int(month) - 1] if month.isdigit() and 1 <= int(month[:2]) <= 12 else month
    date = (name, day, year) if arguments.get("df").upper() == "US" else (day, name, year)
    shown = " ".join(part for part in date if part)
    return f"{words} {shown}{arguments.get('post')}" if year else None


def _date(page: Templates, arguments: Arguments) -> str | None:
    year, month, day = (arguments.get(number) for number in ("1", "2", "3"))
    if not (month.isdigit() and 1 <= int(month[:2]) <= 12):
        return year or None
    name = _MONTHS[int(month[:2]) - 1]
    if not day:
        return f"{name} {year}"
    return f"{day} {name} {year}" if arguments.get("df") in ("y", "yes") else f"{name} {day}, {year}"


def _quote(page: Templates, arguments: Arguments) -> str | None:
    text = arguments.get("text", "quote", "texte", "texto", "testo", "cita", "1", "content")
    by = arguments.get("author", "sign", "by", "autor", "auteur", "autore", "автор", "2")
    source = arguments.get("source", "quelle", "3")
    if not text:
        return None
    signed = ", ".join(part for part in (by, source) if part)
    return f"\n\n{text}\n{'— ' + signed if signed else ''}\n\n"


def _guillemets(page: Templates, arguments: Arguments) -> str | None:
    """« a quotation » on the French wiki; elsewhere a reference is called so."""
    text = arguments.get("1")
    return f"« {text} »" if text and page.language == "fr" else None


def _list(page: Templates, arguments: Arguments) -> str | None:
    items = [value for value in arguments.unnamed if value]
    if len(items) == 1 and items[0].startswith("*"):
        return f"\n{items[0]}\n"
    return "\n" + "".join(f"* {item}\n" for item in items) if items else None


def _inline_list(page: Templates, arguments: Arguments) -> str | None:
    return " · ".join(value for value in arguments.unnamed if value) or None


def _nihongo(page: Templates, arguments: Arguments) -> str | None:
    """English (Japanese, its Latin letters, more)."""
    english, *rest = [arguments.get("1"), *(arguments.get(number) for number in ("2", "3", "extra", "4"))]
    inner = ", ".join(dict.fromkeys(part for part in rest if part))
    if not english:
        return inner or None
    return f"{english} ({inner})" if inner else english


def _by_label(labels: dict[str, str], single: str) -> _Handler:
    """Words in several scripts, each after its name."""

    def show(page: Templates, arguments: Arguments) -> str | None:
        shown = [f"{label}: {arguments.get(key)}" for key, label in labels.items() if arguments.get(key)]
        if not shown and arguments.count:
            shown = [f"{single}: {arguments.get('1')}"]
        return "; ".join(shown) or None

    return show


def _music(page: Templates, arguments: Arguments) -> str | None:
    return _ACCIDENTALS.get(arguments.get("1").lower(), arguments.get("1")) or None


def _dollars(page: Templates, arguments: Arguments) -> str | None:
    return f"US${arguments.get('1')}" if arguments.count else None


def _sic(page: Templates, arguments: Arguments) -> str | None:
    text = "".join(arguments.unnamed)
    hidden = arguments.get("hide", "nolink") in ("y", "yes", "1")
    return f"{text} [sic]".strip() if not hidden else text or None


def _reading(page: Templates, arguments: Arguments) -> str | None:
    """A Japanese word with its reading."""
    word, reading = arguments.get("1"), arguments.get("2")
    return f"{word}（{reading}）" if word and reading else word or None


def _century(page: Templates, arguments: Arguments) -> str | None:
    """`{{s|XIX|e}}` of the French wiki."""
    if page.language != "fr" or not arguments.count:
        return None
    return f"{arguments.get('1').upper()}{arguments.get('2')} siècle"


def _helper(page: Templates, arguments: Arguments) -> str | None:
    """`{{le|name|foreign|shown}}` and `{{tsl|en|foreign|shown}}` of the Chinese wiki."""
    return arguments.get("3", "1") or None


_KINDS: dict[str, _Handler] = {
    "first": _first,
    "last": _last,
    "second": _second,
    "joined": _joined,
    "spaced": _spaced,
    "respell": _respelled,
    "slashes": _slashes,
    "language": _language,
    "ship": _ship,
    "code": _code,
    "tex": _tex,
    "raised": _raised,
    "convert": lambda page, arguments: converted(arguments),
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
    "sic": _sic,
    "reading": _reading,
    "century": _century,
    "date": _date,
    "helper": _helper,
    "invisible": lambda page, arguments: "",
}
