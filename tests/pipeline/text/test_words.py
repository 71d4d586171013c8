from __future__ import annotations

import pickle

import pytest
import regex
from datatrove.utils.text import split_into_words
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text.alphabet import SPACE, WORD
from pipeline.text.words import WORDS
from tests.examples import examples

PLANES = [
    plane if plane in (0, 1, 2, 3, 14, 15) else pytest.param(plane, marks=pytest.mark.nightly) for plane in range(17)
]
"""By day those that have characters, and one for private use; the others' characters are all of one kind."""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, Mr. Holmes!", ["Don't", "stop", ",", "Mr", ".", "Holmes", "!"]),
        ("f(x) == 3.5...", ["f", "(", "x", ")", "==", "3.5", "..."]),
        ("日本語 text", ["日", "本", "語", "text"]),
        ("naïve Привет", ["naïve", "Привет"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा", "।"]),
        ("বাংলা ভাষা, தமிழ் மொழி", ["বাংলা", "ভাষা", ",", "தமிழ்", "மொழி"]),
        ("می‌خواهم ක්‍රීඩා", ["می‌خواهم", "ක්‍රීඩා"]),
        ("ទឹក\u200bនៅ မြန်မာ ไทยนี้", ["ទឹ", "ក", "នៅ", "မြ", "န်", "မာ", "ไ", "ท", "ย", "นี้"]),
        ("བོད་ཡིག། ሰላም፡ለዓለም።", ["བོད", "ཡིག", "།", "ሰላም", "ለዓለም", "።"]),
        ("col·laborar Ինչո՞ւ צה״ל Jahr\xadhundert", ["col·laborar", "Ինչո՞ւ", "צה״ל", "Jahr\xadhundert"]),
        ("ok ❤️ 👩‍💻", ["ok", "❤️", "👩‍💻"]),
        ("  \n", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert WORDS.word_tokenize(text) == words
    assert split_into_words(text, WORDS) == words


TRICKY = st.text(
    alphabet="aZ09_ .'’·-٣\t\n\u0301é한日本々กำั་།क्षि्\u094d\u200c\u200d\u200b\xad\ufeff\u2028\x1c😀\ufe0f\ud800՞ל״ខ្ញុំ๚အိ"
)


@given(st.text() | TRICKY)
@settings(deadline=None, max_examples=examples(500))
def test_words_are_the_patterns(text: str) -> None:
    assert WORDS.word_tokenize(text) == WORD.findall(text)


@given(st.text() | TRICKY)
@settings(deadline=None)
def test_words_lose_only_what_is_not_seen(text: str) -> None:
    unseen = regex.compile(rf"{SPACE}|\p{{Cf}}", regex.VERSION1)
    assert unseen.sub("", "".join(WORDS.word_tokenize(text))) == unseen.sub("", text)


@pytest.mark.parametrize("plane", PLANES)
def test_every_character_is_what_its_pattern_says(plane: int) -> None:
    everything = [chr(code) for code in range(plane << 16, plane + 1 << 16)]
    text = "".join(f"a{character}b {character}" for character in everything)
    assert WORDS.word_tokenize(text) == WORD.findall(text)
    space = [character for character in everything if character.isspace()]
    assert not any(WORDS.word_tokenize(character) for character in space)


@given(st.text(alphabet='ab .!?\n"。'))
def test_sentences_cover_the_text(text: str) -> None:
    assert "".join(text[a:b] for a, b in WORDS.span_tokenize(text)) == text


def test_sentences() -> None:
    text = 'He left. "Why?" she asked.\nPi is 3.14 here! 終わり。次'
    assert WORDS.sent_tokenize(text) == ["He left.", '"Why?"', "she asked.", "Pi is 3.14 here!", "終わり。", "次"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("वह आया। मैं गया॥", ["वह आया।", "मैं गया॥"]),
        ("ខ្ញុំទៅ។អ្នកមក៕", ["ខ្ញុំទៅ។", "អ្នកមក៕"]),
        ("သူလာ၊ ငါသွား။ ပြီးပြီ။", ["သူလာ၊ ငါသွား။", "ပြီးပြီ။"]),
        ("བོད་ཡིག།  ཡིན།", ["བོད་ཡིག།", "ཡིན།"]),
        ("ሰላም ነው። እሺ፧", ["ሰላም ነው።", "እሺ፧"]),
        ("Նա եկավ։ Ես գնացի։", ["Նա եկավ։", "Ես գնացի։"]),
        ("وہ آیا۔ کیا وہ گیا؟ ہاں", ["وہ آیا۔", "کیا وہ گیا؟", "ہاں"]),
        ("「行く。」と言った！！終わり？", ["「行く。」", "と言った！！", "終わり？"]),
        ("ฉันไป เขามา", ["ฉันไป", "เขามา"]),
        ("Ποιος είναι\u037e Εγώ.", ["Ποιος είναι\u037e", "Εγώ."]),
        ("Er ging …  Sie kam. (Oder?) Ja", ["Er ging …", "Sie kam.", "(Oder?)", "Ja"]),
    ],
)
def test_sentences_of_other_scripts(text: str, sentences: list[str]) -> None:
    assert WORDS.sent_tokenize(text) == sentences


def test_copies_are_equal_so_that_caches_work_in_workers() -> None:
    assert pickle.loads(pickle.dumps(WORDS)) == WORDS
    assert hash(pickle.loads(pickle.dumps(WORDS))) == hash(WORDS)
