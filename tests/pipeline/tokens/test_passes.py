"""How often each source is read, and from when on it is said."""

from __future__ import annotations

import pytest

from pipeline.tokens.passes import passes, repeated

ROWS = {"code": 100, "maths": 10, "web": 1000, "none": 0}


def test_a_mixture_reads_each_by_its_share() -> None:
    assert passes(ROWS, {"maths": 3, "web": 1, "code": 0}, 400) == {"maths": 30.0, "web": 0.1}
    assert passes(ROWS, None, 2220) == {"code": 2.0, "maths": 2.0, "web": 2.0}
    assert passes({}, None, 2220) == {}  # shards of another version, which say nothing of rows


@pytest.mark.parametrize(
    ("mixture", "sequences", "said"),
    [
        ({"maths": 0.5, "code": 0.5}, 80, ""),
        ({"maths": 0.5, "code": 0.5}, 84, "maths is read 4.2 times over"),
        ({"maths": 0.5, "code": 0.5}, 1000, "maths is read 50.0 times over, code 5.0"),
        (None, 4440, ""),
        (None, 11100, "the text is read 10.0 times over"),
        ({"unknown": 1.0}, 1000, ""),
    ],
)
def test_more_than_four_times_is_said(mixture: dict[str, float] | None, sequences: int, said: str) -> None:
    assert repeated(ROWS, mixture, sequences) == said
