"""`{{convert}}`: a quantity in its unit and in another (the English wiki's Module:Convert, as its template page tells).

Numbers are rounded as there: to the precision of what was given, or to two significant digits, whichever is finer.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pipeline.sources.wikitext.braces import Arguments
from pipeline.sources.wikitext.numbers import grouped

__all__ = ["converted"]


@dataclass(frozen=True)
class _Unit:
    scale: float
    """Of the kind's SI unit."""
    offset: float
    """Added to the value before scaling: temperatures."""
    one: str
    many: str
    symbol: str
    into: tuple[str, ...]
    """Units that it is shown in when none is asked for."""


_TABLE = """
km 1e3 kilometre kilometres km mi
m 1 metre metres m ft
cm 1e-2 centimetre centimetres cm in
mm 1e-3 millimetre millimetres mm in
um,μm,µm 1e-6 micrometre micrometres μm in
nm 1e-9 nanometre nanometres nm in
mi 1609.344 mile miles mi km
yd 0.9144 yard yards yd m
ft,foot,feet 0.3048 foot feet ft m
in,inch 0.0254 inch inches in mm
nmi 1852 nautical_mile nautical_miles nmi km,mi
fathom 1.8288 fathom fathoms fathom ft,m
furlong 201.168 furlong furlongs furlong mi,km
ly 9.4607304725808e15 light-year light-years ly pc
pc 3.0856775814913673e16 parsec parsecs pc ly
au,AU 149597870700 astronomical_unit astronomical_units au km
km2 1e6 square_kilometre square_kilometres km² sqmi
m2 1 square_metre square_metres m² sqft
cm2 1e-4 square_centimetre square_centimetres cm² sqin
mm2 1e-6 square_millimetre square_millimetres mm² sqin
ha 1e4 hectare hectares ha acre
sqmi,mi2 2589988.110336 square_mile square_miles sq_mi km2
acre,acres 4046.8564224 acre acres acres ha
sqyd,yd2 0.83612736 square_yard square_yards sq_yd m2
sqft,ft2 0.09290304 square_foot square_feet sq_ft m2
sqin,in2 0.00064516 square_inch square_inches sq_in cm2
kg 1 kilogram kilograms kg lb
g 1e-3 gram grams g oz
mg 1e-6 milligram milligrams mg gr
gr 6.479891e-5 grain grains gr g
t,tonne,MT 1e3 tonne tonnes t LT,ST
lb,lbs 0.45359237 pound pounds lb kg
oz 0.028349523125 ounce ounces oz g
st 6.35029318 stone stone st lb,kg
LT,long_ton 1016.0469088 long_ton long_tons long_tons ST,t
ST,short_ton 907.18474 short_ton short_tons short_tons LT,t
km/h,kph 0.27777777777777778 kilometre_per_hour kilometres_per_hour km/h mph
mph 0.44704 mile_per_hour miles_per_hour mph km/h
m/s 1 metre_per_second metres_per_second m/s ft/s
km/s 1e3 kilometre_per_second kilometres_per_second km/s mi/s
mi/s 1609.344 mile_per_second miles_per_second mi/s km/s
ft/s 0.3048 foot_per_second feet_per_second ft/s m/s
kn,knot 0.51444444444444444 knot knots kn km/h,mph
l,L 1e-3 litre litres L impgal,USgal
ml,mL 1e-6 millilitre millilitres mL impoz,USoz
cl,cL 1e-5 centilitre centilitres cL impoz,USoz
hl,hL 0.1 hectolitre hectolitres hL impgal,USgal
m3 1 cubic_metre cubic_metres m³ cuft
km3 1e9 cubic_kilometre cubic_kilometres km³ cumi
cm3,cc 1e-6 cubic_centimetre cubic_centimetres cm³ cuin
cuft,ft3 0.028316846592 cubic_foot cubic_feet cu_ft m3
cuyd,yd3 0.764554857984 cubic_yard cubic_yards cu_yd m3
cuin,in3 1.6387064e-5 cubic_inch cubic_inches cu_in cm3
cumi 4168181825.440579584 cubic_mile cubic_miles cu_mi km3
acre-ft,acreft 1233.48183754752 acre-foot acre-feet acre⋅ft m3
USgal,U.S.gal,usgal 0.003785411784 US_gallon US_gallons US_gal L,impgal
impgal 0.00454609 imperial_gallon imperial_gallons imp_gal L,USgal
USoz 2.95735295625e-5 US_fluid_ounce US_fluid_ounces US_fl_oz ml
impoz 2.84130625e-5 imperial_fluid_ounce imperial_fluid_ounces imp_fl_oz ml
oilbbl,bbl 0.158987294928 barrel barrels bbl m3
m3/s 1 cubic_metre_per_second cubic_metres_per_second m³/s cuft/s
cuft/s 0.028316846592 cubic_foot_per_second cubic_feet_per_second cu_ft/s m3/s
W 1 watt watts W hp
kW 1e3 kilowatt kilowatts kW hp
MW 1e6 megawatt megawatts MW hp
hp,bhp 745.69987158227022 horsepower horsepower hp kW
PS 735.49875 metric_horsepower metric_horsepower PS kW
Pa 1 pascal pascals Pa psi
hPa 1e2 hectopascal hectopascals hPa inHg
kPa 1e3 kilopascal kilopascals kPa psi
MPa 1e6 megapascal megapascals MPa psi
psi 6894.757293168361 pound_per_square_inch pounds_per_square_inch psi kPa
bar 1e5 bar bar bar kPa
mbar 1e2 millibar millibars mbar inHg
atm 101325 standard_atmosphere standard_atmospheres atm kPa
inHg 3386.388640341 inch_of_mercury inches_of_mercury inHg kPa
J 1 joule joules J ftlbf
kJ 1e3 kilojoule kilojoules kJ kcal
MJ 1e6 megajoule megajoules MJ kWh
kWh 3.6e6 kilowatt-hour kilowatt-hours kWh MJ
cal 4.184 calorie calories cal J
kcal 4184 kilocalorie kilocalories kcal kJ
N 1 newton newtons N lbf
kN 1e3 kilonewton kilonewtons kN lbf
lbf 4.4482216152605 pound-force pounds-force lbf N
Nm 1 newton-metre newton-metres N⋅m lbft
lbft,lb.ft 1.3558179483314004 pound-foot pound-feet lb⋅ft Nm
ftlbf 1.3558179483314004 foot-pound_force foot-pounds_force ft⋅lbf J
/km2,PD/km2 1e-6 per_square_kilometre per_square_kilometre /km² /sqmi
/sqmi,PD/sqmi 3.861021585424458e-7 per_square_mile per_square_mile /sq_mi /km2
"""
_TEMPERATURES = {
    "C": _Unit(1, 273.15, "degree Celsius", "degrees Celsius", "°C", ("F",)),
    "F": _Unit(5 / 9, 459.67, "degree Fahrenheit", "degrees Fahrenheit", "°F", ("C",)),
    "K": _Unit(1, 0, "kelvin", "kelvins", "K", ("C", "F")),
}


def _units() -> dict[str, _Unit]:
    units = dict(_TEMPERATURES) | {"°C": _TEMPERATURES["C"], "°F": _TEMPERATURES["F"]}
    for line in _TABLE.strip().splitlines():
        codes, scale, *words, into = line.split(" ")
        one, many, symbol = (word.replace("_", " ") for word in words)
        for code in codes.split(","):
            unit = _Unit(float(scale), 0, one, many, symbol, tuple(into.split(",")))
            units[code.replace("_", " ")] = unit
    return units


_UNITS = _units()
_POWER = re.compile(r"e(3|6|9|12)(.{1,20})")
_POWERS = {"3": "thousand", "6": "million", "9": "billion", "12": "trillion"}
_RANGES = {"-": "–", "–": "–", "to": " to ", "and": " and ", "or": " or ", "by": " by ", "x": " by ", "×": " × "} | {
    "+/-": " ± ",
    "±": " ± ",
    "to(-)": " to ",
}
_SPLIT = {("ft", "in"), ("yd", "ft"), ("mi", "yd"), ("lb", "oz"), ("st", "lb"), ("mi", "ft"), ("mi", "chain")}
"""Units that one quantity is given in."""
_VALUE = re.compile(r"([-−]?)([0-9][0-9,]{0,30})?(\.[0-9]{0,30})?(?:\+?([0-9]{1,9})[/⁄]([0-9]{1,9}))?")


@dataclass(frozen=True)
class _Quantity:
    shown: str
    value: float
    precision: int
    """Decimals; negative for zeros at the end of a whole number."""


def _quantity(text: str) -> _Quantity | None:
    match = _VALUE.fullmatch(text.strip().replace("&minus;", "−"))
    if not match or not any(match.groups()[1:]):
        return None
    sign, whole, decimals, above, below = match.groups()
    digits = (whole or "").replace(",", "")
    if above and not whole and not decimals:
        shown = f"{above}⁄{below}"
    else:
        shown = (grouped(digits, "en") if digits else "0") + (decimals or "") + (f" {above}⁄{below}" if above else "")
    value = float((digits or "0") + (decimals or "")) + (int(above) / (int(below) or 1) if above else 0)
    zeros = len(digits) - len(digits.rstrip("0")) if digits.strip("0") else 0
    precision = math.ceil(math.log10(max(int(below), 1))) if below else (len(decimals) - 1 if decimals else -zeros)
    return _Quantity(("−" if sign else "") + shown, -value if sign else value, precision)


def converted(arguments: Arguments, *, short: bool = False) -> str | None:
    """The text of `{{convert}}`, or of `{{cvt}}` if `short`; None if it cannot be read."""
    words = arguments.unnamed
    quantities: list[_Quantity] = []
    between: list[str] = []
    while words:
        quantity = _quantity(words[0])
        if quantity is None:
            break
        quantities.append(quantity)
        words = words[1:]
        if words and words[0] in _RANGES and len(words) > 1:
            between.append(_RANGES[words[0]])
            words = words[1:]
        else:
            break
    if not quantities or not words:
        return " ".join(arguments.unnamed) or None
    code, *words = words
    unit = _unit(code)
    if unit is None:
        return f"{_joined([each.shown for each in quantities], between)} {code}"
    if len(words) >= 2 and (code, words[1]) in _SPLIT and (second := _quantity(words[0])):
        return _split(quantities[0], unit, second, _UNITS[words[1]], words[2:], arguments, short)
    return _shown(quantities, between, unit, words, arguments, short)


def _split(
    first: _Quantity, unit: _Unit, second: _Quantity, small: _Unit, words: list[str], arguments: Arguments, short: bool
) -> str:
    """Six feet two inches."""
    value = first.value + math.copysign(second.value, first.value) * small.scale / unit.scale
    given = f"{_named(first.shown, unit, first.value, short)} {_named(second.shown, small, second.value, short)}"
    targets = _targets(words, unit)
    whole = _Quantity("", value, second.precision + math.ceil(math.log10(unit.scale / small.scale)))
    return f"{given} ({'; '.join(_other([whole], [], unit, target, words, arguments) for target in targets)})"


def _targets(words: list[str], unit: _Unit) -> list[_Unit]:
    asked = words[0] if words else ""
    found = [_unit(code) for code in ([asked] if _unit(asked) else asked.split(" "))]
    return [each for each in found if each] or [each for each in map(_unit, unit.into) if each]


def _unit(code: str) -> _Unit | None:
    """A unit, or millions of it (`e6km2`)."""
    if code in _UNITS:
        return _UNITS[code]
    power = _POWER.fullmatch(code)
    unit = _UNITS.get(power[2]) if power else None
    if not power or not unit:
        return None
    word, scale = _POWERS[power[1]], unit.scale * 10 ** int(power[1])
    into = tuple(f"e{power[1]}{other}" for other in unit.into)
    return _Unit(scale, unit.offset, f"{word} {unit.many}", f"{word} {unit.many}", f"{word} {unit.symbol}", into)


def _shown(
    quantities: list[_Quantity], between: list[str], unit: _Unit, words: list[str], arguments: Arguments, short: bool
) -> str:
    abbreviate, display = arguments.get("abbr"), arguments.get("disp")
    symbols = short or abbreviate in ("on", "in", "~", "values") or unit in _TEMPERATURES.values()
    short = symbols and abbreviate != "off"
    numbers = _joined([each.shown for each in quantities], between)
    adjective = arguments.get("adj") in ("on", "mid") and not short
    one = len(quantities) == 1 and abs(quantities[0].value) == 1
    if adjective:
        given = f"{numbers}-{unit.one.replace(' ', '-')}"
    else:
        given = _named(numbers, unit, 1.0 if one else 2.0, short)
    long = abbreviate in ("off", "in")
    others = [
        _other(quantities, between, unit, target, words, arguments, long=long) for target in _targets(words, unit)
    ]
    if arguments.get("sp").lower() == "us":
        given, others = _american(given), [_american(other) for other in others]
    if display in ("out", "output only"):
        return "; ".join(others)
    if display in ("or", "slash"):
        return f"{given}{' or ' if display == 'or' else '/'}{others[0]}"
    if arguments.get("order") == "flip" or display == "flip":
        return f"{others[0]} ({given})"
    return f"{given} ({'; '.join(others)})"


def _american(text: str) -> str:
    return text.replace("metre", "meter").replace("litre", "liter")


def _joined(numbers: list[str], between: list[str]) -> str:
    shown = numbers[0]
    for separator, number in zip(between, numbers[1:], strict=False):
        shown += separator + number
    return shown


def _named(number: str, unit: _Unit, value: float, short: bool) -> str:
    name = unit.symbol if short else unit.one if abs(value) == 1 else unit.many
    return f"{number}{'' if name.startswith('/') else ' '}{name}"


def _other(
    quantities: list[_Quantity],
    between: list[str],
    unit: _Unit,
    target: _Unit,
    words: list[str],
    arguments: Arguments,
    *,
    long: bool = False,
) -> str:
    """The quantities in another unit."""
    asked = next((word for word in words if re.fullmatch(r"-?[0-9]{1,2}", word)), arguments.get("round_to"))
    figures = arguments.get("sigfig")
    numbers = []
    value = 0.0
    for each in quantities:
        value = (each.value + unit.offset) * unit.scale / target.scale - target.offset
        if figures.isdigit():
            precision = int(figures[:2]) - 1 - _magnitude(value)
        elif asked:
            precision = int(asked)
        else:
            precision = _precision(each, value, unit, target)
        numbers.append(_rounded(value, precision))
    one = len(numbers) == 1 and numbers[0] == "1"
    return _named(_joined(numbers, between), target, 1.0 if one else 2.0, not long)


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value)) + 1e-12) if value else 0


def _precision(given: _Quantity, value: float, unit: _Unit, target: _Unit) -> int:
    if unit.offset or target.offset:
        return max(given.precision, 2 - _magnitude((value + target.offset) * target.scale))
    adjusted = math.floor(given.precision - math.log10(unit.scale / target.scale) + 1e-12)
    return max(adjusted, 1 - _magnitude(value))


def _rounded(value: float, precision: int) -> str:
    precision = max(-15, min(precision, 15))
    factor = 10.0**precision
    number = math.floor(abs(value) * factor + 0.5 + 1e-9) / factor
    whole, _, decimals = f"{number:.{max(precision, 0)}f}".partition(".")
    shown = grouped(whole, "en") + (f".{decimals}" if decimals else "")
    return f"−{shown}" if value < 0 and number else shown
