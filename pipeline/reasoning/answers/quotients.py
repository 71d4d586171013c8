"""Exact arithmetic of quotients of two polynomials with rational coefficients, in bounded work.

Their indeterminates ("atoms") are names, primes under roots, pi, e, i, powers with symbolic exponents, and functions.
Roots of primes, pi and e are independent over the rationals, so two quotients of these are equal if and only if their
cross products are the same polynomial. Functions and roots of sums are "soft": polynomials in them may be equal
without being the same.
"""

from __future__ import annotations

from fractions import Fraction

from pipeline.reasoning.answers.budget import spend
from pipeline.reasoning.answers.syntax import NotAFormulaError

__all__ = ["Algebra", "Polynomial", "Quotient", "quotient_key"]

MOST_TERMS = 400
MOST_BITS = 4_000
LARGEST_POWER = 40
SMALL_PRIMES = 100_000

Monomial = tuple[tuple[str, Fraction], ...]
Polynomial = dict[Monomial, Fraction]

ONE: Monomial = ()


class Quotient:
    """One polynomial over another."""

    def __init__(self, above: Polynomial, below: Polynomial) -> None:
        self.above, self.below = above, below

    def rational(self) -> Fraction | None:
        """The number that it is, or None."""
        if not self.above:
            return Fraction(0)
        if set(self.above) == {ONE} and set(self.below) == {ONE}:
            return self.above[ONE] / self.below[ONE]
        return None


class Algebra:
    """Quotients of one comparison; its methods raise `NotAFormulaError` where the bounds are passed."""

    def __init__(self) -> None:
        self.soft: set[str] = set()
        """Atoms that other atoms may equal a combination of."""
        self.roots: dict[str, Polynomial] = {}
        """What atoms that are roots of sums are roots of."""
        self.cosines: dict[str, str] = {}
        """The cosine to each sine."""

    # --- polynomials

    def number(self, value: Fraction) -> Quotient:
        """A rational number."""
        return Quotient({ONE: value} if value else {}, {ONE: Fraction(1)})

    def atom(self, name: str, exponent: Fraction = Fraction(1)) -> Quotient:
        """A power of one atom."""
        return Quotient({((name, exponent),): Fraction(1)}, {ONE: Fraction(1)})

    def _add(self, left: Polynomial, right: Polynomial) -> Polynomial:
        spend(len(right))
        found = dict(left)
        for monomial, factor in right.items():
            total = found.get(monomial, Fraction(0)) + factor
            if total:
                found[monomial] = total
            else:
                found.pop(monomial, None)
        return found

    def _times(self, left: Polynomial, right: Polynomial) -> Polynomial:
        spend(2 + len(left) * len(right))
        found: Polynomial = {}
        for first, one in left.items():
            for second, other in right.items():
                factor = one * other
                if factor.numerator.bit_length() + factor.denominator.bit_length() > MOST_BITS:
                    raise NotAFormulaError("too large a number")
                for monomial, more in self._reduced(_merged(first, second)).items():
                    total = found.get(monomial, Fraction(0)) + factor * more
                    if total:
                        found[monomial] = total
                    else:
                        found.pop(monomial, None)
        if len(found) > MOST_TERMS:
            raise NotAFormulaError("too many terms")
        return found

    def _reduced(self, monomial: Monomial) -> Polynomial:
        """A product of atoms with the relations between them applied: roots of primes, i * i, sines, roots of sums."""
        factor = Fraction(1)
        kept: list[tuple[str, Fraction]] = []
        others: list[Polynomial] = []
        for name, exponent in monomial:
            whole = exponent.numerator // exponent.denominator
            if name.startswith("#prime ") and whole:
                if abs(whole) > MOST_BITS:
                    raise NotAFormulaError("too large a number")
                factor *= Fraction(int(name[7:])) ** whole
                exponent -= whole
            elif name == "#i" and exponent.denominator == 1:
                factor *= -1 if exponent % 4 in (2, 3) else 1
                exponent = exponent % 2
            elif name in self.cosines and exponent >= 2 and exponent.denominator == 1:
                square = {ONE: Fraction(1), ((self.cosines[name], Fraction(2)),): Fraction(-1)}
                others += [square] * min(LARGEST_POWER, int(exponent // 2))
                exponent -= 2 * min(LARGEST_POWER, int(exponent // 2))
            elif name in self.roots and whole > 0:
                if whole > LARGEST_POWER:
                    raise NotAFormulaError("too large a power")
                others += [self.roots[name]] * whole
                exponent -= whole
            if exponent:
                kept.append((name, exponent))
        found: Polynomial = {tuple(kept): factor}
        for other in others:
            found = self._times(found, other)
        return found

    # --- quotients

    def plus(self, left: Quotient, right: Quotient) -> Quotient:
        """The sum."""
        if left.below == right.below:
            return self._quotient(self._add(left.above, right.above), left.below)
        above = self._add(self._times(left.above, right.below), self._times(right.above, left.below))
        return self._quotient(above, self._times(left.below, right.below))

    def times(self, left: Quotient, right: Quotient) -> Quotient:
        """The product."""
        return self._quotient(self._times(left.above, right.above), self._times(left.below, right.below))

    def inverse(self, value: Quotient) -> Quotient:
        """One over it."""
        if not value.above:
            raise NotAFormulaError("division by zero")
        return self._quotient(value.below, value.above)

    def _quotient(self, above: Polynomial, below: Polynomial) -> Quotient:
        """With a denominator of 1 where it has one term."""
        if not below:
            raise NotAFormulaError("division by zero")
        if set(below) == {ONE} and below[ONE] == 1:
            return Quotient(above, below)
        if len(below) == 1:
            ((monomial, factor),) = below.items()
            inverse = tuple((name, -exponent) for name, exponent in monomial)
            return Quotient(self._times(above, {inverse: 1 / factor}), {ONE: Fraction(1)})
        leading = below[max(below)]
        if leading == 1:
            return Quotient(above, below)
        return Quotient(self._times(above, {ONE: 1 / leading}), self._times(below, {ONE: 1 / leading}))

    def equal(self, left: Quotient, right: Quotient) -> bool:
        """Whether the cross products are the same polynomial."""
        first, second = self._times(left.above, right.below), self._times(right.above, left.below)
        return not self._add(first, {monomial: -factor for monomial, factor in second.items()})

    def is_soft(self) -> bool:
        """Whether a difference of polynomials may be zero all the same."""
        return bool(self.soft)

    def power(self, base: Quotient, exponent: Quotient) -> Quotient:
        """The power, with roots of numbers taken apart into roots of primes."""
        number = exponent.rational()
        if number is None:
            return self._symbolic_power(base, exponent)
        if number < 0:
            return self.power(self.inverse(base), self.number(-number))
        if number.denominator == 1:
            return self._whole_power(base, int(number))
        if number.numerator > LARGEST_POWER * number.denominator or number.denominator > 1000:
            raise NotAFormulaError("too large a power")
        above, below = self._root(base.above, number), self._root(base.below, number)
        return self.times(above, self.inverse(below))

    def _whole_power(self, base: Quotient, exponent: int) -> Quotient:
        if len(base.above) == 1 and set(base.below) == {ONE}:
            ((monomial, factor),) = base.above.items()
            bits = max(abs(factor.numerator), factor.denominator).bit_length()
            if (bits if abs(factor) != 1 else 0) * exponent > MOST_BITS or exponent > 10**6:
                raise NotAFormulaError("too large a number")
            if exponent > LARGEST_POWER and any(name in self.roots for name, _ in monomial):
                raise NotAFormulaError("too large a power")
            raised = tuple((name, power * exponent) for name, power in monomial)
            reduced = self._reduced(raised)
            return self._quotient(self._times(reduced, {ONE: factor**exponent}), {ONE: Fraction(1)})
        if exponent > LARGEST_POWER:
            raise NotAFormulaError("too large a power")
        found = self.number(Fraction(1))
        for _ in range(exponent):
            found = self.times(found, base)
        return found

    def _root(self, inner: Polynomial, exponent: Fraction) -> Quotient:
        """A fractional power of a polynomial."""
        if not inner:
            return self.number(Fraction(0))
        content = _content(inner)
        rest = self._times(inner, {ONE: 1 / content})
        found = self._root_of_number(content, exponent)
        if set(rest) == {ONE}:
            return found
        if len(rest) == 1:
            ((monomial, _),) = rest.items()
            if all(power == 1 or name in ("#pi", "#e") or name.startswith("#prime") for name, power in monomial) and (
                "#i" not in [name for name, _ in monomial]
            ):
                if any(not name.startswith("#") for name, _ in monomial) and len(monomial) > 1:
                    self.soft.update(name for name, _ in monomial)
                raised = tuple((name, power * exponent) for name, power in monomial)
                return self.times(found, Quotient(self._reduced(raised), {ONE: Fraction(1)}))
        name = f"({key(rest)})"
        self.roots[name] = rest
        self.soft.add(name)
        return self.times(found, Quotient(self._reduced(((name, exponent),)), {ONE: Fraction(1)}))

    def _root_of_number(self, number: Fraction, exponent: Fraction) -> Quotient:
        found = self.number(Fraction(1))
        if number < 0:
            if exponent.denominator % 2:  # the real root
                found = self.number(Fraction(-1 if exponent.numerator % 2 else 1))
            elif exponent.denominator == 2:
                found = self._whole_power(self.atom("#i"), exponent.numerator % 4)
            else:
                raise NotAFormulaError("an even root of a negative number")
            number = -number
        for whole, power in ((number.numerator, exponent), (number.denominator, -exponent)):
            for prime, count in self.factors(whole):
                reduced = self._reduced(((f"#prime {prime}", power * count),))
                found = self.times(found, Quotient(reduced, {ONE: Fraction(1)}))
        return found

    def factors(self, number: int) -> list[tuple[int, int]]:
        """Its primes and how often each divides it; what is left beyond `SMALL_PRIMES` counts as one, softly."""
        found = []
        candidate = 2
        while candidate * candidate <= number and candidate < SMALL_PRIMES:
            count = 0
            while number % candidate == 0:
                number //= candidate
                count += 1
            if count:
                found.append((candidate, count))
            candidate += 1 if candidate == 2 else 2
        spend(candidate // 100)
        if number > 1:
            found.append((number, 1))
            if number > SMALL_PRIMES**2:
                self.soft.add(f"#prime {number}")
        return found

    def _symbolic_power(self, base: Quotient, exponent: Quotient) -> Quotient:
        """A power whose exponent holds names: one atom per base and term of the exponent."""
        found = self.number(Fraction(1))
        if set(exponent.below) != {ONE}:
            atom = f"pow({quotient_key(base)};{quotient_key(exponent)})"
            self.soft.add(atom)
            return self.atom(atom)
        for monomial, factor in exponent.above.items():
            if monomial == ONE:
                found = self.times(found, self.power(base, self.number(factor)))
                continue
            for name, times in self._bases(base):
                atom = f"{name}^[{key({monomial: Fraction(1)})}]"
                self.soft.add(atom)
                found = self.times(found, self.atom(atom, factor * times))
        return found

    def _bases(self, base: Quotient) -> list[tuple[str, Fraction]]:
        number = base.rational()
        if number is not None and number > 0:
            above = [(f"#{prime}", Fraction(count)) for prime, count in self.factors(number.numerator)]
            return above + [(f"#{prime}", Fraction(-count)) for prime, count in self.factors(number.denominator)]
        if number == 0:
            raise NotAFormulaError("a power of zero")
        return [(f"({quotient_key(base)})", Fraction(1))]


def _merged(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    exponents = dict(left)
    for name, exponent in right:
        exponents[name] = exponents.get(name, Fraction(0)) + exponent
    return tuple(sorted((name, exponent) for name, exponent in exponents.items() if exponent))


def _content(polynomial: Polynomial) -> Fraction:
    """The rational factor that leaves whole coefficients without a common divisor, the leading one positive."""
    from math import gcd, lcm

    above = gcd(*(factor.numerator for factor in polynomial.values()))
    below = lcm(*(factor.denominator for factor in polynomial.values()))
    leading = polynomial[max(polynomial)]
    if len(polynomial) > 1:
        return Fraction(above, below)  # the sign stays inside: which root is meant is not decided here
    return Fraction(above, below) * (-1 if leading < 0 else 1)


def key(polynomial: Polynomial) -> str:
    """A text that is the same for the same polynomial only."""
    return "+".join(f"{factor}*{monomial_key(monomial)}" for monomial, factor in sorted(polynomial.items()))


def monomial_key(monomial: Monomial) -> str:
    """A text that is the same for the same monomial only."""
    return "*".join(f"{name}^{exponent}" for name, exponent in monomial)


def quotient_key(value: Quotient) -> str:
    """A text that is the same for the same quotient, as it is written."""
    text = f"{key(value.above)}/{key(value.below)}"
    if len(text) > 4000:
        raise NotAFormulaError("too long")
    return text
