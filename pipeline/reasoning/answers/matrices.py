r"""Reads and compares matrices: LaTeX's environments, an array in brackets, nested lists, a factor before them."""

from __future__ import annotations

import re

from pipeline.reasoning.answers.formulas import equal_formula, formula
from pipeline.reasoning.answers.splitting import split_outside

__all__ = ["Matrix", "equal_matrix", "read_matrix", "read_sum_of_units", "read_vector"]

Matrix = tuple[str, tuple[tuple[str, ...], ...]]
"""``|`` for a determinant, ``||`` for a norm, else nothing; and the rows."""
_ENVIRONMENT = re.compile(
    r"(?P<factor>.*?)(?P<opens>\(|\[|\\?\|)?\s*\\begin\{(?P<kind>[pbBvV]?|small)(?P<name>matrix|array)\}"
    r"(?:\{[lcr| ]*\})?(?P<body>.*)\\end\{(?P=kind)(?P=name)\}\s*(?P<closes>\)|\]|\\?\|)?",
    re.DOTALL,
)

_TERM = re.compile(
    r"(?P<sign>\s*[-+]?\s*)(?P<factor>(?:\([^()]{1,40}\)|[^-+()]){0,40}?)"
    r"\\(?:mathbf|hat|vec|boldsymbol|bm|overrightarrow)\s*\{?\s*(?:\\mathbf\s*\{?)?\\?(?P<unit>[ijk])(?:math)?\s*\}{0,2}\s*"
)


def read_matrix(text: str) -> Matrix | None:
    """A matrix, or None."""
    text = text.strip()
    found = _ENVIRONMENT.fullmatch(text)
    if found is not None:
        return _environment(found)
    brackets = text[:1] + text[-1:]
    if brackets not in ("[]", "()"):
        return None
    if brackets == "[]" and ";" in text and (by_row := _by_row(text[1:-1])) is not None:
        return by_row
    if text[1:2] != brackets[0]:
        return None
    lines = [line.strip() for line in split_outside(text[1:-1], ",;")]
    is_nested = all(line.startswith(brackets[0]) and line.endswith(brackets[1]) for line in lines)
    if not is_nested or (brackets == "()" and len(lines) < 2):
        return None
    rows = tuple(tuple(cell.strip() for cell in split_outside(line[1:-1], ",")) for line in lines)
    return ("", rows) if brackets == "[]" or len({len(row) for row in rows}) == 1 < len(rows[0]) else None


def _by_row(text: str) -> Matrix | None:
    """``1, 2; 3, 4``, as MATLAB writes a matrix."""
    rows = tuple(
        tuple(cell.strip() for cell in split_outside(line, ",")) for line in split_outside(text, ";") if line.strip()
    )
    return ("", rows) if len({len(row) for row in rows}) == 1 < len(rows[0]) and len(rows) > 1 else None


def _environment(found: re.Match[str]) -> Matrix | None:
    body = re.sub(r"\\cr(?![A-Za-z])|\\newline(?![A-Za-z])", r"\\\\", found["body"])
    lines = [line for line in re.split(r"\\\\(?:\[[^\]]*\])?", body.replace("\\hline", "")) if line.strip()]
    rows = tuple(tuple(cell.strip() for cell in line.split("&")) for line in lines)
    kind = {"v": "|", "V": "||"}.get(found["kind"], "|" if "|" in (found["opens"] or "") else "")
    factor = re.sub(r"\\(?:cdot|times)\s*$", "", found["factor"].strip()).strip()
    if not factor:
        return kind, rows
    if kind or formula("1" if factor == "-" else factor) is None:
        return None
    times = "-1" if factor == "-" else factor
    return "", tuple(tuple(f"({times})*({cell})" for cell in row) for row in rows)


def read_vector(text: str) -> tuple[str, ...] | None:
    """The entries of a matrix of one column or one row, or None."""
    found = read_matrix(text)
    if found is None or found[0] or not found[1]:
        return None
    if all(len(row) == 1 for row in found[1]):
        return tuple(row[0] for row in found[1])
    return found[1][0] if len(found[1]) == 1 else None


def read_sum_of_units(text: str, size: int = 3) -> tuple[str, ...] | None:
    r"""The components of ``3\mathbf{i} - \mathbf{j}``, a sum of multiples of two or three unit vectors, or None."""
    found = dict.fromkeys("ijk"[:size], "0")
    terms = list(_TERM.finditer(text))
    if not terms or "".join(term[0] for term in terms) != text or len({term["unit"] for term in terms}) < len(terms):
        return None
    for term in terms:
        factor = term["factor"].strip()
        if factor and formula(factor) is None:
            return None
        found[term["unit"]] = f"{'-' if '-' in term['sign'] else ''}({factor or '1'})"
    return tuple(found.values()) if len(found) == size else None


def equal_matrix(expected: Matrix, answer: Matrix) -> bool:
    """Whether the two have the same kind, shape and entries."""
    if expected[0] != answer[0] or [len(row) for row in expected[1]] != [len(row) for row in answer[1]]:
        return False
    pairs = [pair for rows in zip(expected[1], answer[1], strict=True) for pair in zip(*rows, strict=True)]
    return len(pairs) <= 100 and all(equal_formula(first, second) for first, second in pairs)
