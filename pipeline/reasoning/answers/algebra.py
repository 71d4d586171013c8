"""What a formula's tree comes to: a quotient of polynomials."""

from __future__ import annotations

from fractions import Fraction

from pipeline.reasoning.answers.budget import spend
from pipeline.reasoning.answers.functions import call
from pipeline.reasoning.answers.quotients import Algebra, Quotient
from pipeline.reasoning.answers.syntax import Node, NotAFormulaError

__all__ = ["quotient_of"]


def quotient_of(algebra: Algebra, node: Node) -> Quotient:
    """The quotient of a formula.

    Raises:
        NotAFormulaError: it has no value, or too large a one.
        OutOfBudgetError: there is no work left for it (`budget`).
    """
    spend(1)
    if node.kind == "number":
        return algebra.number(Fraction(node.value))
    if node.kind == "name":
        return algebra.atom(str(node.value))
    if node.kind == "constant":
        return algebra.atom(f"#{node.value}")
    parts = [quotient_of(algebra, child) for child in node.children]
    if node.kind != "product":
        _refuse_infinity(parts)
    if node.kind == "power":
        return algebra.power(parts[0], parts[1])
    if node.kind == "call":
        return call(algebra, str(node.value), parts)
    found = parts[0]
    for part in parts[1:]:
        found = algebra.plus(found, part) if node.kind == "sum" else algebra.times(found, part)
    return found


def _refuse_infinity(parts: list[Quotient]) -> None:
    """Infinity stands alone, with a sign, or not at all."""
    for part in parts:
        if any(name == "#infinity" for monomial in part.above for name, _ in monomial):
            raise NotAFormulaError("infinity is no number")
