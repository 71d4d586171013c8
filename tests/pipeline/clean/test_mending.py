from __future__ import annotations

import pytest
from datatrove.pipeline.formatters.ftfy import FTFYFormatter
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clean.mending import FastFTFY
from tests.examples import examples

PIECES = [
    "caf\u00c3\u00a9",
    "&amp;",
    "&lt;b&gt;",
    "<",
    "\n",
    "\r\n",
    "\x1b[31m",
    "\x7f",
    "\x0b",
    "\x85",
    "’",
    "â€™",
    "ﬁ",
    "\ud83d",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=30).map("".join))
@settings(deadline=None, max_examples=examples(500))
def test_text_is_what_datatroves_formatter_makes_of_it(text: str) -> None:
    assert FastFTFY().format(text) == FTFYFormatter().format(text)


def test_entities_stay_as_they_are_once_there_was_a_tag() -> None:
    before, after = "a &amp; b\n", "plain\n<i>c</i>\nd &amp; e"
    assert FastFTFY().format(before + after) == "a & b\n" + after
    assert FastFTFY().format("plain") == "plain"


@pytest.mark.parametrize("inner", ["amp;", "#38;", "#x26;"])
def test_entities_within_entities_are_counted(inner: str) -> None:
    assert FastFTFY().format(f"&{inner * 10}lt; é") == "< é"
    with pytest.raises(ValueError, match="nested more than 16 deep"):
        FastFTFY().format(f"&{inner * 200_000}lt;")
