"""Units and how they convert: a unit is a factor and the powers of base units it is made of.

Units that only look convertible are kept apart: degrees of Celsius and Fahrenheit (they have offsets), kilobytes and
kibibytes, angles and plain numbers, currencies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pipeline.reasoning.answers.splitting import word_set

__all__ = ["CURRENCY_SIGNS", "SCALE_WORDS", "Unit", "read_unit"]


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
_FACTORS: dict[str, tuple[str, str]] = {
    "m": ("1", "m"), "km": ("1000", "m"), "cm": ("1/100", "m"), "mm": ("1/1000", "m"), "nm": ("1/1000000000", "m"),
    "micrometre": ("1/1000000", "m"), "mi": ("1609.344", "m"), "ft": ("0.3048", "m"), "in": ("0.0254", "m"),
    "yd": ("0.9144", "m"), "ha": ("10000", "m2"), "L": ("1/1000", "m3"), "mL": ("1/1000000", "m3"),
    "gal": ("1", "gallon"),
    "kg": ("1", "kg"), "g": ("1/1000", "kg"), "mg": ("1/1000000", "kg"), "lb": ("0.45359237", "kg"),
    "oz": ("0.028349523125", "kg"), "t": ("1000", "kg"),
    "s": ("1", "s"), "ms": ("1/1000", "s"), "min": ("60", "s"), "h": ("3600", "s"), "day": ("86400", "s"),
    "week": ("604800", "s"), "month": ("1", "month"), "year": ("12", "month"),
    "mph": ("0.44704", "m s-1"), "kph": ("5/18", "m s-1"),
    "N": ("1", "kg m s-2"), "kN": ("1000", "kg m s-2"), "J": ("1", "kg m2 s-2"), "kJ": ("1000", "kg m2 s-2"),
    "MJ": ("1000000", "kg m2 s-2"), "kWh": ("3600000", "kg m2 s-2"), "eV": ("1", "eV"), "cal": ("1", "cal"),
    "kcal": ("1000", "cal"), "W": ("1", "kg m2 s-3"), "kW": ("1000", "kg m2 s-3"), "MW": ("1000000", "kg m2 s-3"),
    "Pa": ("1", "kg m-1 s-2"), "kPa": ("1000", "kg m-1 s-2"), "MPa": ("1000000", "kg m-1 s-2"), "atm": ("1", "atm"),
    "bar": ("100000", "kg m-1 s-2"), "Hz": ("1", "s-1"), "kHz": ("1000", "s-1"), "MHz": ("1000000", "s-1"),
    "GHz": ("1000000000", "s-1"), "A": ("1", "A"), "mA": ("1/1000", "A"), "C": ("1", "A s"),
    "V": ("1", "kg m2 s-3 A-1"), "kV": ("1000", "kg m2 s-3 A-1"), "ohm": ("1", "kg m2 s-3 A-2"),
    "T": ("1", "kg s-2 A-1"), "mol": ("1", "mol"), "mmol": ("1/1000", "mol"), "M": ("1000", "mol m-3"), "K": ("1", "K"),
    "degree": ("1", "degree"), "rad": ("1", "rad"), "celsius": ("1", "celsius"), "fahrenheit": ("1", "fahrenheit"),
    "%": ("1/100", "percent"), "usd": ("1", "usd"), "cent": ("1/100", "usd"), "euro": ("1", "euro"),
    "gbp": ("1", "gbp"),
    "yen": ("1", "yen"), "inr": ("1", "inr"), "byte": ("1", "byte"), "KB": ("1", "KB"), "MB": ("1", "MB"),
    "GB": ("1", "GB"), "TB": ("1", "TB"), "bit": ("1", "bit"),
}  # fmt: skip
"""By symbol: the factor, and the product of base units that it multiplies."""
_OTHER_NAMES = """
m: metre metres meter meters | km: kilometre kilometres kilometer kilometers | mm: millimetre millimetres millimeter
cm: centimetre centimetres centimeter centimeters | mm: millimeters | nm: nanometre nanometres nanometer nanometers
micrometre: micrometres micrometer micrometers | mi: mile miles | ft: foot feet | in: inch inches | yd: yard yards yds
kg: kilogram kilograms kilo kilos | g: gram grams gm | mg: milligram milligrams | lb: pound pounds lbs
oz: ounce ounces | t: tonne tonnes | s: second seconds sec secs | ms: millisecond milliseconds | h: hour hours hr hrs
min: minute minutes mins | day: days d | week: weeks | month: months | year: years yr yrs | ha: hectare hectares
L: l litre litres liter liters | mL: ml millilitre millilitres milliliter milliliters | gal: gallon gallons
N: newton newtons | J: joule joules | kJ: kilojoule kilojoules | W: watt watts | kW: kilowatt kilowatts | kph: kmh
Pa: pascal pascals | Hz: hertz | V: volt volts | A: ampere amperes amp amps | mol: mole moles | K: kelvin kelvins
degree: degrees deg | rad: radian radians | %: percent | usd: dollar dollars USD | cent: cents | euro: euros EUR
gbp: GBP | yen: JPY | inr: rupee rupees INR | byte: bytes B | bit: bits
"""
CURRENCY_SIGNS = {"$": "usd", "€": "euro", "£": "gbp", "¥": "yen", "₹": "inr"}
SCALE_WORDS = word_set(
    "hundred hundreds thousand thousands million millions billion billions trillion dozen dozens half halves "
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


def _names() -> dict[str, Unit]:
    found = {name: _base(powers, Fraction(factor)) for name, (factor, powers) in _FACTORS.items()}
    for entry in re.split(r"[|\n]", _OTHER_NAMES):
        name, colon, words = entry.partition(":")
        if colon:
            found |= {word: found[name.strip()] for word in words.split()}
    return found


_UNITS = _names()
_LOWER = {name.lower(): unit for name, unit in _UNITS.items() if len(name) > 3}
_PHRASES = tuple(
    (re.compile(pattern), written)
    for pattern, written in (
        (r"(?i:miles? per hour)", "mph"),
        (r"(?i:kilomet(?:er|re)s? per hour|km per hour)", "kph"),
        (r"(?i:degrees? celsius)|\^\\circ\s*C", "celsius"),
        (r"(?i:degrees? fahrenheit)|\^\\circ\s*F", "fahrenheit"),
        (r"\^\{?\\circ\}?", "degree"),
        (r"\\%", "%"),
        (r"\\Omega|ohms", "ohm"),
        (r"\\mu\s*m", "micrometre"),
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
_PART = re.compile(r"\s*([*/])?\s*([A-Za-z%]+)\.?\s*(?:\^\s*(?:\{\s*(-?\d)\s*\}|(-?\d))|(-\d))?")


def read_unit(text: str) -> Unit | None:
    """The unit that all of `text` names, or None."""
    text = re.sub(r"\\(?:text|mathrm|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\\cdot|\\times|·", "*", re.sub(r"\\[,;:! ]", " ", text))
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
