"""Calls told from text, however the text is cut, and tools put into a conversation."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.serving.tools import CallSplitter
from model.generation.reasoning import ReasoningSplitter
from pipeline.tokens.messages import Call, Turn
from pipeline.tokens.tools import CallStyle, Tool, as_text

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
PIECES = st.sampled_from(
    ["<tool_call>", "</tool_call>", '{"name": "f", "arguments": {}}', "<", "tool", "a ", "\n", CALL]
)


def split(text: str, cuts: list[int], many: bool = True, style: CallStyle = CallStyle.TAGGED) -> tuple[str, list[str]]:
    splitter = CallSplitter(frozenset({"f"}), many, style)
    said, place = "", 0
    for cut in [*sorted(cuts), len(text)]:
        said += splitter.feed(text[place:cut])[0]
        place = max(place, cut)
    said += splitter.end()[0]
    return said, [call["function"]["arguments"] for call in splitter.calls]


@given(st.lists(PIECES, max_size=8), st.data())
def test_a_stream_cut_anywhere_is_split_as_the_whole(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    assert split(text, cuts) == split(text, [])


def test_blanks_behind_a_call_belong_to_it_whenever_they_come() -> None:
    text = f"so {CALL}\n \nthen"
    assert all(split(text, list(range(cut, len(text)))) == ("so then", ['{"a": 1}']) for cut in range(len(text)))


@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        ("no call", "no call", []),
        (f"so {CALL}", "so ", ['{"a": 1}']),
        (f"{CALL}\n{CALL}", "", ['{"a": 1}'] * 2),
        ("<tool_call>no JSON</tool_call>!", "<tool_call>no JSON</tool_call>!", []),
        (CALL.replace('"f"', '"g"'), CALL.replace('"f"', '"g"'), []),
        ("<tool_call>[1]</tool_call>", "<tool_call>[1]</tool_call>", []),
        ("<tool_call>{cut", "<tool_call>{cut", []),
    ],
)
def test_what_only_looks_like_a_call_stays_text(text: str, said: str, calls: list[str]) -> None:
    assert split(text, []) == (said, calls)
    if len(calls) == 2:
        assert split(text, [], many=False) == ("", calls[:1])


BARE = '{"name": "f", "parameters": {"a": 1}}'
LIST = '[{"name": "f", "arguments": {"a": 1}, "id": "000000000"}]'


@pytest.mark.parametrize(
    ("style", "text", "said", "calls"),
    [
        (CallStyle.BARE, BARE, "", ['{"a": 1}']),
        (CallStyle.BARE, f" {BARE}; {BARE}", "", ['{"a": 1}'] * 2),
        (CallStyle.BARE, f"so {BARE}", f"so {BARE}", []),
        (CallStyle.BARE, BARE.replace('"f"', '"g"'), BARE.replace('"f"', '"g"'), []),
        (CallStyle.BARE, f"{BARE} so", f"{BARE} so", []),
        (CallStyle.BARE, '{"a": 1', '{"a": 1', []),
        (CallStyle.LISTED, LIST, "", ['{"a": 1}']),
        (CallStyle.LISTED, f"[TOOL_CALLS] {LIST}", "", ['{"a": 1}']),
        (CallStyle.LISTED, "[1] says so", "[1] says so", []),
        (CallStyle.LISTED, "no", "no", []),
    ],
)
def test_calls_without_tags(style: CallStyle, text: str, said: str, calls: list[str]) -> None:
    for cuts in ([], list(range(len(text)))):
        assert split(text, cuts, style=style) == (said, calls)


def test_tools_stand_in_the_system_text_and_answers_with_the_user() -> None:
    turns = [
        Turn("developer", "Be brief."),
        Turn("user", "?"),
        Turn("assistant", "so", calls=(Call("f", '{"a":1}'),)),
        Turn("tool", "1"),
        Turn("tool", "2"),
    ]
    found = as_text(turns, [Tool("f", {"type": "object"}, "It \u00e9 does.")])
    assert [turn.role for turn in found] == ["system", "user", "assistant", "user"]
    assert found[0].content.startswith("Be brief.\n\n")
    line = next(line for line in found[0].content.splitlines() if line.startswith('{"type"'))
    assert json.loads(line)["function"]["name"] == "f"
    assert found[2].content == f"so\n{CALL}"
    assert found[-1].content == "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"
    assert as_text(turns[1:2], [])[0] == turns[1]


def test_an_answer_that_goes_on_is_all_answer() -> None:
    splitter = ReasoningSplitter(goes_on=True)
    assert splitter.feed(" world").content == " world"


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("<think>a</think>b", "a", "b"),
        (" \n<think>a</think>b", "a", "b"),
        ("b</think>c", "", "b</think>c"),
        ("<b>x</b>", "", "<b>x</b>"),
        ("<thin", "", "<thin"),
    ],
)
def test_who_knows_the_prompt_need_not_wait(text: str, reasoning: str, content: str) -> None:
    for size in (1, 3, len(text)):
        splitter = ReasoningSplitter(waits=False)
        pieces = [splitter.feed(text[place : place + size]) for place in range(0, len(text), size)]
        pieces.append(splitter.end())
        assert "".join(piece.reasoning for piece in pieces) == reasoning
        assert "".join(piece.content for piece in pieces) == content
    splitter = ReasoningSplitter(waits=False)
    assert splitter.feed("plain").content == "plain"  # at once, not at the end
