"""A day's requests in a minute: what `bench.serving_drill` does with 100,000, with fewer."""

from __future__ import annotations

import pytest

from bench.serving_drill import REQUESTS, run


@pytest.mark.slow
def test_a_tenth_hostile_and_nothing_is_lost() -> None:
    rows = run(1200)
    assert not [row for row in rows if row["holds"] is False]


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_a_whole_day() -> None:
    rows = run(REQUESTS)
    assert not [row for row in rows if row["holds"] is False]
