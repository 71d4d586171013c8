from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import xxhash
from datatrove.utils.text import ngrams, simplify_text
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup.section import FOLDINGS
from pipeline.dedup.shingles import fold_of, folded_words, shingles
from pipeline.sections import Profile
from pipeline.text.characters import HARD, simplified
from pipeline.text.folding import FINEWEB, Fold, fold
from pipeline.text.kernels import xxh64
from pipeline.text.words import WORDS
from tests.examples import examples

TRICKY = st.text(
    alphabet="aZ09 .,*/+=<\u00ad\u200bａ１－ﬁ½①´'’-·٫٣１%"
    "\t\n\u0301\u0345ΣσİßǅéÅ한각\u1160日本กำฯमि०\U0001d15e\u302e\u00a0\u2028\x1c\x85😀\ud800"
)
TEXT = fold_of(FOLDINGS[Profile.PROSE])
INHABITED = (0, 1, 2, 3, 14, 15)
"""Planes with characters; 16 is for private use as 15 is."""
VARIED = {0: 5, 1: 5, 14: 3}
"""Planes in which ways of folding differ, and how many of `WAYS` are tried by day: marks and tags alone need three."""
WAYS = (FINEWEB, TEXT, Fold(), Fold(numbers=True, width=True), Fold(punctuation=True, case=True))


@given(st.text() | TRICKY)
@settings(deadline=None, max_examples=examples(300))
def test_words_are_the_splitters_of_the_folded_text(text: str) -> None:
    assert fold(text, FINEWEB) == simplify_text(text)
    for how in WAYS:
        joined, ends = folded_words(text, how)
        _holds(joined, ends, WORDS.word_tokenize(text if how == Fold() else fold(text, how)))


def _holds(joined: np.ndarray, ends: np.ndarray, expected: list[str]) -> None:
    assert bytes(joined) == " ".join(expected).encode(errors="surrogatepass")
    begins = [0, *(ends[:-1] + 1).tolist()]
    assert [bytes(joined[a:b]).decode(errors="surrogatepass") for a, b in zip(begins, ends, strict=False)] == expected


def _planes() -> Iterator[Any]:
    """Each plane with each way, of which each first makes a table of the whole plane: by day some."""
    for plane in range(17):
        for number, how in enumerate(WAYS):
            by_day = number < VARIED.get(plane, 0) or (how == FINEWEB and plane in (*INHABITED, 16))
            yield pytest.param(plane, how, marks=() if by_day else pytest.mark.nightly)


@pytest.mark.parametrize(("plane", "how"), [*_planes()])
def test_every_character_between_letters(plane: int, how: Fold) -> None:
    everything = [chr(code) for code in range(plane << 16, plane + 1 << 16, 1 if plane in INHABITED else 31)]
    easy = [character for character in everything if simplified(character, how)[0] != HARD]
    most = 5000 if how.width and how.numbers else 700 if how.width else 40
    assert len(everything) - len(easy) <= most  # these take the slow way, and with them the whole text
    text = " ".join(f"a{character}b {character}" for character in easy)
    joined, _ = folded_words(text, how)
    assert bytes(joined) == " ".join(WORDS.word_tokenize(fold(text, how))).encode(errors="surrogatepass")


def test_another_normalisation_is_followed() -> None:
    joined, _ = folded_words("Crème 12, brûlée", Fold(punctuation=True, operators=True, numbers=True))
    assert bytes(joined).decode() == "Crème 0 brûlée"


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_hash_is_xxh64(data: bytes) -> None:
    array = np.frombuffer(data, dtype=np.uint8)
    for begin in range(min(3, len(data) + 1)):
        assert int(xxh64(array, begin, len(data))) == xxhash.xxh64_intdigest(data[begin:])


@given(st.lists(st.sampled_from(["a", "bc", "日", "é" * 20]), max_size=20), st.integers(1, 6))
@settings(deadline=None)
def test_shingles_are_datatroves(words: list[str], n: int) -> None:
    text = " ".join(words)
    expected = [xxhash.xxh64_intdigest(" ".join(gram)) for gram in ngrams(WORDS.word_tokenize(simplify_text(text)), n)]
    assert shingles(folded_words(text, FINEWEB), n).tolist() == expected
