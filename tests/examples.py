"""How many examples the heavier properties are tried on: a quarter by day, and at night all."""

from __future__ import annotations

import os

KEY = "DEEPMILL_TEST_EXAMPLES"
"""`whole` in the environment: all of them, as in `make nightly`."""
SHARE, LEAST = 4, 20


def examples(whole: int) -> int:
    """Of so many."""
    return whole if os.environ.get(KEY) == "whole" else min(whole, max(LEAST, whole // SHARE))
