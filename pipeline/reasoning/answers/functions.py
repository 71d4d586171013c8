"""Functions whose values are known exactly: sines of round angles, logarithms of rational numbers, factorials."""

from __future__ import annotations

from fractions import Fraction
from math import comb, factorial

from pipeline.reasoning.answers.quotients import Algebra, Quotient, quotient_key
from pipeline.reasoning.answers.syntax import NotAFormulaError

__all__ = ["call"]

LARGEST_FACTORIAL = 300
LARGEST_BINOMIAL = 1000
MOST_CHOSEN = 8
"""Of a number that is no more than a name."""
_PI = (("#pi", Fraction(1)),)
_SINES = {
    Fraction(0): (Fraction(0), 1), Fraction(1, 6): (Fraction(1, 2), 1), Fraction(1, 4): (Fraction(1, 2), 2),
    Fraction(1, 3): (Fraction(1, 2), 3), Fraction(1, 2): (Fraction(1), 1),
}  # fmt: skip
"""By the share of pi between 0 and a half: a rational factor, and the number under the root."""


def call(algebra: Algebra, name: str, parts: list[Quotient]) -> Quotient:
    """The value of the function `name`: exact where it is known to be, else an atom of its own.

    Raises:
        NotAFormulaError: it has no value, or too large a one.
    """
    exact = _exact_value(algebra, name, parts)
    if exact is not None:
        return exact
    atom = f"{name}({';'.join(quotient_key(part) for part in parts)})"
    algebra.soft.add(atom)
    return algebra.atom(atom)


def _exact_value(algebra: Algebra, name: str, parts: list[Quotient]) -> Quotient | None:
    """The value where it is known exactly.

    Raises:
        NotAFormulaError: it has no value, or too large a one.
    """
    first = parts[0]
    number = first.rational()
    match name:
        case "factorial" | "floor" | "ceil" | "abs" | "binomial":
            return _arithmetic(algebra, name, parts)
        case "exp":
            return algebra.power(algebra.atom("#e"), first)
        case "ln" if number is not None:
            return _logarithm(algebra, number)
        case "ln":
            return _logarithm_of_power(algebra, first)
        case "log":
            return _in_base(algebra, first, algebra.number(Fraction(10)))
        case "log_base":
            return _in_base(algebra, first, parts[1])
        case "tan":
            return _over(algebra, _sine(algebra, first), _cosine(algebra, first))
        case "cot":
            return _over(algebra, _cosine(algebra, first), _sine(algebra, first))
        case "sec":
            return algebra.inverse(_cosine(algebra, first))
        case "csc":
            return algebra.inverse(_sine(algebra, first))
        case "sin":
            return _sine(algebra, first)
        case "cos":
            return _cosine(algebra, first)
    return None


def _over(algebra: Algebra, above: Quotient, below: Quotient) -> Quotient:
    return algebra.times(above, algebra.inverse(below))


def _arithmetic(algebra: Algebra, name: str, parts: list[Quotient]) -> Quotient | None:
    numbers = [part.rational() for part in parts]
    if name == "binomial" and numbers[0] is None and numbers[1] in range(MOST_CHOSEN + 1):
        return _falling(algebra, parts[0], int(numbers[1] or 0))
    if any(number is None for number in numbers):
        return None
    first, *rest = [number for number in numbers if number is not None]
    if name == "abs":
        return algebra.number(abs(first))
    if name in ("floor", "ceil"):
        return algebra.number(Fraction(first.__floor__() if name == "floor" else first.__ceil__()))
    if any(number.denominator != 1 or number < 0 for number in (first, *rest)):
        raise NotAFormulaError(f"no {name} of it")
    if first > (LARGEST_FACTORIAL if name == "factorial" else LARGEST_BINOMIAL):
        raise NotAFormulaError(f"too large a {name}")
    return algebra.number(Fraction(factorial(int(first)) if name == "factorial" else comb(int(first), int(rest[0]))))


def _falling(algebra: Algebra, value: Quotient, count: int) -> Quotient:
    """``n (n - 1) ... / count!``: a binomial coefficient as a polynomial."""
    found = algebra.number(Fraction(1, factorial(count)))
    for less in range(count):
        found = algebra.times(found, algebra.plus(value, algebra.number(Fraction(-less))))
    return found


def _logarithm(algebra: Algebra, number: Fraction) -> Quotient:
    """The natural logarithm of a rational number as a sum of those of primes."""
    if number <= 0:
        raise NotAFormulaError("a logarithm of no positive number")
    found = algebra.number(Fraction(0))
    for whole, sign in ((number.numerator, 1), (number.denominator, -1)):
        for prime, count in algebra.factors(whole):
            term = algebra.times(algebra.number(Fraction(sign * count)), algebra.atom(f"ln {prime}"))
            found = algebra.plus(found, term)
    return found


def _logarithm_of_power(algebra: Algebra, value: Quotient) -> Quotient | None:
    """``ln e^3``, ``ln sqrt 2``: a rational number times powers of e and of primes."""
    if len(value.above) != 1 or len(value.below) != 1:
        return None
    ((monomial, factor),) = value.above.items()
    if factor <= 0 or any(name != "#e" and not name.startswith("#prime ") for name, _ in monomial):
        return None
    found = _logarithm(algebra, factor)
    for name, exponent in monomial:
        of_name = algebra.number(Fraction(1)) if name == "#e" else _logarithm(algebra, Fraction(int(name[7:])))
        found = algebra.plus(found, algebra.times(algebra.number(exponent), of_name))
    return found


def _in_base(algebra: Algebra, value: Quotient, base: Quotient) -> Quotient:
    return _over(algebra, call(algebra, "ln", [value]), call(algebra, "ln", [base]))


def _share_of_pi(value: Quotient) -> Fraction | None:
    """The argument as a multiple of pi."""
    if not value.above:
        return Fraction(0)
    if set(value.above) != {_PI} or len(value.below) != 1 or () not in value.below:
        return None
    return value.above[_PI] / value.below[()]


def _sine(algebra: Algebra, value: Quotient) -> Quotient:
    share = _share_of_pi(value)
    if share is not None:
        share %= 2
        sign = 1 if share < 1 else -1
        share %= 1
        share = min(share, 1 - share)
        if share in _SINES:
            factor, radicand = _SINES[share]
            root = algebra.power(algebra.number(Fraction(radicand)), algebra.number(Fraction(1, 2)))
            return algebra.times(algebra.number(sign * factor), root)
    return _trigonometric(algebra, "sin", value)


def _cosine(algebra: Algebra, value: Quotient) -> Quotient:
    share = _share_of_pi(value)
    if share is not None and min((share + Fraction(1, 2)) % 1, -(share + Fraction(1, 2)) % 1) in _SINES:
        shifted = algebra.times(algebra.number(share + Fraction(1, 2)), algebra.atom("#pi"))
        return _sine(algebra, shifted)
    return _trigonometric(algebra, "cos", value)


def _trigonometric(algebra: Algebra, name: str, value: Quotient) -> Quotient:
    """An atom; a negative argument is turned round, and the square of a sine is known by its cosine."""
    sign = 1
    if value.above and value.above[max(value.above)] < 0:
        value = algebra.times(algebra.number(Fraction(-1)), value)
        sign = -1 if name == "sin" else 1
    argument = quotient_key(value)
    algebra.soft |= {f"sin({argument})", f"cos({argument})"}
    algebra.cosines[f"sin({argument})"] = f"cos({argument})"
    return algebra.times(algebra.number(Fraction(sign)), algebra.atom(f"{name}({argument})"))
