r"""Parses one formula, in LaTeX or as it is typed, into a tree; nothing is ever evaluated as code.

Words are never algebra: a run of letters is a product only inside a formula (``2xy``), never in a word, a code or a
formula of chemistry (``Paris``, ``A1``, ``H2O``). Length, depth and the size of numbers have bounds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pipeline.reasoning.answers.budget import spend
from pipeline.reasoning.answers.numbers import LONGEST_EXPONENT
from pipeline.reasoning.answers.splitting import word_set

__all__ = ["Node", "NotAFormulaError", "is_unfinished", "names", "parse_formula"]

LONGEST_FORMULA = 600
MOST_TOKENS = 300
DEEPEST = 30
LONGEST_NUMERAL = 300


class NotAFormulaError(ValueError):
    """The text is no formula, or too large a one to be worked out."""


@dataclass(frozen=True)
class Node:
    """One node of the tree."""

    kind: str
    """number, name, constant (pi, e, i, infinity), sum, product, power, or call."""
    value: Fraction | str = ""
    """Of a number, a name or a constant; the function's name of a call."""
    children: tuple[Node, ...] = ()


TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc")
FUNCTIONS = word_set(
    "sin cos tan cot sec csc tg ctg cosec arctg "
    "arcsin arccos arctan asin acos atan sinh cosh tanh ln lg log exp abs sqrt cbrt floor ceil"
)
_RENAMED = {
    "lg": "log", "tg": "tan", "ctg": "cot", "cosec": "csc", "arctg": "arctan",
    "asin": "arcsin", "acos": "arccos", "atan": "arctan",
}  # fmt: skip
_CONSTANTS = {
    "pi": "pi",
    "infty": "infinity",
    "infinity": "infinity",
    "Infinity": "infinity",
    "inf": "infinity",
    "oo": "infinity",
}
_GREEK = word_set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma "
    "tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar"
)
_IGNORED = frozenset(("left", "right", "displaystyle", "limits", "big", "Big", "bigl", "bigr", "quad", "qquad"))
_STYLES = frozenset(("text", "mathrm", "operatorname", "mathbf", "mathit", "mbox", "boldsymbol", "bm", "mathcal"))
_ACCENTS = frozenset(("vec", "hat", "bar", "tilde", "overline", "overrightarrow", "widehat"))
_WORDS = word_set(
    "of or and is to in at by no not the an as be if it on so up we he me my us do go st nd rd th am pm yes "
    "one two six ten sum max min mod gcd lcm for are was but any all off out per kg km cm mm ft lb oz hr mi ml "
    "mg sec day deg rad see red big old new hot cat dog men man sun sea sky car cup pen box bus"
)
_NO_FACTORS = ("\\choose", "\\cdot", "\\times", "\\div", "\\}", "\\%", "\\rvert", "\\rfloor", "\\rceil")
_COMBINATIONS = re.compile(
    r"(?<![A-Za-z\d\\])(?:C\((?P<n>\d+),\s*(?P<k>\d+)\)|(?:\{\}\s*)?[_^]?\{?(?P<m>\d+)\}?\s*C_?\{?(?P<j>\d+)\}?(?!\d)"
    r"|C_\{?(?P<l>\d+)\}?\^\{?(?P<i>\d+)\}?)"
)
r"""Binomial coefficients: ``C(8,3)``, ``8C3``, ``{}^8C_3``, and ``C_8^3`` as France and Russia write them."""
_TOKEN = re.compile(
    r"(?P<space>\s+|\\[,;:! ])|(?P<number>(?:\d+(?:\{,\}\d{3})*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+(?![A-Za-z\d]))?)"
    r"|(?P<command>\\[A-Za-z]+|\\[{}|%$])|(?P<word>[A-Za-z]+)|(?P<sign>\*\*|[-+*/^_!|(){}\[\]%'])"
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    spaced: bool
    """Whether white space stands before it."""


def parse_formula(text: str) -> Node:
    """The tree of one formula without relations and commas.

    Raises:
        NotAFormulaError: it is none, or beyond the bounds.
        OutOfBudgetError: there is no work left for it (`budget`).
    """
    if len(text) > LONGEST_FORMULA:
        raise NotAFormulaError("too long")
    spend(20 + len(text))
    parser = _Parser(_tokens(_COMBINATIONS.sub(r"\\binom{\g<n>\g<m>\g<l>}{\g<k>\g<j>\g<i>}", text)))
    found = parser.sum(0)
    if parser.place < len(parser.tokens):
        raise NotAFormulaError(f"unexpected {parser.tokens[parser.place].text}")
    return found


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    is_formula = re.search(r"[\d^\\]", text) is not None
    place, spaced = 0, False
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise NotAFormulaError(f"unexpected {text[place]}")
        place = match.end()
        kind = str(match.lastgroup)
        if kind == "space":
            spaced = spaced or match[0].isspace()
        elif kind == "word":
            if spaced and not is_formula and found and found[-1].kind == "word":
                raise NotAFormulaError("words")
            found += _letters(match[0], spaced, is_formula, text[place : place + 1])
            spaced = False
        elif kind == "command" and match[0][1:] in _IGNORED:
            continue
        else:
            found.append(_Token(kind, match[0], spaced))
            spaced = False
        if len(found) > MOST_TOKENS:
            raise NotAFormulaError("too many tokens")
    return found


def _letters(word: str, spaced: bool, is_formula: bool, after: str) -> list[_Token]:
    """A word as a function, a constant, or the letters of a product."""
    if word in FUNCTIONS or word in _CONSTANTS or word in _GREEK:
        return [_Token("command", "\\" + word, spaced)]
    if after.isdigit():
        raise NotAFormulaError(f"{word}{after} is a code")
    if len(word) > 1 and (len(word) > 3 or not word.islower() or not is_formula or word in _WORDS):
        raise NotAFormulaError(f"{word} is a word")
    return [_Token("word", letter, spaced and not place) for place, letter in enumerate(word)]


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.place = 0
        self.bars = 0

    def peek(self) -> str:
        return self.tokens[self.place].text if self.place < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.place].kind if self.place < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        """The next token, which must be one of `wanted` where there are any."""
        text = self.peek()
        if not text or (wanted and text not in wanted):
            raise NotAFormulaError(f"{text or 'the end'} where {' or '.join(wanted) or 'more'} is wanted")
        self.place += 1
        return text

    def sum(self, depth: int) -> Node:
        if depth > DEEPEST:
            raise NotAFormulaError("too deep")
        terms = [self.product(depth + 1)]
        while self.peek() in ("+", "-"):
            sign = self.take()
            term = self.product(depth + 1)
            terms.append(term if sign == "+" else _negative(term))
        return terms[0] if len(terms) == 1 else Node("sum", "", tuple(terms))

    def product(self, depth: int) -> Node:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        factors = [self.power(depth + 1)]
        while True:
            text = self.peek()
            if text in ("*", "\\cdot", "\\times"):
                self.take()
                factors.append(self._signed(depth))
            elif text in ("/", "\\div"):
                self.take()
                factors.append(_inverse(self._signed(depth)))
            elif self._factor_follows():
                factors.append(self.power(depth + 1))
            else:
                break
        found = factors[0] if len(factors) == 1 else Node("product", "", tuple(factors))
        return _negative(found) if negative else found

    def _signed(self, depth: int) -> Node:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        factor = self.power(depth + 1)
        return _negative(factor) if negative else factor

    def _factor_follows(self) -> bool:
        """Whether the next token begins a factor that is multiplied without a sign."""
        text, kind = self.peek(), self.kind()
        if kind == "word" or text in ("(", "{") or (kind == "number" and self.tokens[self.place - 1].text == "!"):
            return True
        if text == "|":
            return not self.bars
        return kind == "command" and text not in _NO_FACTORS

    def power(self, depth: int) -> Node:
        found = self.postfix(depth)
        if self.peek() in ("^", "**"):
            self.take()
            if self._degree_sign():
                return Node("product", "", (found, Node("constant", "pi"), Node("number", Fraction(1, 180))))
            exponent = self._exponent(depth)
            found = Node("power", "", (found, exponent))
            if self.peek() in ("^", "**"):
                raise NotAFormulaError("a tower of powers without brackets")
        return found

    def _degree_sign(self) -> bool:
        r"""Whether ``\circ`` follows, with or without braces; it is taken then."""
        texts = [token.text for token in self.tokens[self.place : self.place + 3]]
        length = 1 if texts[:1] == ["\\circ"] else 3 if texts == ["{", "\\circ", "}"] else 0
        self.place += length
        return length > 0

    def _exponent(self, depth: int) -> Node:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        found = self.postfix(depth + 1)
        if self.peek() in ("^", "**"):
            self.take()
            found = Node("power", "", (found, self._exponent(depth + 1)))
        return _negative(found) if negative else found

    def postfix(self, depth: int) -> Node:
        if depth > DEEPEST:
            raise NotAFormulaError("too deep")
        found = self.primary(depth + 1)
        while self.peek() in ("!", "%", "\\%"):
            if self.take() == "!":
                found = Node("call", "factorial", (found,))
            else:
                found = Node("product", "", (found, _inverse(Node("number", Fraction(100)))))
        return found

    def primary(self, depth: int) -> Node:
        kind, text = self.kind(), self.take()
        if kind == "number":
            return Node("number", _numeral(text))
        if kind == "word":
            return self._name(text, depth)
        if kind == "command":
            return self._command(text[1:], depth)
        if text in ("(", "{"):
            bars, self.bars = self.bars, 0
            found = self.sum(depth + 1)
            if text == "{" and self.peek() == "\\choose":
                self.take()
                found = Node("call", "binomial", (found, self.sum(depth + 1)))
            self.take(")" if text == "(" else "}")
            self.bars = bars
            return found
        if text == "|":
            self.bars += 1
            found = self.sum(depth + 1)
            self.take("|")
            self.bars -= 1
            return Node("call", "abs", (found,))
        raise NotAFormulaError(f"unexpected {text}")

    def _name(self, name: str, depth: int) -> Node:
        if name == "e":
            return Node("constant", "e")
        if name == "i":
            return Node("constant", "i")
        if self.peek() == "_":
            self.take()
            name += "_" + self._subscript()
        while self.peek() == "'":
            name += self.take()
        if name.rstrip("'") in ("f", "g", "h") and self.peek() == "(":
            return Node("call", name, (self._argument(depth),))
        return Node("name", name)

    def _subscript(self) -> str:
        if self.peek() != "{":
            return self.take()
        self.take()
        parts = []
        while self.peek() != "}":
            parts.append(self.take())
        self.take()
        return "".join(parts)

    def _argument(self, depth: int) -> Node:
        """What stands in the brackets or braces that follow."""
        opens = self.take("(", "{")
        found = self.sum(depth + 1)
        self.take(")" if opens == "(" else "}")
        return found

    def _command(self, name: str, depth: int) -> Node:
        if name in _CONSTANTS:
            return Node("constant", _CONSTANTS[name])
        if name in _GREEK:
            return self._name(name, depth)
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            above = self._piece(depth)
            return Node("product", "", (above, _inverse(self._piece(depth))))
        if name in ("binom", "dbinom", "tbinom"):
            return Node("call", "binomial", (self._piece(depth), self._piece(depth)))
        if name == "sqrt":
            return self._root(depth)
        if name in _STYLES or name in _ACCENTS:
            return self._styled(name, depth)
        if name in FUNCTIONS:
            return self._call(_RENAMED.get(name, name), depth)
        closing = {"lvert": "\\rvert", "lfloor": "\\rfloor", "lceil": "\\rceil"}
        if name in closing:
            found = self.sum(depth + 1)
            self.take(closing[name])
            return Node("call", {"lvert": "abs", "lfloor": "floor", "lceil": "ceil"}[name], (found,))
        raise NotAFormulaError(f"\\{name} is not read")

    def _piece(self, depth: int) -> Node:
        r"""An argument of ``\frac``: a group, or one digit or letter."""
        if self.kind() == "number" and self.peek().isdigit() and len(self.peek()) > 1:
            text = self.peek()
            self.tokens[self.place] = _Token("number", text[1:], False)
            return Node("number", Fraction(int(text[0])))
        if self.peek() == "(":
            raise NotAFormulaError("brackets where braces are wanted")
        return self.primary(depth + 1)

    def _root(self, depth: int) -> Node:
        degree = Node("number", Fraction(2))
        if self.peek() == "[":
            self.take()
            degree = self.sum(depth + 1)
            self.take("]")
        return Node("power", "", (self.primary(depth + 1), _reciprocal(degree)))

    def _styled(self, style: str, depth: int) -> Node:
        self.take("{")
        letters = []
        while self.peek() not in ("}", ""):
            if self.kind() not in ("word", "command"):
                raise NotAFormulaError("words are not algebra")
            letters.append(self.take().lstrip("\\"))
        self.take("}")
        name = "".join(letters)
        if style in _ACCENTS:
            return Node("name", f"{style} {name}")
        if name in FUNCTIONS:
            return self._call(_RENAMED.get(name, name), depth)
        if len(name) != 1:
            raise NotAFormulaError(f"{name} is a word")
        return self._name(name, depth)

    def _call(self, name: str, depth: int) -> Node:
        if name == "log" and self.peek() == "_":
            self.take()
            base = self._piece(depth)
            return Node("call", "log_base", (self._operand(depth), base))
        if self.peek() == "^":
            self.take()
            exponent = self._exponent(depth)
            if exponent == _MINUS_ONE and name in TRIGONOMETRIC[:3]:
                return Node("call", f"arc{name}", (self._operand(depth),))
            return Node("power", "", (Node("call", name, (self._operand(depth),)), exponent))
        if name in ("sqrt", "cbrt"):
            degree = 2 if name == "sqrt" else 3
            return Node("power", "", (self._operand(depth), Node("number", Fraction(1, degree))))
        return Node("call", name, (self._operand(depth),))

    def _operand(self, depth: int) -> Node:
        r"""What a function is applied to: brackets, or a product up to the next function (``\sin 2x \cos x``)."""
        if self.peek() in ("(", "{"):
            return self._argument(depth)
        if self.peek() in ("-", "+"):
            raise NotAFormulaError("a sign where an operand is wanted")
        factors = [self.power(depth + 1)]
        while self._factor_follows() and self.peek().lstrip("\\") not in {*FUNCTIONS, "(", "{", "|"}:
            factors.append(self.power(depth + 1))
        return factors[0] if len(factors) == 1 else Node("product", "", tuple(factors))


def _numeral(text: str) -> Fraction:
    text = text.replace("{,}", "")
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > LONGEST_NUMERAL or abs(int(exponent or 0)) > LONGEST_EXPONENT or len(exponent) > 5:
        raise NotAFormulaError("too large a number")
    return Fraction(mantissa) * Fraction(10) ** int(exponent or 0)


_MINUS_ONE = Node("number", Fraction(-1))


def _negative(node: Node) -> Node:
    if node.kind == "number":
        return Node("number", -Fraction(node.value))
    return Node("product", "", (_MINUS_ONE, node))


def _inverse(node: Node) -> Node:
    return Node("power", "", (node, _MINUS_ONE))


def _reciprocal(node: Node) -> Node:
    """As `_inverse`, a number where it is one: the exponent of a root."""
    if node.kind == "number" and node.value:
        return Node("number", 1 / Fraction(node.value))
    return _inverse(node)


def names(node: Node) -> frozenset[str]:
    """The variables of a formula."""
    own = frozenset({str(node.value)}) if node.kind == "name" else frozenset[str]()
    return own.union(*(names(child) for child in node.children))


def _is_number(node: Node) -> bool:
    """Whether a factor is a number of its own: no sign, no denominator."""
    is_inverse = node.kind == "power" and node.children[1] == _MINUS_ONE
    return not names(node) and node != _MINUS_ONE and not is_inverse


def is_unfinished(node: Node) -> bool:
    """Whether a sum or a product of plain numbers is left to be worked out: ``40+2``, but not ``3/4`` or ``5!``."""
    if node.kind == "sum" and sum(not names(child) for child in node.children) > 1:
        return True
    if node.kind == "product" and sum(map(_is_number, node.children)) > 1:
        return True
    return any(is_unfinished(child) for child in node.children)
