from __future__ import annotations

from datatrove.utils.text import PUNCTUATION_SET
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clean.survey import survey
from pipeline.text.words import WORDS
from tests.examples import examples

TEXTS = st.text() | st.text(alphabet="ab .…-•\n\r\t\x1c\u2028'’।”)日कि1_\u200d\u0301")


@given(TEXTS)
@settings(deadline=None, max_examples=examples(600))
def test_words_are_counted_as_one_by_one(text: str) -> None:
    found, words = survey(text), WORDS.word_tokenize(text)
    proper = [word for word in words if any(letter not in PUNCTUATION_SET for letter in word)]
    assert found.joined.tobytes().decode(errors="surrogatepass") == "".join(f"{word} " for word in words)
    assert (found.letters[1:] - found.letters[:-1]).tolist() == list(map(len, words))
    assert (found.words, found.proper, found.proper_letters) == (len(words), len(proper), sum(map(len, proper)))
    assert found.alphabetic == sum(any(map(str.isalpha, word)) for word in words)


@given(TEXTS)
@settings(deadline=None, max_examples=examples(600))
def test_lines_are_counted_as_one_by_one(text: str) -> None:
    found, lines = survey(text), text.splitlines()
    full = [line for line in text.split("\n") if line.strip()]
    assert found.lines == len(lines)
    assert found.bullets == sum(line.lstrip().startswith(("•", "-")) for line in lines)
    assert found.ellipses == sum(line.rstrip().endswith(("...", "…")) for line in lines)
    assert (found.full_lines, found.short) == (len(full), sum(len(line) <= 30 for line in full))


def test_lines_that_end_well() -> None:
    good = ["So it is.", "“So it is.”", "(So it is.)", "वह आया।", "そうだ。」", "དེ་རེད།", "Ποιος;\u037e", "So it is.  "]
    bad = ["So it is", "Comments (3)", "“So it is”", "and so on…", "12:30", "a,"]
    assert survey("\n".join(good)).punctuated == len(good)
    assert survey("\n".join(bad)).punctuated == 0
