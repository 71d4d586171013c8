r"""Reads and compares congruences: ``x \equiv 3 \pmod 7``, ``3 (mod 7)``, ``n ≡ 1, 6 mod 7``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pipeline.reasoning.answers.formulas import equal_formula, value_of

__all__ = ["Congruence", "equal_congruence", "read_congruence"]

_CONGRUENCE = re.compile(
    r"(?:(?P<name>[^=,]{1,40}?)\s*(?:\\equiv(?![A-Za-z])|=)\s*)?(?P<residues>[^=()]{1,60}?)\s*(?:\\[,;: ]|\\q?quad)*\s*"
    r"(?:\\[pb]mod|\(\s*(?:\\b?mod|\\(?:text|mathrm)\s*\{\s*mod\s*\}|mod)|\\mod(?![A-Za-z])|(?<=\s)mod(?=\s))"
    r"(?:\\[,; ])*"
    r"\s*\{?\s*(?P<modulus>\d{1,20})\s*\}?\s*\)?"
)


@dataclass(frozen=True)
class Congruence:
    """What is congruent to one of some residues."""

    name: str
    """What stands before the sign, or nothing."""
    residues: frozenset[Fraction]
    """As numbers from 0 to the modulus."""
    modulus: int
    is_reduced: bool
    """Whether the residues are written so."""


def read_congruence(text: str) -> Congruence | None:
    """A congruence of known residues, or None."""
    found = _CONGRUENCE.fullmatch(text.strip())
    if found is None or not (modulus := int(found["modulus"])):
        return None
    values = [value_of(part) for part in re.split(r",|\bor\b", found["residues"])]
    known = [value for value in values if value is not None and value.denominator == 1]
    if len(known) < len(values):
        return None
    residues = frozenset(value % modulus for value in known)
    return Congruence(found["name"] or "", residues, modulus, is_reduced=residues == set(known))


def equal_congruence(expected: Congruence, answer: Congruence) -> bool:
    """Whether the two say the same; what is congruent may be left out."""
    is_same_name = not expected.name or not answer.name or equal_formula(expected.name, answer.name)
    return is_same_name and (expected.residues, expected.modulus) == (answer.residues, answer.modulus)
