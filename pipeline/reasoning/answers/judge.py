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
from pipeline.reasoning.answers.asked import asks_for_all
from pipeline.reasoning.answers.boxes import unboxed
from pipeline.reasoning.answers.budget import bounded
from pipeline.reasoning.answers.choices import equal_choice, read_choice, read_letters
from pipeline.reasoning.answers.congruences import equal_congruence, read_congruence
from pipeline.reasoning.answers.dates import read_date
from pipeline.reasoning.answers.detect import find_type
from pipeline.reasoning.answers.intervals import Interval, equal_intervals, is_built, read_intervals
from pipeline.reasoning.answers.lists import Listing, equal_in_any_order, equal_in_order, read_listing
from pipeline.reasoning.answers.matrices import Matrix, equal_matrix, read_matrix, read_sum_of_units, read_vector
from pipeline.reasoning.answers.normalise import (
    LONGEST,
    final_value,
    mathematical,
    peel,
    split_label,
    spoken,
    without_lead_in,
)
from pipeline.reasoning.answers.numbers import read_number
from pipeline.reasoning.answers.quantities import Quantity, read_quantity
from pipeline.reasoning.answers.sentences import stated_words
from pipeline.reasoning.answers.syntax import names
from pipeline.reasoning.answers.text import equal_code_output, equal_text, read_absence
from pipeline.reasoning.answers.types import AnswerType
from pipeline.reasoning.answers.values import (
    equal_number,
    equal_quantity,
    equal_value,
    in_asked_unit,
    quantity_of,
    readings,
    right_side,
    unit_added,
    without_asked,
)

__all__ = ["fits", "judge", "same"]

_NEARLY = re.compile(r"\s*(?:≈|\\approx(?![A-Za-z]))")
"""What follows it is said besides."""
_INEQUALITY = re.compile(r"[<>]=?(?!$)|\\(?:leq?|geq?|leqslant|geqslant|lt|gt)(?![A-Za-z])")
_NAME = re.compile(r"^[A-Za-z](?:_\{?\w\}?)?\s*=\s*(?=[(\[])")
"""What a point, a vector or an interval is called."""
_CONSTANT = re.compile(r"\+\s*[cK]$")
"""What an integral may end in, where its constant is called C."""


def judge(
    expected: str,
    answer: str,
    answer_type: AnswerType | None = None,
    choices: Sequence[str] = (),
    question: str = "",
) -> bool:
    """Whether `answer` is right where `expected` is.

    Args:
        answer: what stands after the reasoning; boxes, Markdown and "The answer is" are seen through.
        answer_type: what the question declares; found from `expected` where it is None.
        choices: the texts of a question's choices, A first, where they are known.
        question: what is asked, which may name the unit of the answer.
    """
    if not answer.strip() or len(answer) > LONGEST:
        return False
    with bounded():
        expected = unboxed(expected)
        kind = answer_type or find_type(expected)
        if kind is AnswerType.SEQUENCE and answer_type is None and asks_for_all(question):
            kind = AnswerType.SET if _is_bare_list(expected) else kind
        label, value = split_label(expected)
        if label and answer_type is None and kind in (AnswerType.NUMBER, AnswerType.QUANTITY, AnswerType.EXPRESSION):
            if split_label(without_lead_in(final_value(answer) or ""))[0] not in ("", label):
                return False
            expected = value
        return _judge(expected, answer, kind, choices, question)


def _is_bare_list(expected: str) -> bool:
    listing = read_listing(_formula_text(expected))
    return listing is not None and not listing.brackets and not listing.names


def same(first: str, second: str, answer_type: AnswerType, question: str = "") -> bool:
    """Whether two answers to one question give the same value, whatever it is."""
    value = final_value(first) if first.strip() and len(first) <= LONGEST else None
    return value is not None and judge(without_lead_in(value), second, answer_type, question=question)


def _judge(expected: str, answer: str, kind: AnswerType, choices: Sequence[str], question: str) -> bool:
    if kind is AnswerType.CODE_OUTPUT:
        return equal_code_output(expected, answer)
    if _spaced(expected) == _spaced(answer):
        return True
    value = final_value(answer)
    if value is None or ("?" in answer and "?" not in expected and kind is not AnswerType.TEXT):
        return False
    if _is_absence_or_letters(peel(expected), {value, without_lead_in(value)}):
        return True
    if kind is AnswerType.CHOICE:
        said = (value, without_lead_in(value), stated_words(value) or "")
        return any(equal_choice(peel(expected), text, choices, _equal_choice_text) for text in said if text)
    if kind is AnswerType.TEXT:
        return _equal_text(expected, value)
    if kind is AnswerType.DATE:
        wanted = read_date(peel(expected))
        dates = [read_date(text, is_surely=True) for text in (value, without_lead_in(value))]
        return wanted is not None and wanted in dates
    value = _without_rounded(value)
    wanted_text = _formula_text(expected)
    given = without_lead_in(_formula_text(value))
    if question and kind in (AnswerType.NUMBER, AnswerType.QUANTITY):
        given = without_asked(given, question)
        verdict = in_asked_unit(wanted_text, given, question)
        if verdict is not None:
            return verdict
    return bool(given) and _BY_TYPE[kind](wanted_text, given)


def _without_rounded(value: str) -> str:
    """A value without what it is about, where that is one number nearby: ``7/9 ≈ 0.78``."""
    first, *others = [peel(part) for part in _NEARLY.split(value)]
    exact = quantity_of(_formula_text(without_lead_in(first)).rpartition("=")[2].strip())
    for other in others:
        rounded = quantity_of(_formula_text(re.sub(r"\s*(?:\.{3}|…|\\[lc]?dots)$", "", other)))
        number = None if rounded is None else read_number(rounded.value) or formulas.value_of(rounded.value)
        if number is None or (exact is not None and formulas.is_near(exact.value, number) is False):
            return value
    return first or value


def _is_absence_or_letters(expected: str, answers: set[str]) -> bool:
    """What is written in many ways whatever its type: that there is nothing, and several choices."""
    absence, letters = read_absence(expected), read_letters(expected)
    return (absence is not None and absence in map(read_absence, answers)) or (
        letters is not None and letters in (read_letters(answer, any_order=True) for answer in answers)
    )


def fits(expected: str, answer_type: AnswerType) -> bool:
    """Whether `expected` can be read as a value of the type that is declared for it."""
    expected = unboxed(expected)
    with bounded():
        label, value = split_label(expected)
        expected = value if label else expected
        return _fits(peel(expected), _formula_text(expected), answer_type)


def _fits(words: str, text: str, answer_type: AnswerType) -> bool:
    match answer_type:
        case AnswerType.CHOICE:
            return read_choice(words) is not None
        case AnswerType.DATE:
            return read_date(words) is not None
        case AnswerType.NUMBER | AnswerType.QUANTITY:
            return quantity_of(text) is not None
        case AnswerType.SET:
            return read_listing(text) is not None
        case AnswerType.SEQUENCE:
            return ":" in text or read_listing(text) is not None
    return bool(words)


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _formula_text(text: str) -> str:
    return peel(spoken(mathematical(peel(text))))


def _equal_choice_text(choice: str, answer: str) -> bool:
    """Whether the answer is what a choice says: its words, or its value."""
    if equal_text(choice, answer):
        return True
    kind = find_type(choice)
    is_value = kind not in (AnswerType.TEXT, AnswerType.CHOICE, AnswerType.CODE_OUTPUT)
    return is_value and _judge(choice, answer, kind, (), "")


def _equal_text(expected: str, value: str) -> bool:
    wanted = peel(expected)
    if any(equal_text(wanted, text) for text in (value, without_lead_in(value))):
        return True
    stated = stated_words(value)
    if wanted == value or (stated is not None and equal_text(wanted, peel(stated))):
        return True
    is_formula = re.search(r"[\\=<>^*/()]", wanted) is not None and "\\text" not in wanted
    return is_formula and _unspaced(wanted) == _unspaced(value)


def _unspaced(text: str) -> str:
    r"""A formula that is none of algebra's, ``O(n \log n)``, without white space and backslashes."""
    text = re.sub(r"\\[lc]?dots(?![A-Za-z])", "...", mathematical(text))
    return re.sub(r"\s|\\(?=[A-Za-z])", "", text)


# --- formulas


def _equal_expression(expected: str, answer: str) -> bool:
    if (matrix := read_matrix(expected)) is not None:
        answer = re.sub(r"^[A-Z]\s*=\s*", "", answer)
        if (units := read_sum_of_units(answer, len(read_vector(expected) or ()))) is not None:
            answer = f"({', '.join(units)})"
        return _equal_matrix(expected, matrix, answer)
    if (units := read_sum_of_units(expected, 3) or read_sum_of_units(expected, 2)) is not None and len(units) > 1:
        return _equal_vector(units, answer)
    if is_built(expected) or is_built(answer):
        intervals = read_intervals(expected)
        return intervals is not None and _equal_intervals(intervals, answer)
    if (digits := formulas.read_in_base(expected)) is not None:
        return digits == formulas.read_in_base(answer)
    if (congruence := read_congruence(expected)) is not None:
        other = read_congruence(answer)
        return other is not None and equal_congruence(congruence, other)
    relation, given = formulas.read_relation(expected), formulas.read_relation(answer)
    if relation is not None and given is not None and _variables(given) not in (_variables(relation), None):
        return False
    if (intervals := read_intervals(expected)) is not None and _equal_intervals(intervals, answer):
        return True
    if relation is not None:
        return _equal_relation(relation, answer)
    if _closed_up(expected) == _closed_up(answer):  # however large
        return True
    if expected.endswith("C"):
        answer = _CONSTANT.sub("+C", answer)
    if equal_value(expected, answer):
        return True
    if given is not None:
        return any(equal_value(expected, text) for text in right_side(given))
    quantity, tree = read_quantity(answer), formulas.formula(expected)
    return quantity is not None and tree is not None and not names(tree) and unit_added(Quantity(expected), quantity)


def _closed_up(text: str) -> str:
    """A formula without spaces beside signs."""
    return re.sub(r"\s*([^\w\s])\s*", r"\1", text)


def _equal_matrix(expected: str, matrix: Matrix, answer: str) -> bool:
    """A matrix; of one row or column, also the tuple of its entries."""
    transposed = re.fullmatch(r"([\[(].+[\])])\^\s*(?:T|\{\s*(?:T|\\top)\s*\}|\\top)", answer, re.DOTALL)
    given, vector, listing = (
        read_matrix(answer),
        read_vector(expected),
        read_listing(transposed[1] if transposed else answer),
    )
    if transposed is not None and listing is not None and read_matrix(transposed[1]) is None:
        is_column = vector is not None and all(len(row) == 1 for row in matrix[1])
        return is_column and equal_in_order(vector or (), listing.items, _equal_plain_item)
    if given is not None or vector is None or listing is None:
        return given is not None and equal_matrix(matrix, given)
    return listing.brackets == "()" and not listing.names and equal_in_order(vector, listing.items, _equal_plain_item)


def _equal_vector(expected: tuple[str, ...], answer: str) -> bool:
    """A sum of multiples of unit vectors: such a sum, or the components as a point, a row or a column."""
    given = read_sum_of_units(answer, len(expected)) or read_vector(answer)
    if given is None and (listing := read_listing(answer)) is not None and listing.brackets == "()":
        given = listing.items if not listing.names else None
    return given is not None and _equal_components(expected, given)


def _equal_components(expected: Sequence[str], given: Sequence[str]) -> bool:
    """Whether they are equal one by one; a third that is nothing may be left out."""
    size = max(len(expected), len(given))
    rows = [[*row, *["0"] * (size - len(row))] for row in (expected, given)]
    return min(len(expected), len(given)) > 1 and equal_in_order(rows[0], rows[1], equal_value)


def _variables(relation: formulas.Relation) -> frozenset[str] | None:
    """The names of all sides; None where one is no formula: ``x`` and ``4 and x``."""
    trees = [formulas.formula(side) for side in relation.sides]
    known = [tree for tree in trees if tree is not None]
    return frozenset[str]().union(*map(names, known)) if len(known) == len(trees) else None


def _equal_intervals(intervals: tuple[Interval, ...], answer: str) -> bool:
    given = read_intervals(answer)
    return given is not None and equal_intervals(intervals, given)


def _equal_relation(expected: formulas.Relation, answer: str) -> bool:
    given = formulas.read_relation(answer)
    if given is not None and len(given.signs) > len(expected.signs) == 1 and (ends := right_side(given)):
        given = formulas.Relation((given.sides[0], ends[0]), expected.signs)  # x = 5 + 6 = 11
    if given is not None:
        return formulas.equal_relation(expected, given)
    named = re.fullmatch(r"([A-Za-z]|\\[a-z]+)(?:_\{?\w\}?|\s*\([A-Za-z]\))?", expected.sides[0])
    tree = formulas.formula(expected.sides[1]) if expected.signs == ("=",) else None
    if named is None or tree is None or named[1] in names(tree):
        return False
    return any(equal_value(expected.sides[1], text) for text in readings(answer))


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
    wanted = quantity_of(peel(expected))
    if wanted is None:
        return equal_text(_unquoted(expected), _unquoted(answer))
    return equal_quantity(wanted, peel(answer))


def _unquoted(text: str) -> str:
    return text.strip().strip("'\"")


def _equal_set(expected: str, answer: str) -> bool:
    wanted, given = read_listing(expected), read_listing(answer)
    if wanted is None:
        return False
    if given is None:
        only = [answer, *readings(answer)] if len(wanted.items) == 1 else []
        return any(_equal_item(wanted.items[0], text) for text in only)
    if given.brackets not in ("", "{}"):  # a point or an interval, unless there are too many values for either
        is_bare = not wanted.brackets and not wanted.is_alternative and not wanted.names
        return is_bare and len(wanted.items) > 2 and equal_in_order(wanted.items, given.items, _equal_item)
    if given.names and not given.is_one_unknown:
        stems = {name.partition("_")[0] for name in given.names}
        if not given.is_numbered or not (not wanted.names or (wanted.is_one_unknown and stems == set(wanted.names))):
            return False
    return equal_in_any_order(wanted.items, given.items, _equal_item)


def _equal_sequence(expected: str, answer: str) -> bool:
    expected, answer = (_NAME.sub("", text) for text in (expected, answer))
    ratio = [part.strip() for part in expected.split(":")]
    answer = re.sub(r"(?:\\[,;! ])*\s*:\s*(?:\\[,;! ])*", ":", answer) if len(ratio) > 1 else answer
    quotient = re.fullmatch(r"(\d+)\s*/\s*(\d+)|\\[dt]?frac\{(\d+)\}\{(\d+)\}", answer)
    if len(ratio) == 2 and quotient is not None:
        return equal_in_order(ratio, [part for part in quotient.groups() if part], _equal_plain_item)
    if len(ratio) > 1:
        return equal_in_order(ratio, re.split(r"\s*:\s*|\s+to\s+", answer), _equal_plain_item)
    if answer[:1] == "]" or answer[-1:] == "[" or is_built(answer) or _INEQUALITY.search(answer[1:]):  # ]0, 1[
        intervals = read_intervals(expected)
        return intervals is not None and _equal_intervals(intervals, answer)
    wanted, given = read_listing(expected), read_listing(re.sub(r"^[A-Z]\s*(?=\()", "", answer))
    if wanted is None:
        return False
    if given is None and (vector := read_vector(answer) or read_sum_of_units(answer, len(wanted.items))) is not None:
        return wanted.brackets == "()" and not wanted.names and equal_in_order(wanted.items, vector, _equal_plain_item)
    if given is None:
        intervals = read_intervals(expected)
        return intervals is not None and _equal_intervals(intervals, answer)
    if given.names and not given.brackets and not (wanted.is_numbered and given.is_one_unknown):
        return _equal_named(wanted, given)
    if wanted.is_numbered and not given.brackets:  # the roots of one equation
        compare = equal_in_any_order if given.is_one_unknown else equal_in_order
        is_same = not given.names or given.names[0] == wanted.names[0].partition("_")[0]
        return is_same and compare(wanted.items, given.items, _equal_item)
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
    AnswerType.NUMBER: equal_number,
    AnswerType.QUANTITY: equal_number,
    AnswerType.EXPRESSION: _equal_expression,
    AnswerType.SET: _equal_set,
    AnswerType.SEQUENCE: _equal_sequence,
}
