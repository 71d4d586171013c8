"""Addresses are masked as datatrove masks them, on any text."""

from __future__ import annotations

import pytest
from datatrove.pipeline.formatters.pii import PIIFormatter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.clean.masking import FastPII
from tests.examples import examples

PIECES = st.sampled_from(
    ["a", "B", "é", "1", "_", "-", ".", "..", "@", "@b.c", "!", " ", "[", " 8.8.8.8 ", "]", "x@y.org"]
)


@settings(max_examples=examples(400), deadline=None)
@given(pieces=st.lists(PIECES, max_size=30))
@example(pieces=["a@b.c", "@d.e", " ", "é", "a", "@b.c"])
@example(pieces=[".", "a", ".", "b", "@b.c"])
@example(pieces=["a", "..", "b", "@b.c"])
@example(pieces=["a", ".", "@b.c"])
@example(pieces=["-a-", "@[1.2.3.4]"])
def test_the_same_as_datatrove(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert FastPII().format(text) == PIIFormatter().format(text)


@pytest.mark.parametrize(
    "text",
    [
        *("version 1.2.3.4", "v1.2.3.4", "Firefox/3.5.0.12", "libfoo-4.3.2.1.tar.gz", "foo==2.0.4.1", "foo >= 2.0.4.1"),
        *("since 2.4.6.1", "Section 4.5.6.7", "§ 4.5.6.7", "1.2.3.4.5", "1.2.3.4rc1", "1234.5.6.7", "4.5.6.1234"),
        *("2.10.4.1-beta", "versions 5.6.7.8, 5.6.7.9 and 5.6.8.0", "Upgrade to 9.8.7.6", "10.0.0.1", "192.168.1.1"),
    ],
)
def test_versions_are_no_addresses(text: str) -> None:
    assert FastPII().format(text) == text
    assert FastPII().format(f"It is {text}, they say.") == f"It is {text}, they say."


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "http://8.8.8.8/a", "ip=8.8.8.8", "(8.8.8.8)", "8.8.8.8:80", "8.8.8.8.", "8.8.8.8-8.8.8.8"]
)
def test_addresses_are_masked_wherever_they_stand(text: str) -> None:
    assert "8.8.8.8" not in FastPII().format(text)
    assert "8.8.8.8" not in FastPII().format(f"Ask {text} or version 1.2.3.4 of it.")


def test_the_stand_ins_rotate_and_begin_anew() -> None:
    masks = FastPII()
    text = "me@here.org, you@there.org, us@home.org"
    assert masks.format(text) == "email@example.com, firstname.lastname@example.org, email@example.com"
    masks.restart()
    assert masks.format("me@here.org") == "email@example.com"


@pytest.mark.parametrize("text", ["a-" * 500_000 + "@", "@" + "b-" * 500_000, "a." * 500_000 + "@b.c", "a@" * 500_000])
def test_long_rows_are_looked_at_once(text: str) -> None:
    FastPII().format(text)  # by the pattern alone it takes hours
