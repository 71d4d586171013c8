"""Compares one value with another: numbers, percentages, quantities and formulas."""

from __future__ import annotations

import re
from fractions import Fraction

from pipeline.reasoning.answers import formulas
from pipeline.reasoning.answers.asked import asked_unit, names_unit
from pipeline.reasoning.answers.congruences import read_congruence
from pipeline.reasoning.answers.doubt import DOUBTFUL
from pipeline.reasoning.answers.lists import read_listing
from pipeline.reasoning.answers.normalise import peel
from pipeline.reasoning.answers.numbers import read_number
from pipeline.reasoning.answers.quantities import Quantity, read_quantity
from pipeline.reasoning.answers.sentences import stated_value
from pipeline.reasoning.answers.units import SCALE_WORDS, Unit, read_unit

__all__ = [
    "equal_number",
    "equal_quantity",
    "equal_value",
    "in_asked_unit",
    "quantity_of",
    "readings",
    "right_side",
    "unit_added",
    "without_asked",
]

_FUNCTION = re.compile(r"\\?(?:sin|cos|tan|log|ln|exp|sqrt|not|neg|minus)")
_NAMED = re.compile(
    r"(?:(?:\\angle|\\triangle)\s*)?(?:[A-Za-z]|[A-Z]{2,3}|\\[A-Za-z][a-z]{1,6}|(?i:(?:the )?(?:final )?"
    r"(?:answer|result|total|sum|product|area|volume|perimeter|length|width|height|value|speed|distance|time|cost|price|mean|average|median)))"
    r"(?:_\{?\w+\}?)?'*(?:\s*\([^()=]{1,20}\))?"
)

_DEGREES, _RADIANS = Unit(Fraction(1), (("degree", 1),)), Unit(Fraction(1), (("rad", 1),))
_GROUPED_BY_TWO = re.compile(r"[-+]?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?")
"""``12,34,567``, as India writes it: of an answer only where one number is expected, for ``1,10,100`` may be three."""
_BESIDES = re.compile(
    r"(?<=[\d}%]) (?:in total|in all|altogether|left|remaining|only"
    r"|of (?:them|(?:the|all)(?P<whole>(?: [a-z]{3,}){1,2})))$"
    r"|(?<=[a-z]) (?:every|each) (?:hour|day|night|week|month|year)$"
)
"""What is said of a number without changing it; "of the pizza" says what it is a part of."""
_SHORT = re.compile(r"([-+]?\d+(?:\.\d+)?)([kM])")
_SAID_TWICE = re.compile(r"([^()]+?)\s+\((?:or )?([^()]+)\)")


def equal_number(expected: str, answer: str) -> bool:
    """Whether the answer is the number, percentage or quantity that is expected."""
    wanted = quantity_of(expected)
    if wanted is None:
        return False
    if _is_plain(wanted) or wanted.is_percent:
        answer = _alone(answer)
    texts = _rewritten(answer) if _is_plain(wanted) else []
    return any(equal_quantity(wanted, text) for text in texts or readings(answer))


def _alone(answer: str) -> str:
    """A number without what is said of it and does not change it."""
    answer = re.sub(r"\s*\\text\s*\{( of [^{}]*)\}$", r"\1", answer)
    found = _BESIDES.search(answer)
    is_changed = found is None or set((found["whole"] or "").split()) & (DOUBTFUL | SCALE_WORDS)
    return answer if found is None or is_changed else answer[: found.start()]


def _rewritten(answer: str) -> list[str]:
    """A plain number in another notation: short, a residue, said twice, with a word for no more of it."""
    if read_number(answer) is not None:
        return [answer]
    if (short := _SHORT.fullmatch(answer)) is not None:
        return [f"{short[1]} {'thousand' if short[2] == 'k' else 'million'}"]
    if (congruence := read_congruence(answer)) is not None:
        is_one = len(congruence.residues) == 1 and congruence.is_reduced
        return [str(residue) for residue in congruence.residues] if is_one else []
    twice = _SAID_TWICE.fullmatch(answer)
    number = None if twice is None else read_number(twice[1])
    return [] if twice is None or number is None or read_number(twice[2]) != number else [twice[1]]


def quantity_of(text: str) -> Quantity | None:
    """A number, a quantity or a formula as a quantity, or None."""
    if read_number(text) is not None:
        return Quantity(text)
    found = read_quantity(text)
    if found is not None and (found.number is not None or formulas.formula(found.value) is not None):
        return found
    return Quantity(text) if formulas.formula(text) is not None else None


def readings(answer: str) -> list[str]:
    r"""What may be the one value of an answer: itself, the right side of ``x = 42``, of a sentence, of ``\{42\}``."""
    listing = read_listing(answer)
    if listing is not None and len(listing.items) == 1 and len(listing.names) < 2:
        return [answer, peel(listing.items[0])]
    relation = formulas.read_relation(answer)
    if relation is not None:
        return right_side(relation)
    stated = stated_value(answer)
    return [answer] if stated is None else [answer, stated]


def right_side(relation: formulas.Relation) -> list[str]:
    """The last side of an equation that says nothing but what its value is: ``x = 42``, ``6 * 7 = 42``."""
    if set(relation.signs) != {"="}:
        return []
    *before, last = relation.sides
    if _NAMED.fullmatch(before[0]) and not _FUNCTION.match(before[0]):
        before = before[1:]
    last = peel(last)
    if len(before) == 1 and _NAMED.fullmatch(last) and read_number(before[0]) is not None:  # 42 = x
        before, last = [], before[0]
    if any(side == last for side in before):  # 42 = 42 says nothing
        return []
    number = read_number(last)
    if number is None and (found := read_quantity(last)) is not None:
        number = found.number
    if before and number is None:
        return [last] if all(formulas.equal_formula(side, last) for side in before) else []
    return [last] if all(read_number(side) == number or formulas.value_of(side) == number for side in before) else []


def without_asked(answer: str, question: str) -> str:
    """An answer that begins with what is asked for, as the question writes it, without that: ``a+b = 5``."""
    relation = formulas.read_relation(answer)
    if relation is None or set(relation.signs) != {"="} or any("," in side for side in relation.sides[:-1]):
        return answer
    asked = r"\s*".join(map(re.escape, re.sub(r"\s", "", relation.sides[0])))
    alone = rf"(?<![\w+*/^({{=-])(?<![+*/^(=-]\s){asked}(?!\w|\s*[+*/^(=<>-])"
    is_asked = re.search("[A-Za-z]", relation.sides[0]) and re.search(alone, question.replace("$", " "))
    return " = ".join(relation.sides[1:]) if is_asked else answer


def equal_quantity(wanted: Quantity, answer: str) -> bool:
    """Whether the answer is just the quantity that is wanted, in any unit of its kind."""
    if _is_plain(wanted) and equal_value(wanted.value, answer):
        return True
    answer = _in_currency(wanted, answer)
    if read_number(answer) is not None:
        return _without_unit(wanted, answer)
    given = read_quantity(answer)
    if given is None:
        return _without_unit(wanted, answer) if formulas.formula(answer) is not None else False
    if _is_plain(wanted):
        return unit_added(wanted, given)
    if wanted.thing or given.thing:
        return _equal_thing(wanted.thing, given.thing) and equal_value(wanted.value, given.value)
    assert wanted.unit is not None
    assert given.unit is not None
    if {wanted.unit.powers, given.unit.powers} == {_DEGREES.powers, _RADIANS.powers}:
        return equal_value(*(_in_radians(each) for each in (wanted, given)))
    if wanted.unit.powers != given.unit.powers:
        return False
    first, second = wanted.number, given.number
    if first is not None and second is not None:
        return first * wanted.unit.factor == second * given.unit.factor
    return wanted.unit == given.unit and equal_value(wanted.value, given.value)


def _in_radians(angle: Quantity) -> str:
    return angle.value if angle.unit == _RADIANS else f"({angle.value})*\\pi/180"


def _in_currency(wanted: Quantity, answer: str) -> str:
    """An answer in a currency that has its word or sign in common with another unit, which the expected one tells."""
    if wanted.unit == read_unit("gbp"):
        return re.sub(r"\bpounds?(?: sterling)?$", "GBP", answer)
    return answer.replace("¥", "CNY ") if wanted.unit == read_unit("cny") else answer


def _is_plain(quantity: Quantity) -> bool:
    return quantity.unit is None and not quantity.thing


def _without_unit(wanted: Quantity, answer: str) -> bool:
    """An answer without the unit: right where the unit is notation (percent, degrees, a currency, none), else wrong."""
    if wanted.is_percent and wanted.number is not None:
        number = read_number(answer)
        return number is not None and number in (wanted.number, wanted.number / 100)
    is_notation = wanted.is_angle or wanted.is_money or wanted.is_year or wanted.is_abstract
    return is_notation and equal_value(wanted.value, answer)


def unit_added(wanted: Quantity, given: Quantity) -> bool:
    """An answer with a unit where none is expected: the number must be the expected one.

    A percentage may stand for a number above 1 (``50`` for ``50%``) or for the share that it is (``0.5``).
    """
    if not given.is_percent:
        return not given.is_compound and equal_value(wanted.value, given.value)
    first, second = wanted.number, given.number
    if first is None or second is None:
        return False
    return first == second if abs(first) > 1 else first == second / 100


def _equal_thing(wanted: str, given: str) -> bool:
    """Whether the same is counted; what it is made of may be left out: ``cups`` for ``cups of flour``."""
    (first, _, of_first), (second, _, of_second) = wanted.partition(" of "), given.partition(" of ")
    is_same = not of_first or not of_second or of_first == of_second
    return bool(first) and is_same and first.rstrip("s") == second.rstrip("s")


def equal_value(expected: str, answer: str) -> bool:
    """One number or formula; what is worked out for a number must be worked out in the answer."""
    first, second = read_number(expected), read_number(answer)
    if second is None and _GROUPED_BY_TWO.fullmatch(answer):
        second = read_number(answer.replace(",", ""))
    if first is not None and second is not None:
        return first == second
    if first is not None:
        expected = f"{first.numerator}/{first.denominator}"
    if second is not None:
        answer = f"{second.numerator}/{second.denominator}"
    return formulas.equal_formula(expected, answer, finished=first is not None)


def in_asked_unit(expected: str, answer: str, question: str) -> bool | None:
    """The verdict where the question names the unit that one of the two lacks, else None."""
    wanted, texts = quantity_of(expected), readings(answer)
    if wanted is None:
        return None
    if not _is_plain(wanted):
        is_right = names_unit(question, wanted) and any(equal_value(wanted.value, text) for text in texts)
        return True if is_right else None
    given = next((found for text in texts if (found := read_quantity(text)) is not None), None)
    unit = None if given is None or given.unit is None else asked_unit(question, given.unit)
    if given is None or given.unit is None or unit is None or given.number is None or wanted.number is None:
        return None
    return given.number * given.unit.factor == wanted.number * unit.factor
