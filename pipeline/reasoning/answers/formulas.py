r"""Compares formulas and what is built of them: equations, inequalities, intervals, matrices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pipeline.reasoning.answers import numerics
from pipeline.reasoning.answers.algebra import quotient_of
from pipeline.reasoning.answers.budget import OutOfBudgetError
from pipeline.reasoning.answers.quotients import Algebra, Polynomial
from pipeline.reasoning.answers.splitting import split_outside
from pipeline.reasoning.answers.syntax import Node, NotAFormulaError, is_unfinished, names, parse_formula

__all__ = [
    "Relation",
    "equal_formula",
    "equal_intervals",
    "equal_matrix",
    "equal_relation",
    "formula",
    "read_in_base",
    "read_intervals",
    "read_matrix",
    "read_relation",
    "value_of",
]

_SAME_SIGN = {
    "<=": "<=", "\\leqslant": "<=", "\\leq": "<=", "\\le": "<=", ">=": ">=", "\\geqslant": ">=", "\\geq": ">=",
    "\\ge": ">=", "!=": "!=", "\\neq": "!=", "\\ne": "!=", "\\lt": "<", "\\gt": ">", "<": "<", ">": ">", "=": "=",
}  # fmt: skip
_SIGN = re.compile(r"\s*(<=|>=|!=|\\(?:leqslant|leq|le|geqslant|geq|ge|neq|ne|lt|gt)(?![A-Za-z])|==?|<|>)\s*")
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_MATRIX = re.compile(r"\\begin\{([pbBvV]?)matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
_INTERVAL = re.compile(r"([\[(])(.+)([\])])", re.DOTALL)
_REALS = ("\\mathbb{R}", "\\mathbb R", "\\R", "\\Bbb{R}", "all real numbers")


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
        turned = Relation(answer.sides[::-1], tuple(_TURNED[sign] for sign in answer.signs[::-1]))
        return any(
            expected.signs == way.signs and all(map(equal_formula, expected.sides, way.sides))
            for way in (answer, turned)
        )
    if len(expected.signs) != 1:
        return False
    wanted, given = _solved(expected), _solved(answer)
    if wanted is not None:
        return given is not None and wanted[:2] == given[:2] and equal_formula(wanted[2], given[2], finished=False)
    return _is_proportional(expected, answer)


def _solved(relation: Relation) -> tuple[str, str, str] | None:
    """Variable, sign and value of ``x = 3``, ``3 < x``, ``y = 2x + 1``."""
    for left, right, sign in (
        (*relation.sides, relation.signs[0]),
        (*relation.sides[::-1], _TURNED[relation.signs[0]]),
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
        left, right, sign = right, left, _TURNED[sign]
    minus = algebra.times(algebra.number(Fraction(-1)), quotient_of(algebra, parse_formula(right)))
    found = algebra.plus(quotient_of(algebra, parse_formula(left)), minus)
    if len(found.below) != 1:
        raise NotAFormulaError("a fraction of sums")
    return sign, found.above


def read_in_base(text: str) -> tuple[str, str] | None:
    r"""Digits and base of ``1011_2`` and ``(1011)_{2}``."""
    found = re.fullmatch(r"\(?(\d+)\)?_(?:\{(?:\\text\s*\{)?(\w+)\}?\}|(\d+))", text.replace(" ", ""))
    if found is None:
        return None
    base = found[2] or found[3]
    return found[1], {"two": "2", "eight": "8", "ten": "10", "sixteen": "16"}.get(base, base)


# --- intervals


Interval = tuple[str, str, str, str]
"""Opening bracket, lower end, upper end, closing bracket."""


def read_intervals(text: str) -> tuple[Interval, ...] | None:
    """A union of intervals, written with brackets or as inequalities of one variable, or None."""
    text = re.sub(r"^\s*[A-Za-z]\s*\\in(?![A-Za-z])\s*", "", text).strip()
    if text in _REALS:
        return (("(", "-\\infty", "\\infty", ")"),)
    found = []
    for piece in re.split(r"\\cup(?![A-Za-z])|\\text\s*\{\s*or\s*\}|\bor\b|(?<=[\])])\s*U\s*(?=[\[(])", text):
        interval = _bracketed(piece.strip()) or _bounded(piece.strip())
        if interval is None:
            return None
        found.append(interval)
    return tuple(found)


def _bracketed(text: str) -> Interval | None:
    found = _INTERVAL.fullmatch(text)
    ends = [] if found is None else [part.strip() for part in split_outside(found[2], ",;")]
    if found is None or len(ends) != 2 or formula(ends[0]) is None or formula(ends[1].removeprefix("+")) is None:
        return None
    return (found[1], ends[0], ends[1].removeprefix("+"), found[3])


def _bounded(text: str) -> Interval | None:
    """``1 <= x < 2`` and ``x > 3`` as intervals."""
    relation = read_relation(text)
    if relation is None or "=" in relation.signs or "!=" in relation.signs:
        return None
    sides, signs = relation.sides, relation.signs
    if len(signs) == 2 and re.fullmatch(r"[A-Za-z]|\\[a-z]+", sides[1]):
        if signs[0][0] == signs[1][0] == ">":
            sides, signs = sides[::-1], tuple(_TURNED[sign] for sign in signs[::-1])
        if signs[0][0] == signs[1][0] == "<":
            return ("[" if signs[0] == "<=" else "(", sides[0], sides[2], "]" if signs[1] == "<=" else ")")
    if len(signs) == 1:
        solved = _solved(relation)
        tree = None if solved is None else formula(solved[2])
        if solved is not None and tree is not None and not names(tree):
            if solved[1][0] == ">":
                return ("[" if solved[1] == ">=" else "(", solved[2], "\\infty", ")")
            return ("(", "-\\infty", solved[2], "]" if solved[1] == "<=" else ")")
    return None


def equal_intervals(expected: tuple[Interval, ...], answer: tuple[Interval, ...]) -> bool:
    """Whether the two unions have the same intervals, in any order."""
    left = list(answer)
    for first in expected:
        place = next((place for place, second in enumerate(left) if _equal_interval(first, second)), None)
        if place is None:
            return False
        del left[place]
    return not left


def _equal_interval(first: Interval, second: Interval) -> bool:
    return (first[0], first[3]) == (second[0], second[3]) and all(map(equal_formula, first[1:3], second[1:3]))


# --- matrices


Matrix = tuple[str, tuple[tuple[str, ...], ...]]
"""``|`` for a determinant, ``||`` for a norm, else nothing; and the rows."""


def read_matrix(text: str) -> Matrix | None:
    """A matrix in LaTeX or as nested lists, or None."""
    found = _MATRIX.fullmatch(text.strip())
    if found is not None:
        lines = [line for line in re.split(r"\\\\(?:\[[^\]]*\])?", found[2]) if line.strip()]
        rows = tuple(tuple(cell.strip() for cell in line.split("&")) for line in lines)
        return {"v": "|", "V": "||"}.get(found[1], ""), rows
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]") and "[" in text[1:]):
        return None
    lines = [line.strip() for line in split_outside(text[1:-1], ",;")]
    if not all(line.startswith("[") and line.endswith("]") for line in lines):
        return None
    return "", tuple(tuple(cell.strip() for cell in split_outside(line[1:-1], ",")) for line in lines)


def equal_matrix(expected: Matrix, answer: Matrix) -> bool:
    """Whether the two have the same kind, shape and entries."""
    if expected[0] != answer[0] or [len(row) for row in expected[1]] != [len(row) for row in answer[1]]:
        return False
    pairs = [pair for rows in zip(expected[1], answer[1], strict=True) for pair in zip(*rows, strict=True)]
    return len(pairs) <= 100 and all(equal_formula(first, second) for first, second in pairs)
