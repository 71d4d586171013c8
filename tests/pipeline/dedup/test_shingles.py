from __future__ import annotations

import numpy as np
import pytest
import xxhash
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.text import TextNormConfig, ngrams, simplify_text
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup.shingles import shingles, simplified_words, simplify
from pipeline.text.characters import HARD, _simplified
from pipeline.text.kernels import xxh64
from pipeline.text.words import WORDS

TRICKY = st.text(
    alphabet="aZ09 .,'’-·٫٣１%\t\n\u0301\u0345ΣσİßǅéÅ한각\u1160日本กำฯमि०\U0001d15e\u302e\u00a0\u2028\x1c\x85😀\ud800"
)
PLAIN = MinhashConfig()


@given(st.text() | TRICKY)
@settings(deadline=None, max_examples=300)
def test_words_are_the_splitters_of_the_simplified_text(text: str) -> None:
    assert simplify(text, PLAIN) == simplify_text(text)
    joined, ends = simplified_words(text, PLAIN)
    expected = WORDS.word_tokenize(simplify_text(text))
    assert bytes(joined) == " ".join(expected).encode(errors="surrogatepass")
    begins = [0, *(ends[:-1] + 1).tolist()]
    assert [bytes(joined[a:b]).decode(errors="surrogatepass") for a, b in zip(begins, ends, strict=False)] == expected


@pytest.mark.parametrize("plane", range(17))
def test_every_character_between_letters(plane: int) -> None:
    everything = [chr(code) for code in range(plane << 16, plane + 1 << 16)]
    easy = [character for character in everything if _simplified(character)[0] != HARD]
    assert len(everything) - len(easy) <= 40  # these take the slow way, and with them the whole text
    text = " ".join(f"a{character}b {character}" for character in easy)
    joined, _ = simplified_words(text, PLAIN)
    assert bytes(joined) == " ".join(WORDS.word_tokenize(simplify_text(text))).encode(errors="surrogatepass")


def test_another_normalisation_is_followed() -> None:
    config = MinhashConfig(norm_config=TextNormConfig(lowercase=False, norm_unicode_diacritics=False))
    joined, _ = simplified_words("Crème 12, brûlée", config)
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
    assert shingles(simplified_words(text, PLAIN), n).tolist() == expected
