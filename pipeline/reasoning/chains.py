"""Chains of thought, written by programs: the working of arithmetic as pupils do it, a digit at a time.

Answers are computed by the very steps that are written. The form is terse, one line per operation, because a small
model pays for every token; a digit, a carry and a borrow are each one token.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.sections import ReasoningTask

__all__ = ["KNOWN", "PROGRAMS", "WORKED", "write_addition", "write_expression", "write_product", "write_sum"]

KNOWN = 20
"""Sums and differences of a number up to this and one up to ten are known by heart, and written at once; of two digits
and a carry too. With fewer known, a carry has a step of its own."""


def _digits(number: int) -> list[int]:
    """Digits of a number >= 0 from the units on."""
    return [int(digit) for digit in reversed(str(number))]


def _by_digits(left: int, right: int, sign: int, known: int, *, padded: bool = False) -> str:
    """Steps of ``left + sign * right`` for left >= right >= 0, or in any order when `sign` is 1.

    ``47+38: 7+8=15, 4+3+1=8`` and ``52-38: 12-8=4, 5-3-1=1``: the carry comes last, a borrowed ten first. Where fewer
    than `KNOWN` are known, ``4+3=7, 7+1=8``: small models write the carry beside the digits and do not add it.
    `padded` writes each place of both numbers, in their order: ``7+24: 7+4=11, 0+2=2, 2+1=3``.
    """
    symbol = "+" if sign > 0 else "-"
    upper, lower = _digits(left), _digits(right)
    if padded:
        upper, lower = map(list, zip(*zip_longest(upper, lower, fillvalue=0), strict=True))
    elif len(lower) > len(upper):
        upper, lower = lower, upper
    steps, carry = [], 0
    for place, digit in enumerate(upper):
        others = [*lower[place : place + 1], *([1] if carry else [])]
        carry = (digit + sum(others)) // 10 if sign > 0 else int(digit < sum(others))
        if sign < 0:
            digit += 10 * carry
        groups = [others] if known >= KNOWN or not others else [[other] for other in others]
        for group in groups:
            result = digit + sign * sum(group)
            steps.append(f"{symbol.join(map(str, [digit, *group]))}={result}")
            digit = result
    return ", ".join(steps)


def write_addition(left: int, right: int, *, known: int = KNOWN, minus_zero: bool = False) -> tuple[str, int]:
    """One line that adds two numbers of any sign, and the sum: ``12-47=-(47-12): 7-2=5, 4-1=3, -35``.

    `known` is as `KNOWN`, and `minus_zero` writes a `right` of 0 as ``-0``, as the question did.
    """
    total = left + right
    problem = f"{left}-0" if minus_zero and not right else f"{left}{right:+d}"
    if max(abs(left), abs(right)) <= known and min(abs(left), abs(right)) <= 10:
        return f"{problem}={total}", total
    big, small = max(abs(left), abs(right)), min(abs(left), abs(right))
    if (left < 0) == (right < 0):
        steps = _by_digits(abs(left), abs(right), 1, known)
        rewritten = f"-({-left}+{-right})" if left < 0 else problem
    else:
        steps = _by_digits(big, small, -1, known)
        rewritten = f"{big}-{small}" if total >= 0 else f"-({big}-{small})"
    head = problem if rewritten == problem else f"{problem}={rewritten}"
    return f"{head}: {steps}, {total}", total


def write_sum(numbers: Sequence[int], known: int = KNOWN) -> tuple[list[str], int]:
    """Lines that add numbers >= 0 a digit at a time, each with what is still to be added, and the sum: ``35+84 +71:
    5+4=9, 3+8=11, 119``, then ``119 +71: 9+1=10, 1+7=8, 8+1=9, 1+0=1, 190``.

    A number of the question that is wanted only behind the working of others is what small models learn last to copy;
    here it stands behind the same token a line above, from the first line on. One form serves numbers of all lengths:
    no order to choose, and no digit that is missing or known by heart. `known` is as `KNOWN`.
    """
    total, *rest = numbers
    lines, gap = [], ""
    for place, number in enumerate(rest):
        waiting = " ".join(f"+{later}" for later in rest[place:])
        lines.append(f"{total}{gap}{waiting}: {_by_digits(total, number, 1, known, padded=True)}, {total + number}")
        total, gap = total + number, " "
    return lines, total


def write_product(left: int, right: int, known: int = KNOWN) -> tuple[list[str], int]:
    """Lines of a long multiplication, and the product: one partial product per digit of `right`, then their sum."""
    product = left * right
    if min(abs(left), abs(right)) < 10 and max(abs(left), abs(right)) < 100:
        return [f"{left}*{right}={product}"], product
    parts = [
        (abs(left) * digit * 10**place, digit * 10**place) for place, digit in enumerate(_digits(abs(right))) if digit
    ] or [(0, 0)]
    lines = [f"{abs(left)}*{factor}={part}" for part, factor in parts]
    total = parts[0][0]
    for part, _ in parts[1:]:
        line, total = write_addition(total, part, known=known)
        lines.append(line)
    if product < 0:
        lines.append(f"{left}*{right}=-{total}")
    return lines, product


def write_expression(expression: str, known: int = KNOWN, *, remaining: bool = False) -> tuple[list[str], int]:
    """Lines that work an expression of whole numbers out, inner parts first and from the left, and its value.

    `known` is as `KNOWN`; with `remaining` numbers that are only added are worked out by `write_sum`.

    ValueError for anything but numbers, parentheses and the four operations.
    """
    plain = expression.replace(" ", "")
    numbers = plain.split("+")
    if remaining and len(numbers) > 1 and all(map(str.isdecimal, numbers)):
        return write_sum([int(number) for number in numbers], known)
    return _write_node(ast.parse(plain, mode="eval").body, known)


def _write_node(node: ast.expr, known: int) -> tuple[list[str], int]:
    match node:
        case ast.Constant(value=int(number)):
            return [], number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            lines, number = _write_node(operand, known)
            return lines, -number
        case ast.BinOp(left=left, op=operation, right=right):
            lines, first = _write_node(left, known)
            more, second = _write_node(right, known)
            match operation:
                case ast.Add():
                    written, result = write_addition(first, second, known=known)
                case ast.Sub():
                    written, result = write_addition(first, -second, known=known, minus_zero=True)
                case ast.Mult():
                    product, result = write_product(first, second, known)
                    written = "\n".join(product)
                case ast.Div() if second:
                    result = first // second
                    written = f"{first}/{second}={result}"
                case _:
                    raise ValueError(f"cannot work {ast.unparse(node)} out")
            return [*lines, *more, written], result
    raise ValueError(f"cannot work {ast.unparse(node)} out")


def _expression(metadata: Mapping[str, Any], task: ReasoningTask) -> tuple[str, str]:
    lines, value = write_expression(metadata["expression"], task.known_sums, remaining=task.remaining)
    return "\n".join(lines), str(value)


def _gcd(metadata: Mapping[str, Any], task: ReasoningTask) -> tuple[str, str]:
    """Euclid's algorithm."""
    divisor, *rest = metadata["numbers"]
    lines = []
    for number in rest:
        left, right = max(divisor, number), min(divisor, number)
        while right:
            times, remainder = divmod(left, right)
            lines.append(f"{left}-{times}*{right}={remainder}")
            left, right = right, remainder
        divisor = left
    return "\n".join(lines), str(divisor)


def _spell_backward(metadata: Mapping[str, Any], task: ReasoningTask) -> tuple[str, str]:
    word = metadata["word"]
    return f"{' '.join(word)}\n{' '.join(reversed(word))}", word[::-1]


WORKED: Mapping[str, Callable[[Mapping[str, Any], ReasoningTask], tuple[str, str]]] = {
    "basic_arithmetic": _expression,
    "chain_sum": _expression,
    "gcd": _gcd,
    "products": _expression,
    "spell_backward": _spell_backward,
}
"""Data sets of `reasoning-gym` that are worked out here: (reasoning, answer) of an entry, by its metadata and how its
task is to be written."""


def _expression_program(metadata: Mapping[str, Any]) -> tuple[str, str]:
    expression = metadata["expression"]
    return expression, f"print({expression.replace('/', '//')})"


def _gcd_program(metadata: Mapping[str, Any]) -> tuple[str, str]:
    numbers = ", ".join(map(str, metadata["numbers"]))
    return f"gcd({numbers})", f"import math\nprint(math.gcd({numbers}))"


def _spell_program(metadata: Mapping[str, Any]) -> tuple[str, str]:
    return f"reverse {metadata['word']}", f"print({metadata['word']!r}[::-1])"


PROGRAMS: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "basic_arithmetic": _expression_program,
    "chain_sum": _expression_program,
    "gcd": _gcd_program,
    "products": _expression_program,
    "spell_backward": _spell_program,
}
"""Program of thought: (the plan, a program that prints the answer)."""
