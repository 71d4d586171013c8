"""Units and how they convert: a unit is a factor and the powers of base units it is made of.

Units that only look convertible are kept apart: degrees of Celsius and Fahrenheit (they have offsets), kilobytes and
kibibytes, angles and plain numbers, currencies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pipeline.reasoning.answers.splitting import word_set

__all__ = ["CURRENCIES", "CURRENCY_SIGNS", "SCALE_WORDS", "Unit", "read_unit"]


@dataclass(frozen=True)
class Unit:
    """``factor`` times a product of powers of base units."""

    factor: Fraction
    powers: tuple[tuple[str, int], ...]

    def times(self, other: Unit, power: int) -> Unit:
        """This unit times a power of another."""
        powers = dict(self.powers)
        for name, exponent in other.powers:
            powers[name] = powers.get(name, 0) + power * exponent
        kept = tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent))
        return Unit(self.factor * other.factor**power, kept)


PLAIN = Unit(Fraction(1), ())
CURRENCIES = {
    "usd": "$ dollar dollars USD", "euro": "€ euros EUR", "gbp": "£ GBP", "yen": "¥ JPY 円", 
    "inr": "₹ rupee rupees INR Rs",
    "cny": "yuan RMB CNY 元", "chf": "franc francs CHF", "krw": "₩ won KRW", "rub": "₽ ruble rubles rouble roubles RUB",
    "peso": "₱ pesos PHP MXN", "lira": "₺ liras TRY", "baht": "฿ THB", "dong": "₫ VND", "shekel": "₪ shekels ILS",
    "krona": "kr kronor krone kroner SEK NOK DKK", "zloty": "zł złoty PLN", "naira": "₦ NGN", "real": "R$ reais BRL",
}  # fmt: skip
"""By unit: its signs and words, besides its own."""
CURRENCY_SIGNS = {
    name: unit
    for unit, names in CURRENCIES.items()
    for name in names.split()
    if not name.isalpha() or not name.isascii()
} | {"Rs": "inr"}
"""What may stand before the number, by unit."""
_FACTORS: dict[str, tuple[str, str]] = {
    "micrometre": ("1/1000000", "m"), "mi": ("1609.344", "m"), "ft": ("0.3048", "m"), "in": ("0.0254", "m"),
    "yd": ("0.9144", "m"), "nmi": ("1852", "m"), "ha": ("10000", "m2"), "acre": ("4046.8564224", "m2"),
    "gal": ("1", "gallon"), "quart": ("1/4", "gallon"), "pint": ("1/8", "gallon"),
    "lb": ("0.45359237", "kg"), "oz": ("0.028349523125", "kg"), "t": ("1000", "kg"),
    "min": ("60", "s"), "h": ("3600", "s"), "day": ("86400", "s"), "week": ("604800", "s"), "month": ("1", "month"),
    "year": ("12", "month"), "decade": ("120", "month"), "century": ("1200", "month"),
    "mph": ("0.44704", "m s-1"), "kph": ("5/18", "m s-1"), "unit": ("1", "unit"), "Nm": ("1", "kg m2 s-2"),
    "atm": ("1", "atm"), "bar": ("100000", "kg m-1 s-2"), "K": ("1", "K"),
    "degree": ("1", "degree"), "arcmin": ("1/60", "degree"), "arcsec": ("1/3600", "degree"), "rad": ("1", "rad"),
    "celsius": ("1", "celsius"), "fahrenheit": ("1", "fahrenheit"), "%": ("1/100", "percent"),
    "byte": ("1", "byte"), "KB": ("1", "KB"), "MB": ("1", "MB"), "GB": ("1", "GB"), "TB": ("1", "TB"),
    "Mb": ("1", "Mb"), "Gb": ("1", "Gb"),
    "bit": ("1", "bit"), "cent": ("1/100", "usd"), "¢": ("1/100", "usd"),
    **{currency: ("1", currency) for currency in CURRENCIES},
}  # fmt: skip
"""By symbol: the factor, and the product of base units that it multiplies."""
_PREFIXED: dict[str, tuple[str, str, str]] = {
    "m": ("1", "m", "kcdmunp"), "g": ("1/1000", "kg", "kdcmun"), "s": ("1", "s", "munp"), 
    "L": ("1/1000", "m3", "hdcmu"),
    "N": ("1", "kg m s-2", "kMm"), "J": ("1", "kg m2 s-2", "kMGmu"), "W": ("1", "kg m2 s-3", "kMGmu"),
    "Pa": ("1", "kg m-1 s-2", "hkMG"), "Hz": ("1", "s-1", "kMGT"), "A": ("1", "A", "kmun"), "C": ("1", "A s", "munp"),
    "V": ("1", "kg m2 s-3 A-1", "kMmu"), "ohm": ("1", "kg m2 s-3 A-2", "kMm"), "T": ("1", "kg s-2 A-1", "mu"),
    "F": ("1", "kg-1 m-2 s4 A2", "munp"), "H": ("1", "kg m2 s-2 A-2", "mu"), "Wb": ("1", "kg m2 s-2 A-1", "m"),
    "Wh": ("3600", "kg m2 s-2", "kMG"),
    "mol": ("1", "mol", "kmu"), "M": ("1000", "mol m-3", "mun"), "eV": ("1", "eV", "kMG"), "cal": ("1", "cal", "k"),
}  # fmt: skip
"""Units that take prefixes, and which are written with them."""
_PREFIXES = {
    "T": ("tera", 12), "G": ("giga", 9), "M": ("mega", 6), "k": ("kilo", 3), "h": ("hecto", 2), "d": ("deci", -1),
    "c": ("centi", -2), "m": ("milli", -3), "u": ("micro", -6), "n": ("nano", -9), "p": ("pico", -12),
}  # fmt: skip
_PREFIXED_NAMES = """
m: metre metres meter meters | g: gram grams gramme grammes | s: second seconds | L: l litre litres liter liters
N: newton newtons | J: joule joules | W: watt watts | Pa: pascal pascals | Hz: hertz | A: ampere amperes amp amps
C: coulomb coulombs | V: volt volts | ohm: ohms | T: tesla teslas | F: farad farads | H: henry henries henrys
Wb: weber webers | mol: mole moles | eV: electronvolt electronvolts | cal: calorie calories
"""
_OTHER_NAMES = """
mi: mile miles | ft: foot feet | in: inch inches | yd: yard yards yds
kg: kilo kilos kgs Kg KG Kgs | km: Km KM kms | cm: cms Cm CM | unit: units
g: gm gms | lb: pound pounds lbs | oz: ounce ounces | t: tonne tonnes | s: sec secs
h: hour hours hr hrs | min: minute minutes mins | day: days d | week: weeks wk wks | month: months
year: years yr yrs | decade: decades | century: centuries | ha: hectare hectares | acre: acres
gal: gallon gallons | quart: quarts | pint: pints | kph: kmh kmph | K: kelvin kelvins
degree: degrees deg | rad: radian radians | %: percent pct | arcmin: arcminute arcminutes | arcsec: arcseconds
cent: cents | byte: bytes B | bit: bits
"""
SCALE_WORDS = word_set(
    "hundred hundreds thousand thousands lakh lakhs crore crores million millions billion billions trillion dozen "
    "dozens half halves "
    "third thirds quarter quarters fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths "
    "times squared cubed pairs couples scores tens ones minus plus less more factorial"
)
"""Words after a number that change it."""


def _base(text: str, factor: Fraction) -> Unit:
    powers = []
    for part in text.split():
        found = re.fullmatch(r"([A-Za-z]+)(-?\d+)?", part)
        assert found is not None, text
        powers.append((found[1], int(found[2] or 1)))
    return Unit(factor, tuple(sorted(powers)))


def _words_of(lines: str) -> list[tuple[str, list[str]]]:
    entries = [entry.partition(":") for entry in re.split(r"[|\n]", lines)]
    return [(name.strip(), words.split()) for name, colon, words in entries if colon]


def _prefixed() -> dict[str, Unit]:
    """Units with their prefixes, as symbols and in words: ``km``, ``kilometres``."""
    found: dict[str, Unit] = {}
    words = dict(_words_of(_PREFIXED_NAMES))
    for symbol, (factor, powers, prefixes) in _PREFIXED.items():
        for prefix, power in [("", 0), *((prefix, _PREFIXES[prefix][1]) for prefix in prefixes)]:
            unit = _base(powers, Fraction(factor) * Fraction(10) ** power)
            spoken = _PREFIXES[prefix][0] if prefix else ""
            found[prefix + symbol] = unit
            found |= {(prefix if word == "l" else spoken) + word: unit for word in words.get(symbol, ())}
    return found


def _names() -> dict[str, Unit]:
    found = _prefixed() | {name: _base(powers, Fraction(factor)) for name, (factor, powers) in _FACTORS.items()}
    for name, words in _words_of(_OTHER_NAMES):
        found |= dict.fromkeys(words, found[name])
    for name, signs in CURRENCIES.items():
        found |= dict.fromkeys(signs.split(), found[name])
    return found


_UNITS = _names()
_LOWER = {
    name.lower(): unit for name, unit in _UNITS.items()
    if len(name) > 2 and {other for key, other in _UNITS.items() if key.lower() == name.lower()} == {unit}
}  # fmt: skip
_PHRASES = tuple(
    (re.compile(pattern), written)
    for pattern, written in (
        (r"(?i:miles? per hour)", "mph"),
        (r"(?i:kilomet(?:er|re)s? per hour|km per hour)", "kph"),
        (r"(?i:per ?cent\b)|(?i:\bpct\b)", "%"),
        (r"(?i:degrees? celsius)|degrees? C\b|\^\s*\{?\s*\\circ\s*\}?\s*C\b", "celsius"),
        (r"(?i:degrees? fahrenheit)|degrees? F\b|\^\s*\{?\s*\\circ\s*\}?\s*F\b", "fahrenheit"),
        (r"\^\s*\{?\s*\\circ\s*\}?", "degree"),
        (r"\\%", "%"),
        (r"(?<![A-Za-z])([kM])\s*\\Omega", r"\1ohm"),
        (r"\\Omega|\bohms\b", "ohm"),
        (r"\bkilohms?\b", "kohm"),
        (r"\bmegohms?\b", "Mohm"),
        (r"\\mu\s*(?=[A-Za-z])", "u"),
        (r"\b(per|/) square second\b", r"\1 second^2"),
        (r"(?<![A-Za-z])([ck]?m)s(?=\s*\^\s*\{?\s*-|-\d)", r"\1 s"),  # of a speed, not of milliseconds
        (r"(?i:kilowatt[- ]hours?)", "kWh"),
        (r"(?i:\bper\b)", "/"),
        (r"(?i:\bsquared? )(\w+)", r"\1^2"),
        (r"(?i:\bcubic )(\w+)", r"\1^3"),
        (r"(?i:\bsq(?:\.|\b)) ?(\w+)", r"\1^2"),
        (r"(?i:\bcu(?:\.|\b)) ?(\w+)", r"\1^3"),
        (r"\b(\w+) squared", r"\1^2"),
        (r"\b(\w+) cubed", r"\1^3"),
    )
)
"""What is written out, and the symbols for it."""
_PART = re.compile(r"\s*([*/-])?\s*([A-Za-z%円元¢₩₽₱₺฿₫₪₦€£¥₹]+)\.?\s*(?:\^\s*(?:\{\s*(-?\d)\s*\}|(-?\d))|(-\d))?")

_STYLE = re.compile(r"\\(?:text|mathrm|mbox|operatorname|rm)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_QUOTIENT = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{((?:[^{}]|\{[^{}]*\})*)\}")


def read_unit(text: str) -> Unit | None:
    """The unit that all of `text` names, or None."""
    text = _STYLE.sub(lambda found: f" {found[1]} ", text)
    text = re.sub(r"\\cdot|\\times|·", "*", re.sub(r"\\[,;:! ]", " ", text))
    text = _QUOTIENT.sub(lambda found: f"{found[1]}/" + "/".join(re.split(r"[ *]+", found[2].strip())), text)
    for pattern, written in _PHRASES:
        text = pattern.sub(written, text)
    text = re.sub(r"/\s*\((\w+(?:\^-?\d)?)[ *]+(\w+(?:\^-?\d)?)\)", r"/\1/\2", " ".join(text.split()))
    if not text or len(text) > 60:
        return None
    found, place = PLAIN, 0
    while place < len(text):
        part = _PART.match(text, place)
        if part is None:
            return None
        unit = _UNITS.get(part[2]) or _LOWER.get(part[2].lower())
        if unit is None:
            return None
        power = int(part[3] or part[4] or part[5] or 1)
        found = found.times(unit, -power if part[1] == "/" else power)
        place = part.end()
    return found if found.powers else None
