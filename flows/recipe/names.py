"""Names of runs and models, which are part of paths and of names in MLflow."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["LONGEST_NAME", "NAME", "plain_name"]

NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
"""Pattern of a name."""
LONGEST_NAME = 100
"""In characters."""


def plain_name(text: str) -> str:
    """A name for runs and models that says what `text` says, as far as Latin letters, digits and ``._-`` can."""
    if re.fullmatch(NAME, text):
        return text
    latin = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub("[^A-Za-z0-9._-]+", "-", latin).strip("-._") or "recipe"
