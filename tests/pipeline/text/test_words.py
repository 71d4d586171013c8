from __future__ import annotations

import pickle

import pytest
from datatrove.utils.text import split_into_words
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.words import WORDS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, Mr. Holmes!", ["Don't", "stop", ",", "Mr", ".", "Holmes", "!"]),
        ("f(x) == 3.5...", ["f", "(", "x", ")", "==", "3.5", "..."]),
        ("日本語 text", ["日", "本", "語", "text"]),
        ("naïve Привет", ["naïve", "Привет"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा", "।"]),
        ("  \n", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert WORDS.word_tokenize(text) == words
    assert split_into_words(text, WORDS) == words


@given(st.text())
def test_words_lose_only_space(text: str) -> None:
    assert "".join(WORDS.word_tokenize(text)) == "".join(text.split())


@given(st.text(alphabet='ab .!?\n"。'))
def test_sentences_cover_the_text(text: str) -> None:
    assert "".join(text[a:b] for a, b in WORDS.span_tokenize(text)) == text


def test_sentences() -> None:
    text = 'He left. "Why?" she asked.\nPi is 3.14 here! 終わり。次'
    assert WORDS.sent_tokenize(text) == ["He left.", '"Why?"', "she asked.", "Pi is 3.14 here!", "終わり。", "次"]


def test_copies_are_equal_so_that_caches_work_in_workers() -> None:
    assert pickle.loads(pickle.dumps(WORDS)) == WORDS
    assert hash(pickle.loads(pickle.dumps(WORDS))) == hash(WORDS)
