"""Reasoning told from answers in a stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.generation.reasoning import Piece, ReasoningSplitter, split_reasoning

PIECES = st.sampled_from(["<think>", "</think>", "<", "think>", "</", " ", "\n", "a", "4 + 4", "é", ">", "</thin"])


@given(st.lists(PIECES, max_size=14), st.data())
def test_a_stream_cut_anywhere_is_split_as_the_whole(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    splitter, found = ReasoningSplitter(), Piece()
    while text:
        size = data.draw(st.integers(1, len(text)))
        piece = splitter.feed(text[:size])
        text = text[size:]
        found = Piece(found.reasoning + piece.reasoning, found.content + piece.content)
    piece = splitter.end()
    assert (found.reasoning + piece.reasoning, found.content + piece.content) == split_reasoning("".join(parts))


def test_what_is_sure_is_told_at_once() -> None:
    splitter = ReasoningSplitter()
    assert splitter.feed("<think>so") == Piece(reasoning="so")
    assert splitter.feed(" far</thi") == Piece(reasoning=" far")
    assert splitter.feed("nk> 1") == Piece(content="1")
    assert splitter.feed("2") == Piece(content="2")
