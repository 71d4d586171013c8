r"""Compares formulas, equations, inequalities and numerals in a base."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pipeline.reasoning.answers import numerics
from pipeline.reasoning.answers.algebra import quotient_of
from pipeline.reasoning.answers.budget import OutOfBudgetError
from pipeline.reasoning.answers.numbers import read_number
from pipeline.reasoning.answers.quotients import Algebra, Polynomial
from pipeline.reasoning.answers.syntax import Node, NotAFormulaError, is_unfinished, names, parse_formula

__all__ = [
    "TURNED",
    "Relation",
    "equal_formula",
    "equal_relation",
    "formula",
    "is_near",
    "read_in_base",
    "read_relation",
    "solved",
    "value_of",
]

_SAME_SIGN = {
    "<=": "<=", "\\leqslant": "<=", "\\leq": "<=", "\\le": "<=", ">=": ">=", "\\geqslant": ">=", "\\geq": ">=",
    "\\ge": ">=", "!=": "!=", "\\neq": "!=", "\\ne": "!=", "\\lt": "<", "\\gt": ">", "<": "<", ">": ">", "=": "=",
}  # fmt: skip
_SIGN = re.compile(r"\s*(<=|>=|!=|\\(?:leqslant|leq|le|geqslant|geq|ge|neq|ne|lt|gt)(?![A-Za-z])|==?|<|>)\s*")
TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


def formula(text: str) -> Node | None:
    """The tree of `text`, or None where it is no formula."""
    try:
        return parse_formula(text)
    except (NotAFormulaError, OutOfBudgetError, RecursionError):
        return None


def equal_formula(expected: str, answer: str, *, finished: bool = False) -> bool:
    """Whether the two formulas are equal.

    Args:
        finished: an answer that leaves a sum or a product to be worked out, or names in it, is wrong.
    """
    first, second = formula(expected), formula(answer)
    if first is None or second is None or (finished and (names(second) or is_unfinished(second))):
        return False
    return _equal(first, second)


def _equal(first: Node, second: Node) -> bool:
    algebra = Algebra()
    try:
        if algebra.equal(quotient_of(algebra, first), quotient_of(algebra, second)):
            return True
        return algebra.is_soft() and numerics.agree(first, second)
    except (NotAFormulaError, OutOfBudgetError, RecursionError):
        return False


def value_of(text: str) -> Fraction | None:
    """The rational number that a formula comes to, or None."""
    tree = formula(text)
    if tree is None:
        return None
    try:
        return quotient_of(Algebra(), tree).rational()
    except (NotAFormulaError, OutOfBudgetError, RecursionError):
        return None


def is_near(text: str, number: Fraction) -> bool | None:
    """Whether a formula comes to about `number`; None where it is none that can be worked out."""
    tree, value = formula(text), value_of(text)
    if value is not None:
        return abs(value - number) <= abs(value) / 20
    try:
        return None if tree is None or names(tree) else numerics.is_near(tree, number)
    except (NotAFormulaError, OutOfBudgetError, RecursionError):
        return None


@dataclass(frozen=True)
class Relation:
    """Formulas with signs of relation between them."""

    sides: tuple[str, ...]
    signs: tuple[str, ...]
    """``=``, ``!=``, ``<``, ``>``, ``<=`` or ``>=``; one fewer than there are sides."""


def read_relation(text: str) -> Relation | None:
    """An equation or inequality, also a chain of them, or None where there is no sign of relation."""
    parts = _SIGN.split(text)
    sides, signs = parts[::2], parts[1::2]
    if not signs or any(not side.strip() for side in sides) or len(signs) > 6:
        return None
    return Relation(
        tuple(side.strip() for side in sides), tuple("=" if sign == "==" else _SAME_SIGN[sign] for sign in signs)
    )


def equal_relation(expected: Relation, answer: Relation) -> bool:
    """Whether the two say the same of their variables.

    What is solved for a variable must be solved for it in the answer too; other equations and inequalities are equal
    up to a factor.
    """
    if len(expected.signs) != len(answer.signs):
        return False
    if len(expected.signs) == 2:
        turned = Relation(answer.sides[::-1], tuple(TURNED[sign] for sign in answer.signs[::-1]))
        return any(
            expected.signs == way.signs and all(map(equal_formula, expected.sides, way.sides))
            for way in (answer, turned)
        )
    if len(expected.signs) != 1:
        return False
    wanted, given = solved(expected), solved(answer)
    if wanted is not None:
        return given is not None and wanted[:2] == given[:2] and equal_formula(wanted[2], given[2], finished=False)
    return _is_proportional(expected, answer)


def solved(relation: Relation) -> tuple[str, str, str] | None:
    """Variable, sign and value of ``x = 3``, ``3 < x``, ``y = 2x + 1``."""
    for left, right, sign in (
        (*relation.sides, relation.signs[0]),
        (*relation.sides[::-1], TURNED[relation.signs[0]]),
    ):
        first, second = formula(left), formula(right)
        if first is not None and second is not None and first.kind in ("name", "call"):
            is_variable = first.kind == "name" or first.value in ("f", "g", "h")
            if (is_variable and not names(first) & names(second)) or (first.kind == "call" and is_variable):
                return f"{first}", sign, right
    return None


def _is_proportional(expected: Relation, answer: Relation) -> bool:
    try:
        algebra = Algebra()
        (sign, one), (other_sign, two) = (_difference(algebra, relation) for relation in (expected, answer))
        if sign != other_sign or not one or not two or set(one) != set(two):
            return False
        leading = max(one)
        factor = two[leading] / one[leading]
        if sign in ("<", "<=") and factor < 0:
            return False
        return all(two[monomial] == factor * value for monomial, value in one.items())
    except (NotAFormulaError, OutOfBudgetError, RecursionError):
        return False


def _difference(algebra: Algebra, relation: Relation) -> tuple[str, Polynomial]:
    """A sign, turned to ``<``, ``<=``, ``=`` or ``!=``, and the difference of the sides as a polynomial."""
    left, right = relation.sides
    sign = relation.signs[0]
    if sign in (">", ">="):
        left, right, sign = right, left, TURNED[sign]
    minus = algebra.times(algebra.number(Fraction(-1)), quotient_of(algebra, parse_formula(right)))
    found = algebra.plus(quotient_of(algebra, parse_formula(left)), minus)
    if len(found.below) != 1:
        raise NotAFormulaError("a fraction of sums")
    return sign, found.above


_BASES = {"binary": 2, "octal": 8, "hexadecimal": 16, "hex": 16}
_IN_BASE = re.compile(
    r"\(?(?P<digits>[0-9A-Fa-f]+)\)?(?:_(?:\{(?:\\text\s*\{)?(?P<braced>\w+)\}?\}|(?P<bare>\d+))"
    r"|\s*\(?(?:in\s+)?base[\s-](?P<said>\w+)\)?|\s+in\s+(?P<named>binary|octal|hexadecimal|hex))"
)
_PREFIX = re.compile(r"0(?P<kind>[bxo])(?P<digits>[0-9A-Fa-f]+)", re.IGNORECASE)


def read_in_base(text: str) -> tuple[str, int] | None:
    r"""Digits and base of ``1011_2``, ``(1011)_{2}``, ``1011 in base 2`` and ``0b1011``."""
    if (prefixed := _PREFIX.fullmatch(text)) is not None:
        digits, base = prefixed["digits"], {"b": 2, "o": 8, "x": 16}[prefixed["kind"].lower()]
    else:
        text = re.sub(r"^\\(?:text|mathrm)\s*\{(\w+)\}", r"\1", text)
        found = _IN_BASE.fullmatch(re.sub(r"\s*_\s*", "_", text))
        if found is None:
            return None
        said = (found["braced"] or found["bare"] or found["said"] or found["named"]).lower()
        digits, base = found["digits"], _BASES.get(said) or int((read_number(said) if len(said) < 10 else None) or 0)
    is_written_so = 2 <= base <= 16 and all(int(digit, 16) < base for digit in digits)
    return (digits.upper().lstrip("0") or "0", base) if is_written_so else None
