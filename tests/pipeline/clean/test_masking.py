"""Addresses are masked as datatrove masks them, on any text."""

from __future__ import annotations

import pytest
from datatrove.pipeline.formatters.pii import PIIFormatter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.clean.masking import FastPII

PIECES = st.sampled_from(
    ["a", "B", "é", "1", "_", "-", ".", "..", "@", "@b.c", "!", " ", "[", "8.8.8.8", "]", "x@y.org"]
)


@settings(max_examples=400, deadline=None)
@given(pieces=st.lists(PIECES, max_size=30))
@example(pieces=["a@b.c", "@d.e", " ", "é", "a", "@b.c"])
@example(pieces=[".", "a", ".", "b", "@b.c"])
@example(pieces=["a", "..", "b", "@b.c"])
@example(pieces=["a", ".", "@b.c"])
@example(pieces=["-a-", "@[1.2.3.4]"])
def test_the_same_as_datatrove(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert FastPII().format(text) == PIIFormatter().format(text)


def test_the_stand_ins_rotate_and_begin_anew() -> None:
    masks = FastPII()
    text = "me@here.org, you@there.org, us@home.org"
    assert masks.format(text) == "email@example.com, firstname.lastname@example.org, email@example.com"
    masks.restart()
    assert masks.format("me@here.org") == "email@example.com"


@pytest.mark.parametrize("text", ["a-" * 500_000 + "@", "@" + "b-" * 500_000, "a." * 500_000 + "@b.c", "a@" * 500_000])
def test_long_rows_are_looked_at_once(text: str) -> None:
    FastPII().format(text)  # by the pattern alone it takes hours
