from __future__ import annotations

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters.gopher_repetition_filter import (
    GopherRepetitionFilter,
    find_all_duplicate,
    find_top_duplicate,
    get_n_grams,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clean.repetition import FastGopherRepetition, duplicate_characters, top_characters
from pipeline.clean.survey import survey
from pipeline.text.words import WORDS
from tests.examples import examples
from tests.pipeline.corpus import words

SIZES = (1, 2, 3, 5)


@given(st.lists(st.sampled_from(["a", "b", "ab", "ba", "é", "日", "x" * 40]), min_size=1, max_size=60))
@settings(deadline=None)
def test_counts_are_datatroves(some: list[str]) -> None:
    grams = [get_n_grams(some, n) for n in SIZES]
    tops = [find_top_duplicate(each) if len(set(each)) < len(each) else 0 for each in grams]
    found = survey(" ".join(some))
    assert top_characters(found, SIZES) == tops
    assert duplicate_characters(found, SIZES) == [find_all_duplicate(some, n) for n in SIZES]


PARTS = st.lists(st.sampled_from(["a", "b", "a line", "\n", "\n\n", "\n\n\n", " ", "\t\n"]), min_size=1, max_size=30)


@given(PARTS.map("".join))
@settings(deadline=None, max_examples=examples(500))
def test_repeated_lines_and_paragraphs_are_datatroves(text: str) -> None:
    document = Document(text=text, id="")
    theirs = GopherRepetitionFilter(top_n_grams=(), dup_n_grams=(), language=WORDS).filter(document)
    assert FastGopherRepetition(top_n_grams={}, dup_n_grams={}).filter(document) == theirs


@pytest.mark.parametrize("repeats", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("length", [1, 2, 4, 6, 12, 40])
def test_verdicts_are_datatroves(repeats: int, length: int) -> None:
    text = ". ".join([words(1, 60), *[words(2, length)] * repeats, words(3, 40)]) + " é"
    document = Document(text=text, id="")
    assert FastGopherRepetition().filter(document) == GopherRepetitionFilter(language=WORDS).filter(document)


def test_some_of_these_are_dropped() -> None:
    def reason(before: int, repeats: int, length: int) -> str:
        text = ". ".join([words(1, before), *[words(2, length)] * repeats])
        return str(FastGopherRepetition().filter(Document(text=text, id="")))

    reasons = {reason(*case) for case in ((60, 9, 2), (60, 9, 4), (60, 9, 6), (200, 2, 150), (200, 1, 5))}
    assert "True" in reasons
    assert any("top" in each for each in reasons)
    assert any("duplicated" in each for each in reasons)
