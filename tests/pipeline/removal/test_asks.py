"""Which documents a request for removal names, and which are copies of these."""

from __future__ import annotations

import random

import pytest

from pipeline.removal.asks import LEAST, MOST_HASHES, Ask, Kind, Match, Removals, Signature, address_key, sign
from pipeline.tasks.documents import Document
from tests.pipeline.corpus import words

TEXT = words(1, 120)


def signed(text: str) -> Signature:
    found = sign(text)
    assert found is not None
    return found


def removals(*texts: str, address: str = "", overlap: float = 0.8) -> Removals:
    ask = Ask(kind=Kind.URL if address else Kind.FILE, address=address, texts=tuple(map(signed, texts)))
    return Removals([("it", ask)], overlap)


def shared(one: str, other: str) -> float:
    """The quantity itself: shared runs of five words by those of the shorter text."""
    left, right = ({tuple(each[at : at + 5]) for at in range(len(each) - 4)} for each in (one.split(), other.split()))
    return len(left & right) / min(len(left), len(right))


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (TEXT, "text"),
        (f"{TEXT.upper()}!".replace(" ", "\n"), "text"),
        (f"{words(2, 400)} {TEXT} {words(3, 400)}", "copy"),
        (" ".join(TEXT.split()[30:80]), "copy"),
        (words(2, 120), None),
        (f"{words(2, 300)} {' '.join(TEXT.split()[:60])}", None),
        ("", None),
        ("...", None),
        (" ".join(TEXT.split()[: LEAST + 3]), None),
    ],
)
def test_a_text_goes_where_it_stands_in_the_other_or_the_other_in_it(text: str, how: str | None) -> None:
    found = removals(TEXT).match_text(text)
    assert (found and found.how) == how


def test_the_share_is_that_of_runs_of_five_words() -> None:
    chance = random.Random(5)
    for _ in range(60):
        theirs = [word if chance.random() > 0.04 else "changed" for word in TEXT.split()]
        other = " ".join(theirs[chance.randrange(40) :])
        found = removals(TEXT, overlap=1e-9).match_text(other)
        assert found is not None
        assert found.overlap == pytest.approx(shared(TEXT, other))
        assert (removals(TEXT).match_text(other) is None) == (shared(TEXT, other) < 0.8)


def test_a_long_text_keeps_a_sample_and_its_chapters_are_found() -> None:
    chapters = [words(seed, 2000) for seed in range(20)]
    signature = signed(" ".join(chapters))
    assert signature.every > 1
    assert MOST_HASHES / 2 < len(signature.array()) < MOST_HASHES * 1.1
    book = removals(" ".join(chapters))
    assert all((found := book.match_text(chapter)) and found.how == "copy" for chapter in chapters)
    assert not any(book.match_text(words(seed, 2000)) for seed in range(100, 140))


def test_of_several_texts_the_likest_is_named() -> None:
    one, two = words(1, 100), words(2, 100)
    asks = [(name, Ask(kind=Kind.FILE, texts=(signed(text),))) for name, text in (("a", one), ("b", two))]
    found = Removals(asks, 0.5).match_text(f"{' '.join(one.split()[:70])} {two}")
    assert found == Match("b", "copy", 1.0)


@pytest.mark.parametrize(
    ("address", "page", "goes"),
    [
        ("https://www.Example.org/a/", "http://example.org/a#top", True),
        ("example.org/a", "https://example.org:443/a", True),
        ("https://example.org/a", "https://example.org/a?x=1", False),
        ("https://example.org/a", "https://example.org/A", False),
        ("https://example.org/*", "https://example.org/deep/er.html", True),
        ("https://example.org/*", "https://example.org.evil.net/", False),
        ("https://example.org/*", "", False),
        ("https://example.org:99999/", "https://example.org/", False),
    ],
)
def test_an_address_is_that_of_a_page_or_of_all_below(address: str, page: str, goes: bool) -> None:
    found = removals(address=address).match(Document(text="some", id="", metadata={"url": page}))
    assert bool(found) is goes
    assert address_key("x") == "x"


def test_a_request_holds_no_text_and_equal_ones_have_one_name() -> None:
    ask = Ask(kind=Kind.ID, texts=(signed(TEXT),))
    assert not set(TEXT.split()) & set(ask.model_dump_json().split('"'))
    assert ask.name == Ask.model_validate_json(ask.model_dump_json()).name
    assert ask.name != Ask(kind=Kind.ID, texts=(signed(words(2, 50)),)).name
    assert not Removals([], 0.8)
    assert Removals([], 0.8).match(Document(text=TEXT, id="", metadata={})) is None
