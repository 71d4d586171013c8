"""Endings found in a text that streams in, however it is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.serving.stops import StopCutter

TEXTS = st.text("abc", max_size=30)


@given(TEXTS, st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_a_stream_ends_where_the_whole_text_would(text: str, endings: list[str], data: st.DataObject) -> None:
    places = [(text.find(ending) + len(ending), text.find(ending)) for ending in endings if ending in text]
    wanted = text[: min(places)[1]] if places else text
    cutter, said, left = StopCutter(endings), "", text
    while left:
        size = data.draw(st.integers(1, len(left)))
        said, left = said + cutter.feed(left[:size]), left[size:]
        assert wanted.startswith(said)
    assert cutter.found == bool(places)
    assert said + cutter.end() == wanted


def test_nothing_is_held_without_endings() -> None:
    assert StopCutter(()).feed("abc") == "abc"
