"""What was probably meant by a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["hint"]


def hint(given: str, known: Iterable[str], otherwise: str, likeness: float = 0.6) -> str:
    """``did you mean NAME?`` with the nearest of the known names; `otherwise` where none is as alike as that."""
    names = list(known)
    initials = [name for name in names if len(given) > 1 and given == _initials(name)]
    near = (initials if len(initials) == 1 else []) or difflib.get_close_matches(given, names, 1, likeness)
    return f"did you mean {near[0]}?" if near else otherwise


def _initials(name: str) -> str:
    """``lr`` of ``learning_rate``."""
    return "".join(part[:1] for part in name.split("_"))
