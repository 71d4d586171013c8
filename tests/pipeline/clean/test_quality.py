from __future__ import annotations

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clean.quality import FastFineWebQuality, FastGopherQuality
from pipeline.text.words import WORDS
from tests.examples import examples
from tests.pipeline.corpus import words

PIECES = ["the", "with", "12", "##", "...", "…", "- ", "•", "\n", "日", "é", "a" * 30, "?!", "don't", "№", "\x85"]


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=40).map(" ".join))
@settings(deadline=None, max_examples=examples(500))
def test_verdicts_are_datatroves(text: str) -> None:
    document = Document(text=text, id="")
    theirs = GopherQualityFilter(min_doc_words=3, language=WORDS)
    assert FastGopherQuality(min_doc_words=3).filter(document) == theirs.filter(document)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("two words", "short_doc"),
        ("the with " * 60_000, "long_doc"),
        ("of it to be " * 30, "below_avg_threshold"),
        ("incomprehensibilities " * 60, "above_avg_threshold"),
        ("the # with # words # " * 30, "too_many_hashes"),
        ("the ... with words " * 30, "too_many_ellipsis"),
        ("\n".join(f"- the line with {words(n, 6)}" for n in range(30)), "too_many_bullets"),
        ("\n".join(f"the line with {words(n, 40)} …" for n in range(30)), "too_many_end_ellipsis"),
        ("the with words 1234 5678 9012 3456 " * 30, "below_alpha_threshold"),
        (words(1, 90), "enough_stop_words"),
    ],
)
def test_each_rule_objects(text: str, reason: str) -> None:
    document = Document(text=text, id="")
    assert FastGopherQuality().filter(document) == (False, f"gopher_{reason}")
    assert GopherQualityFilter(language=WORDS).filter(document) == (False, f"gopher_{reason}")


LINES = st.lists(
    st.sampled_from(["the end.", "menu", "a longer line of some words, no stop", "x" * 31 + "!", "है।", "日本"])
)


@given(LINES.map("\n".join), st.sampled_from([0.01, 0.5]), st.sampled_from([0.1, 0.3, 0.9]))
@settings(deadline=None, max_examples=examples(300))
def test_finewebs_verdicts_are_datatroves(text: str, duplicates: float, breaks: float) -> None:
    options = {"char_duplicates_ratio": duplicates, "new_line_ratio": breaks}
    document = Document(text=text, id="")
    theirs = FineWebQualityFilter(**options, language=WORDS).filter(document)
    assert FastFineWebQuality(**options).filter(document) == theirs


def test_blank_lines_between_paragraphs_are_no_list() -> None:
    text = "\n\n".join(f"{words(n, 5).capitalize()}." for n in range(40))
    assert FastFineWebQuality(short_line_thr=1, char_duplicates_ratio=1).filter(Document(text=text, id="")) is True
    assert FastFineWebQuality(short_line_thr=1, new_line_ratio=0.1).filter(Document(text=text, id="")) == (
        False,
        "list_ratio",
    )
