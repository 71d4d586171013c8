"""Whether an answer is right: the one comparison behind evaluation, rewards and rejection sampling.

What counts as the same answer depends on the expected answer's type (`AnswerType`). The rules are made to be played
against: an answer that gives several values where one is asked for, denies or doubts its value, rounds it, leaves it
to be worked out, or could be read in two ways is wrong. Nothing is evaluated as code, and time is bounded by counted
work, so that a busy machine changes no verdict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pipeline.reasoning.answers import formulas
from pipeline.reasoning.answers.boxes import unboxed
from pipeline.reasoning.answers.budget import bounded
from pipeline.reasoning.answers.choices import equal_choice, read_choice
from pipeline.reasoning.answers.dates import read_date
from pipeline.reasoning.answers.detect import find_type
from pipeline.reasoning.answers.lists import Listing, equal_in_any_order, equal_in_order, read_listing
from pipeline.reasoning.answers.normalise import LONGEST, final_value, mathematical, peel, without_lead_in
from pipeline.reasoning.answers.numbers import read_number
from pipeline.reasoning.answers.quantities import Quantity, read_quantity
from pipeline.reasoning.answers.sentences import stated_value, stated_words
from pipeline.reasoning.answers.syntax import names
from pipeline.reasoning.answers.text import equal_code_output, equal_text
from pipeline.reasoning.answers.types import AnswerType

__all__ = ["fits", "judge"]

_FUNCTION = re.compile(r"\\?(?:sin|cos|tan|log|ln|exp|sqrt|not|neg|minus)")
_NAMED = re.compile(
    r"(?:(?:\\angle|\\triangle)\s*)?(?:[A-Za-z]|[A-Z]{2,3}|\\[a-z]{2,7}|(?i:(?:the )?(?:final )?"
    r"(?:answer|result|total|sum|product|area|volume|perimeter|length|width|height|value|speed|distance|time|cost|price|mean|average|median)))"
    r"(?:_\{?\w+\}?)?'*(?:\s*\([^()=]{1,20}\))?"
)


def judge(expected: str, answer: str, answer_type: AnswerType | None = None, choices: Sequence[str] = ()) -> bool:
    """Whether `answer` is right where `expected` is.

    Args:
        answer: what stands after the reasoning; boxes, Markdown and "The answer is" are seen through.
        answer_type: what the question declares; found from `expected` where it is None.
        choices: the texts of a question's choices, A first, where they are known.
    """
    if not answer.strip() or len(answer) > LONGEST:
        return False
    with bounded():
        expected = unboxed(expected)
        return _judge(expected, answer, answer_type or find_type(expected), choices)


def _judge(expected: str, answer: str, kind: AnswerType, choices: Sequence[str]) -> bool:
    if kind is AnswerType.CODE_OUTPUT:
        return equal_code_output(expected, answer)
    if _spaced(expected) == _spaced(answer):
        return True
    value = final_value(answer)
    if value is None or ("?" in answer and "?" not in expected and kind is not AnswerType.TEXT):
        return False
    if kind is AnswerType.CHOICE:
        return any(equal_choice(peel(expected), text, choices) for text in (value, without_lead_in(value)))
    if kind is AnswerType.TEXT:
        return _equal_text(expected, value)
    if kind is AnswerType.DATE:
        wanted = read_date(peel(expected))
        return wanted is not None and wanted in (read_date(value), read_date(without_lead_in(value)))
    wanted_text = _formula_text(expected)
    given = without_lead_in(_formula_text(value))
    return bool(given) and _BY_TYPE[kind](wanted_text, given)


def fits(expected: str, answer_type: AnswerType) -> bool:
    """Whether `expected` can be read as a value of the type that is declared for it."""
    expected = unboxed(expected)
    with bounded():
        return _fits(peel(expected), _formula_text(expected), answer_type)


def _fits(words: str, text: str, answer_type: AnswerType) -> bool:
    match answer_type:
        case AnswerType.CHOICE:
            return read_choice(words) is not None
        case AnswerType.DATE:
            return read_date(words) is not None
        case AnswerType.NUMBER | AnswerType.QUANTITY:
            return _quantity(text) is not None
        case AnswerType.SET:
            return read_listing(text) is not None
        case AnswerType.SEQUENCE:
            return ":" in text or read_listing(text) is not None
    return bool(words)


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _formula_text(text: str) -> str:
    return peel(mathematical(peel(text)))


def _equal_text(expected: str, value: str) -> bool:
    wanted = peel(expected)
    if any(equal_text(wanted, text) for text in (value, without_lead_in(value))):
        return True
    stated = stated_words(value)
    if wanted == value or (stated is not None and equal_text(wanted, peel(stated))):
        return True
    is_formula = "\\" in wanted and "\\text" not in wanted
    return is_formula and re.sub(r"\s", "", mathematical(wanted)) == re.sub(r"\s", "", mathematical(value))


# --- one value


def _equal_number(expected: str, answer: str) -> bool:
    wanted = _quantity(expected)
    return wanted is not None and any(_equal_quantity(wanted, text) for text in _readings(answer))


def _quantity(text: str) -> Quantity | None:
    if read_number(text) is not None:
        return Quantity(text)
    found = read_quantity(text)
    if found is not None and (found.number is not None or formulas.formula(found.value) is not None):
        return found
    return Quantity(text) if formulas.formula(text) is not None else None


def _readings(answer: str) -> list[str]:
    """What may be the one value of an answer: itself, the right side of ``x = 42``, what a sentence states."""
    relation = formulas.read_relation(answer)
    if relation is not None:
        return _right_side(relation)
    stated = stated_value(answer)
    return [answer] if stated is None else [answer, stated]


def _right_side(relation: formulas.Relation) -> list[str]:
    """The last side of an equation that says nothing but what its value is: ``x = 42``, ``6 * 7 = 42``."""
    if set(relation.signs) != {"="}:
        return []
    *before, last = relation.sides
    if _NAMED.fullmatch(before[0]) and not _FUNCTION.match(before[0]):
        before = before[1:]
    last = peel(last)
    if any(side == last for side in before):  # 42 = 42 says nothing
        return []
    number = read_number(last)
    if number is None and (found := read_quantity(last)) is not None:
        number = found.number
    if before and number is None:
        return [last] if all(formulas.equal_formula(side, last) for side in before) else []
    return [last] if all(read_number(side) == number or formulas.value_of(side) == number for side in before) else []


def _equal_quantity(wanted: Quantity, answer: str) -> bool:
    if _is_plain(wanted) and _equal_value(wanted.value, answer):
        return True
    if read_number(answer) is not None:
        return _without_unit(wanted, answer)
    given = read_quantity(answer)
    if given is None:
        return _without_unit(wanted, answer) if formulas.formula(answer) is not None else False
    if _is_plain(wanted):
        return _unit_added(wanted, given)
    if wanted.thing or given.thing:
        return _equal_thing(wanted.thing, given.thing) and _equal_value(wanted.value, given.value)
    assert wanted.unit is not None
    assert given.unit is not None
    if wanted.unit.powers != given.unit.powers:
        return False
    first, second = wanted.number, given.number
    if first is not None and second is not None:
        return first * wanted.unit.factor == second * given.unit.factor
    return wanted.unit == given.unit and _equal_value(wanted.value, given.value)


def _is_plain(quantity: Quantity) -> bool:
    return quantity.unit is None and not quantity.thing


def _without_unit(wanted: Quantity, answer: str) -> bool:
    """An answer without the unit: right where the unit is notation (percent, degrees, a currency), else wrong."""
    if wanted.is_percent and wanted.number is not None:
        number = read_number(answer)
        return number is not None and number in (wanted.number, wanted.number / 100)
    return (wanted.is_angle or wanted.is_money) and _equal_value(wanted.value, answer)


def _unit_added(wanted: Quantity, given: Quantity) -> bool:
    """An answer with a unit where none is expected: the number must be the expected one.

    A percentage may stand for a number above 1 (``50`` for ``50%``) or for the share that it is (``0.5``).
    """
    if not given.is_percent:
        return _equal_value(wanted.value, given.value)
    first, second = wanted.number, given.number
    if first is None or second is None:
        return False
    return first == second if abs(first) > 1 else first == second / 100


def _equal_thing(wanted: str, given: str) -> bool:
    return bool(wanted) and wanted.rstrip("s") == given.rstrip("s")


def _equal_value(expected: str, answer: str) -> bool:
    """One number or formula; what is worked out for a number must be worked out in the answer."""
    first, second = read_number(expected), read_number(answer)
    if first is not None and second is not None:
        return first == second
    if first is not None:
        expected = f"{first.numerator}/{first.denominator}"
    if second is not None:
        answer = f"{second.numerator}/{second.denominator}"
    return formulas.equal_formula(expected, answer, finished=first is not None)


# --- formulas


def _equal_expression(expected: str, answer: str) -> bool:
    if (matrix := formulas.read_matrix(expected)) is not None:
        given_matrix = formulas.read_matrix(answer)
        return given_matrix is not None and formulas.equal_matrix(matrix, given_matrix)
    if (digits := formulas.read_in_base(expected)) is not None:
        return digits == formulas.read_in_base(answer)
    relation, given = formulas.read_relation(expected), formulas.read_relation(answer)
    if relation is not None and given is not None and _variables(relation) != _variables(given):
        return False
    if (intervals := formulas.read_intervals(expected)) is not None and _equal_intervals(intervals, answer):
        return True
    if relation is not None:
        return _equal_relation(relation, answer)
    if _equal_value(expected, answer):
        return True
    return given is not None and any(_equal_value(expected, text) for text in _right_side(given))


def _variables(relation: formulas.Relation) -> frozenset[str]:
    trees = [formulas.formula(side) for side in relation.sides]
    return frozenset[str]().union(*(names(tree) for tree in trees if tree is not None))


def _equal_intervals(intervals: tuple[formulas.Interval, ...], answer: str) -> bool:
    given = formulas.read_intervals(answer)
    return given is not None and formulas.equal_intervals(intervals, given)


def _equal_relation(expected: formulas.Relation, answer: str) -> bool:
    given = formulas.read_relation(answer)
    if given is not None:
        return formulas.equal_relation(expected, given)
    is_value = expected.signs == ("=",) and formulas.formula(expected.sides[1]) is not None
    if not is_value or re.fullmatch(r"[A-Za-z]|\\[a-z]+", expected.sides[0]) is None:
        return False
    tree = formulas.formula(expected.sides[1])
    return tree is not None and not names(tree) and _equal_value(expected.sides[1], answer)


# --- several values


def _equal_item(expected: str, answer: str) -> bool:
    """One value of several."""
    if _unquoted(expected) != expected.strip():
        return equal_text(_unquoted(expected), _unquoted(answer))
    expected, answer = peel(expected), peel(answer)
    inner = read_listing(expected) if expected[:1] in ("(", "[", "{", "\\") else None
    if inner is not None:
        given = read_listing(answer)
        if given is None or given.brackets != inner.brackets:
            return False
        compare = equal_in_any_order if inner.brackets == "{}" else equal_in_order
        return compare(inner.items, given.items, _equal_plain_item)
    return _equal_plain_item(expected, answer)


def _equal_plain_item(expected: str, answer: str) -> bool:
    wanted = _quantity(peel(expected))
    if wanted is None:
        return equal_text(_unquoted(expected), _unquoted(answer))
    return _equal_quantity(wanted, peel(answer))


def _unquoted(text: str) -> str:
    return text.strip().strip("'\"")


def _equal_set(expected: str, answer: str) -> bool:
    wanted, given = read_listing(expected), read_listing(answer)
    if wanted is None:
        return False
    if given is None:
        only = [answer, *_readings(answer)] if len(wanted.items) == 1 else []
        return any(_equal_item(wanted.items[0], text) for text in only)
    if given.brackets not in ("", "{}"):  # a point or an interval, unless there are too many values for either
        is_bare = not wanted.brackets and not wanted.is_alternative and not wanted.names
        return is_bare and len(wanted.items) > 2 and equal_in_order(wanted.items, given.items, _equal_item)
    if given.names and not given.is_one_unknown:
        return False
    return equal_in_any_order(wanted.items, given.items, _equal_item)


def _equal_sequence(expected: str, answer: str) -> bool:
    ratio = [part.strip() for part in expected.split(":")]
    if len(ratio) > 1:
        return equal_in_order(ratio, re.split(r"\s*:\s*|\s+to\s+", answer), _equal_plain_item)
    wanted, given = read_listing(expected), read_listing(answer)
    if wanted is None:
        return False
    if given is None:
        intervals = formulas.read_intervals(expected)
        return intervals is not None and _equal_intervals(intervals, answer)
    if given.names and not given.brackets:
        return _equal_named(wanted, given)
    if not _are_same_brackets(wanted, given) or given.is_alternative:
        return False
    if wanted.names:
        return not given.names and _equal_named(given, wanted) if given.brackets else False
    return equal_in_order(wanted.items, given.items, _equal_item)


def _equal_named(wanted: Listing, given: Listing) -> bool:
    """``x = 3, y = 4`` for ``(3, 4)``, and for the same names in any order."""
    if len(set(given.names)) != len(given.names):
        return False
    by_name = dict(zip(given.names, given.items, strict=True))
    if wanted.names:
        return set(wanted.names) == set(by_name) and all(
            _equal_item(item, by_name[name]) for name, item in zip(wanted.names, wanted.items, strict=True)
        )
    return wanted.brackets in ("()", "") and equal_in_order(
        wanted.items, [by_name[name] for name in sorted(by_name)], _equal_item
    )


def _are_same_brackets(wanted: Listing, given: Listing) -> bool:
    """Two values in brackets may be an interval, so brackets count there; of more values they are notation."""
    if wanted.brackets == given.brackets:
        return True
    if "{}" in (wanted.brackets, given.brackets):
        return False
    return len(wanted.items) > 2 or not wanted.brackets or (wanted.brackets == "[]" and not given.brackets)


_BY_TYPE: dict[AnswerType, Callable[[str, str], bool]] = {
    AnswerType.NUMBER: _equal_number,
    AnswerType.QUANTITY: _equal_number,
    AnswerType.EXPRESSION: _equal_expression,
    AnswerType.SET: _equal_set,
    AnswerType.SEQUENCE: _equal_sequence,
}
