"""Compares formulas at random points, to more digits than the numbers in them have.

Used only where the exact comparison cannot tell equal formulas apart from different ones (`quotients.Algebra.is_soft`).
"""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

from pipeline.reasoning.answers.budget import spend
from pipeline.reasoning.answers.syntax import Node, NotAFormulaError, names

__all__ = ["agree", "is_near"]

DIGITS = 60
MOST_DIGITS = 600
LARGEST_ARGUMENT = 300


def agree(left: Node, right: Node) -> bool:
    """Whether the two have the same value wherever they are tried.

    Raises:
        NotAFormulaError: they cannot be worked out, or only at a cost beyond the bounds.
    """
    import mpmath

    variables = sorted(names(left) | names(right))
    draw = random.Random(f"{left}{right}")
    for attempt in range(3 if variables else 1):
        point = {name: Fraction(draw.randint(10**8, 3 * 10**8), 10**8) for name in variables}
        if attempt == 2:  # below zero the square root of x squared is not x
            point = {name: -value for name, value in point.items()}
        with mpmath.workdps(DIGITS):
            if not _agree_at(left, right, point, mpmath, is_real=attempt == 2):
                return False
    return True


def is_near(node: Node, number: Fraction) -> bool:
    """Whether a formula without names comes to `number`, give or take a twentieth of it.

    Raises:
        NotAFormulaError: it cannot be worked out.
    """
    import mpmath

    with mpmath.workdps(DIGITS):
        spend(5 * DIGITS)
        value = _Run({}, mpmath).value(node)
        return bool(abs(value - mpmath.mpf(number.numerator) / number.denominator) <= abs(value) / 20)


def _agree_at(left: Node, right: Node, point: dict[str, Fraction], mpmath: Any, *, is_real: bool) -> bool:
    """At one point; once more with more digits where a number in between is very large or small.

    Args:
        is_real: where neither is a real number, as roots below zero, which number it is does not count.
    """
    while True:
        spend(5 * mpmath.mp.dps)
        run = _Run(point, mpmath)
        first, second = run.value(left), run.value(right)
        wanted = DIGITS + 2 * run.widest
        if wanted > MOST_DIGITS:
            raise NotAFormulaError("too wide a range of numbers")
        if mpmath.mp.dps < wanted:
            mpmath.mp.dps = wanted
            continue
        if is_real and not _has_i(left) and not _has_i(right) and mpmath.im(first) and mpmath.im(second):
            return True
        scale = max(abs(first), abs(second), 1)
        return bool(abs(first - second) < scale * mpmath.mpf(10) ** (run.widest + 20 - mpmath.mp.dps))


def _has_i(node: Node) -> bool:
    return node == Node("constant", "i") or any(map(_has_i, node.children))


class _Run:
    def __init__(self, point: dict[str, Fraction], mpmath: Any) -> None:
        self.point, self.mpmath = point, mpmath
        self.widest = 0
        """Decimal digits of the largest and the smallest number met."""
        self.functions = {
            **{name: getattr(mpmath, name) for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh")},
            "tanh": mpmath.tanh, "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan, "ln": mpmath.ln,
            "log": mpmath.log10, "exp": mpmath.exp, "abs": abs,
        }  # fmt: skip

    def value(self, node: Node) -> Any:
        found = self._value(node)
        if not self.mpmath.isfinite(found):
            raise NotAFormulaError("no value")
        if found:
            self.widest = max(self.widest, int(abs(self.mpmath.mag(found)) * 0.302))
        if self.widest > MOST_DIGITS:
            raise NotAFormulaError("too large a number")
        return found

    def _value(self, node: Node) -> Any:
        mp = self.mpmath
        if node.kind in ("number", "name"):
            exact = Fraction(node.value) if node.kind == "number" else self.point[str(node.value)]
            return mp.mpf(exact.numerator) / exact.denominator
        if node.kind == "constant":
            if node.value == "infinity":
                raise NotAFormulaError("infinity is no number")
            return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1)}[str(node.value)]
        parts = [self.value(child) for child in node.children]
        try:
            return self._combined(node, parts)
        except (ZeroDivisionError, ValueError, OverflowError, TypeError):
            raise NotAFormulaError("no value") from None

    def _combined(self, node: Node, parts: list[Any]) -> Any:
        mp = self.mpmath
        if node.kind == "sum":
            return sum(parts[1:], parts[0])
        if node.kind == "product":
            return mp.fprod(parts)
        if node.kind == "power":
            base, exponent = parts
            if base and abs(exponent) * (abs(mp.mag(base)) + 1) > 2000:
                raise NotAFormulaError("too large a power")
            return self._power(base, exponent, node.children[1])
        if node.value == "log_base":
            return mp.ln(parts[0]) / mp.ln(parts[1])
        function = self.functions.get(str(node.value))
        if function is None or (abs(parts[0]) > LARGEST_ARGUMENT and node.value not in ("ln", "log", "abs")):
            raise NotAFormulaError(f"{node.value} is not worked out")
        return function(parts[0])

    def _power(self, base: Any, exponent: Any, written: Node) -> Any:
        """The real root of a negative number where its degree is odd."""
        mp = self.mpmath
        if written.kind == "number" and mp.im(base) == 0 and mp.re(base) < 0:
            exact = Fraction(written.value)
            if exact.denominator % 2 and exact.denominator > 1:
                root = -mp.power(-base, mp.mpf(1) / exact.denominator)
                return root**exact.numerator
        return mp.power(base, exponent)
