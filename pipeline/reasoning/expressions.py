"""Reads expressions that nobody vouches for: numbers, operators and lists, never code.

Some scorers of reasoning-gym call `eval` or sympy's `parse_expr`, which is built on it, on the answer; `disarm` gives
them `evaluate` and `parse_expression` instead. Both look at the syntax tree of the NFKC form, in which a full-width
identifier is the identifier that Python takes it for, and refuse all that is no arithmetic.
"""

from __future__ import annotations

import ast
import builtins
import functools
import operator
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["disarm", "evaluate", "parse_expression"]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
}
_ARITHMETIC = re.compile(r"[\w\s.+\-*/%^(),]*")
_FUNCTIONS = frozenset(
    {
        "Abs", "Chi", "Ci", "Ei", "Float", "Integer", "Max", "Min", "Rational", "Shi", "Si", "acos", "acosh", "acot",
        "acoth", "acsc", "acsch", "asec", "asech", "asin", "asinh", "atan", "atan2", "atanh", "binomial", "cbrt",
        "ceiling", "cos", "cosh", "cot", "coth", "csc", "csch", "erf", "erfc", "erfi", "exp", "factorial", "floor",
        "gamma", "li", "ln", "log", "root", "sec", "sech", "sign", "sin", "sinh", "sqrt", "tan", "tanh",
    }
)  # fmt: skip
_CONSTANTS = frozenset({"pi", "E", "I", "oo"})


def evaluate(text: str, *scopes: object) -> Any:
    """The value of an expression of numbers, texts and collections; scopes are taken, as by `eval`, and not used.

    Raises:
        ValueError: it is something else.
        SyntaxError: it is no expression.
    """
    return _value(ast.parse(unicodedata.normalize("NFKC", text).strip(), mode="eval").body)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.BinOp():
            left, right = _value(node.left), _value(node.right)
            if all(isinstance(side, int | float | complex) for side in (left, right)):
                return _BINARY[type(node.op)](left, right)
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() | ast.Invert()):
            return _UNARY[type(node.op)](_value(node.operand))
        case ast.List():
            return [_value(item) for item in node.elts]
        case ast.Tuple():
            return tuple(_value(item) for item in node.elts)
        case ast.Set():
            return {_value(item) for item in node.elts}
        case ast.Dict():
            return {_value(key): _value(item) for key, item in zip(node.keys, node.values, strict=True) if key}
    raise ValueError(f"{type(node).__name__} is no number, text or collection")


def parse_expression(
    text: str, local_dict: Mapping[str, Any] | None = None, *parameters: Any, evaluate: bool = True, **options: Any
) -> Any:
    """`sympy.parse_expr` of an expression of numbers, symbols and elementary functions.

    Raises:
        ValueError: it is something else.
        SyntaxError: it is no expression.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    if "\n" in text or not _ARITHMETIC.fullmatch(text):
        raise ValueError("characters that arithmetic does not have")
    _check(ast.parse(text, mode="eval").body, frozenset(local_dict or ()))
    return _sympy_parse_expr()(text, dict(local_dict or {}), *parameters, evaluate=evaluate, **options)


@functools.cache
def _sympy_parse_expr() -> Callable[..., Any]:
    """sympy's own function, which is looked up once, before `disarm` puts another in its place."""
    from sympy.parsing.sympy_parser import parse_expr

    return parse_expr


@functools.cache
def _taken_names() -> frozenset[str]:
    """Names that mean something to sympy or Python, and so are no symbols."""
    import sympy

    return frozenset(dir(sympy)) | frozenset(dir(builtins))


def _check(node: ast.expr, known: frozenset[str]) -> None:
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.FloorDiv() | ast.Mod() | ast.Pow()):
            _check(node.left, known)
            _check(node.right, known)
            return
        case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
            return _check(node.operand, known)
        case ast.Name():
            if node.id in known or node.id in _CONSTANTS or not (node.id[0] == "_" or node.id in _taken_names()):
                return
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            for argument in node.args:
                _check(argument, known)
            return
    raise ValueError(f"{ast.unparse(node)[:40]!r} is no arithmetic")


def _refuse(*_: object, **__: object) -> None:
    raise ValueError("code is not run here")


def disarm() -> None:
    """Take `eval`, `exec` and `compile` from the scorers that are loaded, and sympy's `parse_expr` from everybody."""
    original = _sympy_parse_expr()
    _taken_names()
    for name, module in list(sys.modules.items()):
        names = vars(module)
        if name.split(".")[0] == "reasoning_gym":
            names |= {"eval": evaluate, "exec": _refuse, "compile": _refuse}
        for key in [key for key, value in names.items() if value is original]:
            names[key] = parse_expression
