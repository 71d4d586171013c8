from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.tasks.verbatim import note_verbatim, outside, places_of, verbatim_of


@given(st.lists(st.text("ab\n", max_size=5), max_size=8))
def test_all_but_verbatim_text_is_changed(parts: list[str]) -> None:
    text, at, spans = "".join(parts), 0, []
    for number, part in enumerate(parts):
        if number % 2 and part:
            spans.append((at, at + len(part)))
        at += len(part)
    changed, moved = outside(text, spans, lambda piece: piece.replace("a", "xyz").replace("b", ""))
    assert [changed[begin:end] for begin, end in moved] == [text[begin:end] for begin, end in spans]
    expected = [part if number % 2 else part.replace("a", "xyz").replace("b", "") for number, part in enumerate(parts)]
    assert changed == "".join(expected)


def test_parts_are_found_in_their_order() -> None:
    text = "one two one three"
    assert [text[a:b] for a, b in places_of(text, ["one", "absent", "one", "", "three"])] == ["one", "one", "three"]


def test_metadata_holds_spans_only_where_there_are_any() -> None:
    metadata: dict[str, object] = {"title": "t"}
    note_verbatim(metadata, [(3, 3), (4, 9)])
    assert metadata == {"title": "t", "verbatim": [[4, 9]]}
    assert verbatim_of(metadata) == [(4, 9)]
    note_verbatim(metadata, [])
    assert metadata == {"title": "t"}
