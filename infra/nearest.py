"""What was probably meant by a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["hint"]


def hint(given: str, known: Iterable[str], otherwise: str, likeness: float = 0.6) -> str:
    """``did you mean NAME?`` with the nearest of the known names; `otherwise` where none is as alike as that."""
    near = difflib.get_close_matches(given, list(known), 1, likeness)
    return f"did you mean {near[0]}?" if near else otherwise
