from __future__ import annotations

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters.c4_filters import CITATION_REGEX, C4QualityFilter
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.clean.lines import CITATION, Cut, FastC4Quality
from pipeline.tasks.verbatim import note_verbatim, verbatim_of
from pipeline.text.words import WORDS
from tests.examples import examples
from tests.pipeline.corpus import words

PROSE = st.sampled_from(
    [
        *("The ship came home.", "Who was it?", "He asked why. She knew!", "  four words go here.", "two words"),
        *("Read [12] and [edit].", "Menu", "", "\t", "x" * 1001 + " is too long.", "a [] b c.", "and so on..."),
        *("JavaScript is off here.", "We use Cookies on this site.", "All of it in Lorem Ipsum.", "f(x) = {x} is so."),
        *("The 日本 ship.", "No. 5 at 3.14 is it.", 'He said "no".', "a b [1].", "'tis a [7]", "wait... what is it"),
        *("[citation needed] a b c?", "é", "\x1c a b c.", "x" * 1000 + " is the limit."),
    ]
)
BREAKS = st.sampled_from(["\n", "\n", "\n\n", "\r\n", "\x85", "\u2028", "\x0c"])
TEXTS = st.lists(st.tuples(PROSE, BREAKS), max_size=14).map(lambda pairs: "".join(a + b for a, b in pairs))


def _both(text: str, **ours: object) -> tuple[object, object, str, str]:
    mine, theirs = Document(text=text, id=""), Document(text=text, id="")
    names = {"min_sentences": "min_num_sentences", "curly_bracket": "filter_curly_bracket"}
    names |= {"terminal_punctuation": "filter_no_terminal_punct", "citations": "remove_citations"}
    options = {names[name]: value for name, value in ours.items()}
    a = FastC4Quality(**ours).filter(mine)  # type: ignore[arg-type]
    b = C4QualityFilter(**options, language=WORDS).filter(theirs)
    return a, b, mine.text, theirs.text


@given(TEXTS, st.integers(1, 6), st.booleans(), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=examples(600))
def test_verdicts_are_datatroves(text: str, fewest: int, curly: bool, stops: bool, citations: bool) -> None:
    options = {"curly_bracket": curly, "terminal_punctuation": stops, "citations": citations}
    ours, theirs, left, lines = _both(text, min_sentences=fewest, **options)
    assert ours == theirs
    if ours is True:
        assert [bare for line in left.splitlines() if (bare := line.strip())] == [
            bare for line in lines.splitlines() if (bare := line.strip())
        ]


@given(TEXTS, st.data(), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=examples(300))
def test_verbatim_stretches_stay_to_the_character(text: str, data: st.DataObject, citations: bool, curly: bool) -> None:
    edges = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    held = list(zip(edges[::2], edges[1::2], strict=False))
    document = Document(text=text, id="", metadata={})
    note_verbatim(document.metadata, held)
    rule = FastC4Quality(min_sentences=1, citations=citations, curly_bracket=curly)
    if rule.filter(document) is not True:
        return
    parts = [text[begin:end] for begin, end in held]
    assert [document.text[begin:end] for begin, end in verbatim_of(document.metadata)] == parts
    assert len(document.text) + sum(len(cut.text) for cut in rule.cuts) == len(text)
    bare = Document(text=text, id="", metadata={})
    if not held and rule.filter(bare) is True:
        assert bare.text == document.text


@pytest.mark.parametrize("ending", ["\r\n", "\n", "\u2028"])
@pytest.mark.parametrize("held", ["x = 1\r", "x = 1", "1\r\n", "\r", "\n", "\r\n"])
def test_a_verbatim_stretch_may_end_within_a_line_end(held: str, ending: str) -> None:
    text = f"It is as it was.\nx = 1\r\n{ending}Menu{ending}"
    line = text.index("x")
    begin = text.index(held, line)
    end = begin + len(held)
    for spans in ([(begin, end)], [(line, line + 1), (max(line + 1, begin), end)]):
        document = Document(text=text, id="", metadata={})
        note_verbatim(document.metadata, spans)
        rule = FastC4Quality(min_sentences=1)
        assert rule.filter(document) is True
        assert "Menu" not in document.text
        left = [document.text[slice(*span)] for span in verbatim_of(document.metadata)]
        assert left == [text[slice(*span)] for span in spans]
        assert len(document.text) + sum(len(cut.text) for cut in rule.cuts) == len(text)


@given(TEXTS, st.booleans())
@settings(deadline=None, max_examples=examples(300))
def test_lines_go_whole_and_every_character_is_accounted_for(text: str, citations: bool) -> None:
    left = FastC4Quality(min_sentences=1, citations=citations).examine(text)
    if left.objection:
        assert left == (left.objection, text, [], [])
        return
    assert len(left.text) + sum(len(cut.text) for cut in left.cuts) == len(text)
    rest = iter((CITATION_REGEX.sub("", text) if citations else text).splitlines())
    assert all(line in rest for line in left.text.splitlines()), "what stays are lines of the text, in their order"
    whole = [line.strip("\r\n\x85\u2028\x0c") for line in text.splitlines(keepends=True)]
    assert all(cut.text.strip("\r\n\x85\u2028\x0c") in whole for cut in left.cuts if cut.reason != CITATION)


def test_what_stays_is_as_it_was() -> None:
    text = (
        "Menu\n\n  The harbour [3] lies open.\n\n\tIts keeper lives there.\nSubscribe now\n\n\n"
        "We use cookies on this page.\n\nThe wind comes in.   \n\n\n"
        "In winter few leave.\nThat is all of it.\n\nShare this\n\nNext"
    )
    left = FastC4Quality().examine(text)
    assert left.text == (
        "  The harbour [3] lies open.\n\n\tIts keeper lives there.\n\n"
        "The wind comes in.   \n\n\nIn winter few leave.\nThat is all of it."
    )
    assert left.cuts == [
        Cut("no_terminal_punc", "Menu\n"),
        Cut("no_terminal_punc", "\n"),
        Cut("no_terminal_punc", "Subscribe now\n"),
        Cut("no_terminal_punc", "\n"),
        Cut("policy", "We use cookies on this page.\n"),
        Cut("policy", "\n"),
        Cut("no_terminal_punc", "\n\n"),
        Cut("no_terminal_punc", "Share this\n"),
        Cut("no_terminal_punc", "\n"),
        Cut("no_terminal_punc", "Next"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        *("He said, “Go home now.”", "Il dit : « Rentrez chez vous. »", "他说：“我们现在回家。”", "वह कल घर आया था।"),
        *("ናይ ሰብ መሰል ኣዋጅ።", "ہم کل گھر آئے تھے۔", "Մենք երեկ տուն եկանք։", "དེ་རིང་ ཁྱིམ་ ལ།", "हम कहाँ जा रहे हैं?"),
    ],
)
def test_marks_and_quotes_of_every_language_end_a_line(line: str) -> None:
    left = FastC4Quality(min_sentences=1, min_words_per_line=1).examine(f"Menu\n{line}\n")
    assert left.text == f"{line}\n"


MARKS = st.text(alphabet="ab .!?…\"'”)」。！།။؟\u0301é 日กา")


@given((MARKS | st.text()).map(lambda text: " ".join(text.split())))
@settings(deadline=None, max_examples=examples(600))
def test_sentences_are_the_splitters(line: str) -> None:
    assume(line and "[" not in line)
    expected = len(WORDS.span_tokenize(line))
    rule = FastC4Quality(terminal_punctuation=False, min_words_per_line=0, min_sentences=expected, curly_bracket=False)
    assert not rule.examine(line).objection
    rule.min_sentences += 1
    assert rule.examine(line).objection


def test_a_page_of_menus_goes() -> None:
    assert FastC4Quality().examine("\n".join(words(n, 3) for n in range(30))).objection == "too_few_sentences"
